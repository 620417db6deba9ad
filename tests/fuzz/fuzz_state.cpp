// The control process's own state from the disk, as text: what is read is written and read again as the same.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "control/app/state_store.h"

namespace {

using namespace detour;

void require(bool condition) {
    if (!condition) std::abort();
}

/// As a file on disk: with the checksum (state_text.cpp), which no fuzzer would find.
std::string whole(std::string_view lines) {
    std::string text = "detour-state 1\n" + std::string(lines);
    if (!text.ends_with('\n')) text += '\n';
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    char digits[17];
    (void)std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
    return text + "checksum " + digits + "\n";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    (void)app::decode_state(text);
    const auto state = app::decode_state(whole(text));
    if (!state) {
        require(!state.error().what.empty());
        return 0;
    }
    const auto again = app::decode_state(app::encode(*state));
    require(again.has_value() && *again == *state);
    return 0;
}
