// For targets that read what is kept on disk as text (control/app/state_text.h).
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace detour::fuzz {

inline void require(bool condition) {
    if (!condition) std::abort();
}

/// As a file on disk: with the first line and the checksum (state_text.cpp), which no fuzzer would find.
inline std::string stored(std::string_view kind, std::string_view lines) {
    std::string text = std::string(kind) + " 1\n" + std::string(lines);
    if (!text.ends_with('\n')) text += '\n';
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    char digits[17];
    (void)std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
    return text + "checksum " + digits + "\n";
}

}  // namespace detour::fuzz
