// Big-endian loads and stores at any address. Pure functions.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace detour::core {

template <class T>
[[nodiscard]] inline T load(const std::uint8_t* at) noexcept {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}
template <class T>
inline void store(std::uint8_t* at, T value) noexcept {
    std::memcpy(at, &value, sizeof value);
}

[[nodiscard]] constexpr std::uint16_t swap16(std::uint16_t x) noexcept {
    // By way of 32 bits: GCC 12 turns the 16-bit form into a store and a load with movbe.
    return static_cast<std::uint16_t>(__builtin_bswap32(x) >> 16U);
}
[[nodiscard]] constexpr std::uint32_t swap32(std::uint32_t x) noexcept {
    return __builtin_bswap32(x);
}

[[nodiscard]] inline std::uint16_t load_be16(const std::uint8_t* at) noexcept {
    return swap16(load<std::uint16_t>(at));
}
[[nodiscard]] inline std::uint32_t load_be32(const std::uint8_t* at) noexcept {
    return swap32(load<std::uint32_t>(at));
}
inline void store_be16(std::uint8_t* at, std::uint16_t value) noexcept {
    store(at, swap16(value));
}
inline void store_be32(std::uint8_t* at, std::uint32_t value) noexcept {
    store(at, swap32(value));
}

}  // namespace detour::core
