// The keyed flow hash and the small mixers that the tables share.
//
// AES rounds keyed by the fleet seed: non-linear in the key, so that nobody without the seed can build
// collisions (a CRC or Toeplitz hash is linear and can be solved). Deterministic on every host. Pure
// functions, any thread. Bits of a flow hash: 0-11 slot, 12-27 fraction, 32-63 backend; the flow table's
// first bucket takes bits from 28 up.
#pragma once

#include <immintrin.h>

#include <array>
#include <cstdint>
#include <string_view>

#include "dataplane/api/types.h"

namespace detour::core {

struct AesKey {
    __m128i value{};
};

struct HashSeed {
    std::array<AesKey, 4> keys{};
    std::uint64_t table = 0;  ///< seeds site and Maglev tables
};

[[nodiscard]] HashSeed make_hash_seed(const api::FleetSeed& seed) noexcept;

/// A 64-bit finalizer (splitmix64): every output bit depends on every input bit.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) noexcept {
    x ^= x >> 30U;
    x *= 0xbf58476d1ce4e5b9ULL;
    x ^= x >> 27U;
    x *= 0x94d049bb133111ebULL;
    x ^= x >> 31U;
    return x;
}

/// Keyed hash of text (names, keys), for table building only.
[[nodiscard]] std::uint64_t hash_text(std::uint64_t seed, std::string_view text) noexcept;

/// Addresses as read from the packet (network order in memory), ports likewise.
[[nodiscard]] inline std::uint64_t hash_v4(const HashSeed& seed, std::uint32_t source,
                                           std::uint32_t destination, std::uint32_t ports,
                                           std::uint8_t protocol) noexcept {
    const auto addresses = static_cast<std::uint64_t>(destination) << 32U | source;
    __m128i x = _mm_cvtsi64_si128(static_cast<long long>(addresses));
    x = _mm_insert_epi64(x, static_cast<long long>(static_cast<std::uint64_t>(protocol) << 32U | ports), 1);
    x = _mm_xor_si128(x, seed.keys[0].value);
    x = _mm_aesenc_si128(x, seed.keys[1].value);
    x = _mm_aesenc_si128(x, seed.keys[2].value);
    x = _mm_aesenc_si128(x, seed.keys[3].value);
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(x));
}

/// `source` and `destination` point at 16 bytes each.
[[nodiscard]] inline std::uint64_t hash_v6(const HashSeed& seed, const std::uint8_t* source,
                                           const std::uint8_t* destination, std::uint32_t ports,
                                           std::uint8_t protocol) noexcept {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(destination));
    __m128i x = _mm_xor_si128(a, seed.keys[0].value);
    x = _mm_aesenc_si128(x, seed.keys[1].value);
    x = _mm_aesenc_si128(x, seed.keys[2].value);
    x = _mm_xor_si128(x, b);
    x = _mm_aesenc_si128(x, seed.keys[3].value);
    x = _mm_aesenc_si128(x, seed.keys[0].value);
    x = _mm_xor_si128(x, _mm_set_epi32(0, 0, static_cast<int>(protocol), static_cast<int>(ports)));
    x = _mm_aesenc_si128(x, seed.keys[1].value);
    x = _mm_aesenc_si128(x, seed.keys[2].value);
    x = _mm_aesenc_si128(x, seed.keys[3].value);
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(x));
}

/// What chooses site and backend: the hash of the pool's key. `flow_hash` is hash_v4() of the whole 5-tuple.
[[nodiscard]] inline std::uint64_t choice_hash_v4(const HashSeed& seed, api::HashKey key,
                                                  std::uint64_t flow_hash, std::uint32_t source) noexcept {
    return key == api::HashKey::kSource ? hash_v4(seed, source, 0, 0, 0) : flow_hash;
}
[[nodiscard]] inline std::uint64_t choice_hash_v6(const HashSeed& seed, api::HashKey key,
                                                  std::uint64_t flow_hash,
                                                  const std::uint8_t* source) noexcept {
    static constexpr std::array<std::uint8_t, 16> kAny{};
    return key == api::HashKey::kSource ? hash_v6(seed, source, kAny.data(), 0, 0) : flow_hash;
}

[[nodiscard]] constexpr std::uint32_t slot_of(std::uint64_t hash) noexcept {
    return static_cast<std::uint32_t>(hash & (4096U - 1));
}

/// 0 … 65534, different for each site: a flow that one ramping site refuses is not refused by all.
/// Every step permutes the 16 bits that come from `hash`, so an `admit` of 1 % takes 1 % of them and not a
/// random number near it.
[[nodiscard]] constexpr std::uint16_t fraction(std::uint64_t hash, std::uint64_t site_key) noexcept {
    const auto part = [site_key](unsigned i) {
        return static_cast<std::uint32_t>(site_key >> (16 * i) & 0xffffU);
    };
    std::uint32_t x = static_cast<std::uint32_t>(hash >> 12U & 0xffffU) ^ part(0);
    x = x * (part(1) | 1U) & 0xffffU;
    x ^= x >> 8U;
    x = (x + part(2)) * (part(3) | 1U) & 0xffffU;
    x ^= x >> 7U;
    x = x * 0x2c1dU & 0xffffU;
    x ^= x >> 9U;
    return static_cast<std::uint16_t>(x * 65535U >> 16U);
}

}  // namespace detour::core
