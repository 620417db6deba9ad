// Maglev tables: shares by weight, few flows moved, no dependence on order.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <map>
#include <random>
#include <vector>

#include "dataplane/api/limits.h"
#include "dataplane/core/hash.h"
#include "dataplane/core/maglev.h"
#include "tests/support/random_seed.h"

using namespace detour;
using core::MaglevMember;
using core::MaglevTable;

namespace {

std::vector<MaglevMember> members(std::mt19937_64& random, std::size_t count, std::uint32_t max_weight = 1) {
    std::vector<MaglevMember> out;
    for (std::size_t i = 0; i < count; ++i)
        out.push_back(
            {random(), static_cast<std::uint16_t>(i), static_cast<std::uint32_t>(1 + random() % max_weight)});
    return out;
}

std::map<std::uint16_t, double> shares(const MaglevTable& table) {
    std::map<std::uint16_t, double> counts;
    for (std::uint32_t i = 0; i < table.size(); ++i) counts[table.at(i)] += 1.0 / table.size();
    return counts;
}

/// Of all hashes, in percent: those that lead elsewhere though neither the old nor the new place is `except`.
double moved(const MaglevTable& a, const MaglevTable& b, std::uint16_t except) {
    double n = 0;
    for (std::uint32_t i = 0; i < a.size(); ++i)
        n += a.at(i) != b.at(i) && a.at(i) != except && b.at(i) != except ? 1 : 0;
    return 100 * n / a.size();
}

bool equal(const MaglevTable& a, const MaglevTable& b) {
    if (a.size() != b.size()) return false;
    for (std::uint32_t i = 0; i < a.size(); ++i)
        if (a.at(i) != b.at(i)) return false;
    return true;
}

bool prime(std::uint32_t n) {
    for (std::uint32_t i = 2; i * i <= n; ++i)
        if (n % i == 0) return false;
    return n > 1;
}

}  // namespace

TEST_CASE("sizes are primes, at least 320 x max_backends and at most a third more") {
    std::uint32_t last = 0;
    for (std::uint32_t n = 1; n <= api::kMaxBackendsPerSite; ++n) {
        const std::uint32_t size = MaglevTable::size_for(n);
        CHECK(size >= 320 * n);
        CHECK(size <= 432 * n);
        CHECK(size >= last);
        if (size != last) CHECK(prime(size));
        last = size;
    }
    CHECK(MaglevTable::size_for(0) == MaglevTable::size_for(1));
    CHECK(MaglevTable::size_for(5000) == MaglevTable::size_for(4096));
}

TEST_CASE("nobody, or nobody with a weight: an empty table") {
    CHECK(MaglevTable::build({}, 64, 1)->empty());
    const std::vector<MaglevMember> idle{{1, 1, 0}, {2, 2, 0}};
    const auto table = MaglevTable::build(idle, 64, 1);
    CHECK(table->empty());
    CHECK(table->built_from().size() == 2);
}

TEST_CASE("a lone backend takes every hash") {
    std::mt19937_64 random(support::random_seed());
    const auto lone = MaglevTable::build(std::vector<MaglevMember>{{5, 7, 3}, {6, 8, 0}}, 64, 1);
    for (int i = 0; i < 1000; ++i) CHECK(lone->at(lone->index_of(random())) == 7);
}

TEST_CASE("indexes use the upper half of the hash and stay within the table") {
    std::mt19937_64 random(support::random_seed());
    const auto table = MaglevTable::build(members(random, 10), 64, 1);
    CHECK(table->index_of(0) == 0);
    CHECK(table->index_of(~0ULL) == table->size() - 1);
    CHECK(table->index_of(0xffffffffULL) == 0);
}

TEST_CASE("a table that is full to max_backends gives each backend its share within 2 %") {
    std::mt19937_64 random(support::random_seed());
    for (const std::uint32_t count : {1U, 2U, 3U, 10U, 64U, 100U, 500U, 4096U}) {
        CAPTURE(count);
        const auto table = MaglevTable::build(members(random, count), count, random());
        const auto got = shares(*table);
        REQUIRE(got.size() == count);
        for (const auto& [backend, share] : got) CHECK(std::abs(share * count - 1) < 0.02);
    }
}

TEST_CASE("shares follow the weights, to 2 % or one and a half entries") {
    std::mt19937_64 random(support::random_seed());
    for (int round = 0; round < 30; ++round) {
        const auto count = static_cast<std::uint32_t>(2 + random() % 100);
        const auto in = members(random, count, round % 2 == 0 ? 10 : 1000);
        const auto table = MaglevTable::build(in, count, random());
        const auto got = shares(*table);
        double total = 0;
        for (const MaglevMember& member : in) total += member.weight;
        for (const MaglevMember& member : in) {
            const double exact = member.weight / total;
            CAPTURE(count);
            CAPTURE(member.weight);
            REQUIRE(got.contains(member.backend));
            CHECK(std::abs(got.at(member.backend) - exact) < std::max(0.02 * exact, 1.5 / table->size()));
        }
    }
}

TEST_CASE("whoever has a weight has an entry, however small it is; weight 0 has none") {
    std::mt19937_64 random(support::random_seed());
    for (const std::uint32_t count : {3U, 64U, 300U}) {
        auto in = members(random, count);
        in[0].weight = api::kMaxWeight;
        in[1].weight = 0;
        const auto got = shares(*MaglevTable::build(in, count, random()));
        CHECK(got.size() == count - 1);
        CHECK(!got.contains(1));
        CHECK(got.at(0) > 0.9);
    }
}

TEST_CASE("the table depends on keys, weights and seed, not on order, and names the ids given") {
    std::mt19937_64 random(support::random_seed());
    for (int round = 0; round < 10; ++round) {
        const auto in = members(random, 2 + random() % 60, 20);
        const std::uint64_t seed = random();
        const auto table = MaglevTable::build(in, 64, seed);
        auto shuffled = in;
        std::shuffle(shuffled.begin(), shuffled.end(), random);
        CHECK(equal(*table, *MaglevTable::build(shuffled, 64, seed)));
        for (MaglevMember& member : shuffled)
            member.backend = static_cast<std::uint16_t>(member.backend + 1000);
        const auto renamed = MaglevTable::build(shuffled, 64, seed);
        bool same = true;
        for (std::uint32_t i = 0; i < table->size(); ++i)
            same = same && renamed->at(i) == table->at(i) + 1000;
        CHECK(same);
        CHECK(!equal(*table, *MaglevTable::build(in, 64, seed + 1)));
    }
}

TEST_CASE("one backend added to or taken from a hundred moves at most 1 % beyond its share") {
    std::mt19937_64 random(support::random_seed());
    double sum = 0;
    double worst = 0;
    constexpr int kRounds = 200;
    for (int round = 0; round < kRounds; ++round) {
        const auto many = members(random, 100);
        auto fewer = many;
        fewer.pop_back();
        const std::uint64_t seed = random();
        const double percent =
            moved(*MaglevTable::build(many, 100, seed), *MaglevTable::build(fewer, 100, seed), 99);
        sum += percent;
        worst = std::max(worst, percent);
    }
    std::printf("Maglev, one of 100: %.2f %% of other flows move on average, %.2f %% at worst\n",
                sum / kRounds, worst);
    CHECK(sum / kRounds <= 1.0);
    CHECK(worst <= 1.0);
}

TEST_CASE("made_for knows the same members and size") {
    std::mt19937_64 random(support::random_seed());
    auto in = members(random, 5);
    std::sort(in.begin(), in.end());
    const auto table = MaglevTable::build(in, 64, 1);
    CHECK(table->made_for(in, 64));
    CHECK(table->made_for(in, 61));  // the same prime
    CHECK(!table->made_for(in, 128));
    in[2].weight = 2;
    CHECK(!table->made_for(in, 64));
    in[2].weight = 1;
    in.pop_back();
    CHECK(!table->made_for(in, 64));
}

TEST_CASE("the table is the same on every host and in every version: a known value") {
    // A change here moves flows of every fleet.
    std::vector<MaglevMember> in;
    for (std::uint16_t i = 0; i < 12; ++i) in.push_back({core::mix64(i + 1U), i, 10U + i});
    const auto table = MaglevTable::build(in, 16, 2022'10'15);
    std::uint64_t sum = 0;
    for (std::uint32_t i = 0; i < table->size(); ++i) sum = core::mix64(sum ^ table->at(i));
    CHECK(sum == 0x3a31870b4d62aaf1ULL);
}

TEST_CASE("a thousand tables of ten backends are built quickly") {
    std::mt19937_64 random(support::random_seed());
    const auto in = members(random, 10);
    const std::clock_t start = std::clock();  // of this process: other programs' time does not count
    std::size_t entries = 0;
    for (std::uint64_t i = 0; i < 1000; ++i) entries += MaglevTable::build(in, 64, i)->size();
    const double took = 1000.0 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    std::printf("1000 Maglev tables of %zu entries: %.0f ms\n", entries / 1000, took);
    CHECK(took < 5000);
}
