// The intents of operators as text, from the disk or from another PoP: what is read is written and read again
// as the same, and merging it with itself changes nothing.
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
    std::string text = "detour-intents 1\n" + std::string(lines);
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
    (void)app::decode_intents(text);
    const auto intents = app::decode_intents(whole(text));
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
