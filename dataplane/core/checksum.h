// The Internet checksum (RFC 1071), in the forms the fast path needs. Pure functions.
//
// Sums are of 16-bit words as they lie in memory: byte order cancels out, and a result is stored as it is.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace detour::core {

/// Adds `length` bytes (any parity) to a running sum.
[[nodiscard]] inline std::uint64_t checksum_add(std::uint64_t sum, const std::uint8_t* bytes,
                                                std::size_t length) noexcept {
    while (length >= 4) {
        std::uint32_t word = 0;
        std::memcpy(&word, bytes, 4);
        sum += word;
        bytes += 4;
        length -= 4;
    }
    if (length >= 2) {
        std::uint16_t word = 0;
        std::memcpy(&word, bytes, 2);
        sum += word;
        bytes += 2;
        length -= 2;
    }
    if (length == 1) sum += *bytes;
    return sum;
}

/// The sum of a number's halves, carry included, is the upper half of the number plus itself with its halves
/// exchanged.
[[nodiscard]] constexpr std::uint16_t checksum_fold(std::uint64_t sum) noexcept {
    const auto word = static_cast<std::uint32_t>((sum + std::rotl(sum, 32)) >> 32U);
    return static_cast<std::uint16_t>((word + std::rotl(word, 16)) >> 16U);
}
/// For the sum of a few 16-bit words.
[[nodiscard]] constexpr std::uint16_t checksum_fold_few(std::uint32_t sum) noexcept {
    return static_cast<std::uint16_t>((sum + std::rotl(sum, 16)) >> 16U);
}

/// The value to store in a checksum field.
[[nodiscard]] inline std::uint16_t checksum(const std::uint8_t* bytes, std::size_t length) noexcept {
    return static_cast<std::uint16_t>(~checksum_fold(checksum_add(0, bytes, length)));
}

}  // namespace detour::core
