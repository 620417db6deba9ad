// The intents of operators as text, from the disk or from another PoP: what is read is written and read again
// as the same, and merging it with itself changes nothing.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "control/app/state_store.h"
#include "tests/fuzz/stored_text.h"

using namespace detour;
using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    (void)app::decode_intents(text);
    const auto intents = app::decode_intents(fuzz::stored("detour-intents", text));
    if (!intents) {
        require(!intents.error().what.empty());
        return 0;
    }
    require(intents->size() <= failover::kMaxIntents);
    const auto again = app::decode_intents(app::encode(*intents));
    require(again.has_value() && *again == *intents);
    const failover::Intents merged = failover::merge({}, *intents, {});
    require(failover::merge(merged, merged, {}) == merged);
    require(merged.size() <= intents->size());
    return 0;
}
