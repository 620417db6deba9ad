#include "dataplane/core/hash.h"

#include <array>
#include <cstring>

namespace detour::core {
namespace {

/// Fractional bits of pi: round constants that hide nothing.
constexpr std::array<std::uint64_t, 10> kPi{
    0x243f6a8885a308d3ULL, 0x13198a2e03707344ULL, 0xa4093822299f31d0ULL, 0x082efa98ec4e6c89ULL,
    0x452821e638d01377ULL, 0xbe5466cf34e90c6cULL, 0xc0ac29b7c97c50ddULL, 0x3f84d5b5b5470917ULL,
    0x9216d5d98979fb1bULL, 0xd1310ba698dfb5acULL};

[[nodiscard]] __m128i constant(std::size_t i) noexcept {
    return _mm_set_epi64x(static_cast<long long>(kPi[2 * i]), static_cast<long long>(kPi[2 * i + 1]));
}

/// One independent key per index: six AES rounds keyed by the seed over a constant.
[[nodiscard]] __m128i derive(__m128i seed, std::size_t i) noexcept {
    __m128i x = _mm_xor_si128(constant(i), seed);
    for (std::size_t round = 0; round < 3; ++round) {
        x = _mm_aesenc_si128(x, seed);
        x = _mm_aesenc_si128(x, constant((i + round + 1) % 5));
    }
    return _mm_xor_si128(x, constant(i));
}

}  // namespace

HashSeed make_hash_seed(const api::FleetSeed& seed) noexcept {
    HashSeed result;
    const __m128i key = _mm_loadu_si128(reinterpret_cast<const __m128i*>(seed.bytes.data()));
    for (std::size_t i = 0; i < result.keys.size(); ++i) result.keys[i].value = derive(key, i);
    result.table = static_cast<std::uint64_t>(_mm_cvtsi128_si64(derive(key, result.keys.size())));
    return result;
}

std::uint64_t hash_text(std::uint64_t seed, std::string_view text) noexcept {
    std::uint64_t state = mix64(seed ^ kPi[0]) ^ mix64(text.size() + kPi[1]);
    while (!text.empty()) {
        std::uint64_t word = 0;
        const std::size_t n = text.size() < sizeof(word) ? text.size() : sizeof(word);
        std::memcpy(&word, text.data(), n);
        state = mix64((state ^ word) * 0x9e3779b97f4a7c15ULL + kPi[2]);
        text.remove_prefix(n);
    }
    return mix64(state ^ kPi[3]);
}

}  // namespace detour::core
