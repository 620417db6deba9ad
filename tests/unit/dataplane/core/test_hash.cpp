// The flow hash and fraction(): keyed, non-linear, even.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "dataplane/core/hash.h"
#include "tests/support/random_seed.h"

using namespace detour;

namespace {

core::HashSeed seed_of(const char* text) {
    return core::make_hash_seed(api::FleetSeed::from_text(text));
}

/// The input of a hash as bytes, so that bits can be flipped anywhere.
using Input = std::array<std::uint8_t, 37>;

std::uint32_t word(const Input& in, std::size_t at) {
    return static_cast<std::uint32_t>(in[at]) | static_cast<std::uint32_t>(in[at + 1]) << 8U |
           static_cast<std::uint32_t>(in[at + 2]) << 16U | static_cast<std::uint32_t>(in[at + 3]) << 24U;
}

std::uint64_t hash_v4(const core::HashSeed& seed, const Input& in) {
    return core::hash_v4(seed, word(in, 0), word(in, 4), word(in, 8), in[12]);
}

std::uint64_t hash_v6(const core::HashSeed& seed, const Input& in) {
    return core::hash_v6(seed, in.data(), in.data() + 16, word(in, 32), in[36]);
}

struct Family {
    const char* name;
    std::size_t bytes;
    std::uint64_t (*hash)(const core::HashSeed&, const Input&);
};
constexpr std::array<Family, 2> kFamilies{{{"v4", 13, hash_v4}, {"v6", 37, hash_v6}}};

Input random_input(std::mt19937_64& random) {
    Input in{};
    for (std::uint8_t& byte : in) byte = static_cast<std::uint8_t>(random());
    return in;
}

/// Pearson's statistic of `counts` against an even distribution.
double chi_square(const std::vector<std::uint32_t>& counts) {
    double total = 0;
    for (const std::uint32_t n : counts) total += n;
    const double expected = total / static_cast<double>(counts.size());
    double chi = 0;
    for (const std::uint32_t n : counts) chi += (n - expected) * (n - expected) / expected;
    return chi;
}

/// Seven standard deviations above the mean of a chi-square with that many cells: never by chance.
double chi_limit(std::size_t cells) {
    const auto freedom = static_cast<double>(cells - 1);
    return freedom + 7 * std::sqrt(2 * freedom);
}

}  // namespace

TEST_CASE("every bit of the fleet seed changes the keys, the table seed and the hashes") {
    const api::FleetSeed base = api::FleetSeed::from_text("one fleet");
    std::mt19937_64 random(support::random_seed());
    const Input in = random_input(random);
    std::set<std::uint64_t> tables;
    std::set<std::uint64_t> hashes;
    for (unsigned bit = 0; bit < 128; ++bit) {
        api::FleetSeed other = base;
        other.bytes[bit / 8] = static_cast<std::uint8_t>(other.bytes[bit / 8] ^ 1U << bit % 8);
        const core::HashSeed seed = core::make_hash_seed(other);
        tables.insert(seed.table);
        hashes.insert(hash_v4(seed, in));
        hashes.insert(hash_v6(seed, in));
    }
    CHECK(tables.size() == 128);
    CHECK(hashes.size() == 256);
}

TEST_CASE("each input bit flips about half of the output bits, in each output bit") {
    const core::HashSeed seed = seed_of("avalanche");
    std::mt19937_64 random(support::random_seed());
    constexpr int kRounds = 2000;
    for (const Family& family : kFamilies) {
        CAPTURE(family.name);
        for (std::size_t bit = 0; bit < family.bytes * 8; ++bit) {
            CAPTURE(bit);
            std::array<int, 64> flips{};
            for (int round = 0; round < kRounds; ++round) {
                Input in = random_input(random);
                const std::uint64_t before = family.hash(seed, in);
                in[bit / 8] = static_cast<std::uint8_t>(in[bit / 8] ^ 1U << bit % 8);
                const std::uint64_t changed = before ^ family.hash(seed, in);
                for (std::size_t out = 0; out < 64; ++out)
                    flips[out] += static_cast<int>(changed >> out & 1U);
            }
            const auto [low, high] = std::minmax_element(flips.begin(), flips.end());
            CHECK(*low > kRounds * 42 / 100);
            CHECK(*high < kRounds * 58 / 100);
        }
    }
}

TEST_CASE("the hash is no linear function: sums of hashes depend on more than the sum of inputs") {
    const core::HashSeed seed = seed_of("linear");
    std::mt19937_64 random(support::random_seed());
    for (const Family& family : kFamilies) {
        CAPTURE(family.name);
        // For CRC and Toeplitz, h(a) ^ h(b) ^ h(a ^ d) ^ h(b ^ d) is 0 for every a, b and d.
        std::set<std::uint64_t> sums;
        for (int round = 0; round < 1000; ++round) {
            const Input a = random_input(random);
            const Input b = random_input(random);
            Input ad = a;
            Input bd = b;
            ad[0] = static_cast<std::uint8_t>(ad[0] ^ 1U);
            bd[0] = static_cast<std::uint8_t>(bd[0] ^ 1U);
            sums.insert(family.hash(seed, a) ^ family.hash(seed, b) ^ family.hash(seed, ad) ^
                        family.hash(seed, bd));
        }
        CHECK(sums.size() > 990);
    }
}

TEST_CASE("collisions found under one seed are none under another") {
    const core::HashSeed known = seed_of("known to the attacker");
    const core::HashSeed real = seed_of("the fleet's");
    std::mt19937_64 random(support::random_seed());
    std::vector<std::uint32_t> slots(64);
    for (int found = 0; found < 6400;) {
        const Input in = random_input(random);
        if (hash_v4(known, in) % 64 != 0) continue;
        ++slots[hash_v4(real, in) % 64];
        ++found;
    }
    CHECK(chi_square(slots) < chi_limit(slots.size()));
}

TEST_CASE("slot, fraction and backend bits of one hash are independent, for sequential clients too") {
    const core::HashSeed seed = seed_of("independent");
    const std::uint64_t key = core::hash_text(seed.table, "pangyo");
    std::vector<std::uint32_t> slot_fraction(256);
    std::vector<std::uint32_t> slot_backend(256);
    std::vector<std::uint32_t> fraction_backend(256);
    for (std::uint32_t i = 0; i < 200'000; ++i) {
        const std::uint64_t h = core::hash_v4(seed, 0x0a000000U + i / 1000, 0x0a7100cbU, 1024 + i % 1000, 6);
        const std::uint32_t slot = core::slot_of(h) % 16;
        const std::uint32_t share = core::fraction(h, key) / 4096U;
        const auto backend = static_cast<std::uint32_t>(h >> 60U);
        ++slot_fraction[slot * 16 + share];
        ++slot_backend[slot * 16 + backend];
        ++fraction_backend[share * 16 + backend];
    }
    CHECK(chi_square(slot_fraction) < chi_limit(256));
    CHECK(chi_square(slot_backend) < chi_limit(256));
    CHECK(chi_square(fraction_backend) < chi_limit(256));
}

TEST_CASE("fraction: 0 … 65534, an admitted share is exact to 2 in 65536, and the admitted set only grows") {
    std::mt19937_64 random(support::random_seed());
    for (int round = 0; round < 20; ++round) {
        const std::uint64_t key = random();
        std::vector<std::uint32_t> taken(65536);
        for (std::uint64_t bits = 0; bits < 65536; ++bits) ++taken[core::fraction(bits << 12U, key)];
        CHECK(taken[65535] == 0);  // admit 65535 takes all
        std::int64_t below = 0;
        for (std::int64_t admit = 0; admit < 65536; ++admit) {
            const bool exact = std::abs(below - admit) <= 2;
            if (!exact) CHECK_MESSAGE(exact, "admit ", admit, " takes ", below);
            below += taken[static_cast<std::size_t>(admit)];
        }
    }
}

TEST_CASE("fraction ignores the bits that choose slot and backend") {
    std::mt19937_64 random(support::random_seed());
    for (int round = 0; round < 1000; ++round) {
        const std::uint64_t key = random();
        const std::uint64_t a = random();
        const std::uint64_t kept = 0xffffULL << 12U;
        CHECK(core::fraction(a, key) == core::fraction((a & kept) | (random() & ~kept), key));
    }
}

TEST_CASE("what one site refuses, another site's fraction takes as often as not") {
    const core::HashSeed seed = seed_of("two sites");
    for (int pair = 0; pair < 50; ++pair) {
        const std::uint64_t a = core::hash_text(seed.table, "site-" + std::to_string(2 * pair));
        const std::uint64_t b = core::hash_text(seed.table, "site-" + std::to_string(2 * pair + 1));
        std::vector<std::uint32_t> cells(256);
        for (std::uint64_t bits = 0; bits < 65536; ++bits)
            ++cells[core::fraction(bits << 12U, a) / 4096U * 16U + core::fraction(bits << 12U, b) / 4096U];
        CAPTURE(pair);
        CHECK(chi_square(cells) < chi_limit(256));
    }
}

TEST_CASE("hash_text: any difference in text, length or seed counts") {
    const std::vector<std::string> texts{"",         "a",         "b",          "ab",
                                         "ba",       "pangyo",    "pangyo1",    std::string("a\0", 2),
                                         "12345678", "123456789", "1234567890", std::string(8, '\0'),
                                         "anyang",   "Anyang",    "anyang ",    std::string(9, '\0')};
    std::set<std::uint64_t> hashes;
    for (const std::string& text : texts)
        for (const std::uint64_t seed : {0ULL, 1ULL, 2ULL}) hashes.insert(core::hash_text(seed, text));
    CHECK(hashes.size() == texts.size() * 3);
}

TEST_CASE("the hash is the same on every host and in every version: known values") {
    // A change here moves every flow of every fleet.
    const core::HashSeed seed = seed_of("known values");
    Input in{};
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::uint8_t>(i);
    CHECK(seed.table == 0x76f6394b1d5590d9ULL);
    CHECK(hash_v4(seed, in) == 0xa0bbede38cfb57ebULL);
    CHECK(hash_v6(seed, in) == 0xcf5495a177438604ULL);
    CHECK(core::hash_text(seed.table, "pangyo") == 0x5d2a4c9817e11906ULL);
    CHECK(core::fraction(0x123456789abcdef0ULL, 0x0fedcba987654321ULL) == 62575);
}
