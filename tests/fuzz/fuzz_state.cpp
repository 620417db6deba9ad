// The control process's own state from the disk, as text: what is read is written and read again as the same.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "control/app/state_store.h"
#include "tests/fuzz/stored_text.h"

using namespace detour;
using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    (void)app::decode_state(text);
    const auto state = app::decode_state(fuzz::stored("detour-state", text));
    if (!state) {
        require(!state.error().what.empty());
        return 0;
    }
    const auto again = app::decode_state(app::encode(*state));
    require(again.has_value() && *again == *state);
    return 0;
}
