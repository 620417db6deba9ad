// The site table: exact shares at each rank, tiers, and how little moves when sites come and go.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "dataplane/core/hash.h"
#include "dataplane/core/site_table.h"
#include "tests/support/random_seed.h"

using namespace detour;
using core::RankedSite;
using core::SiteTable;

namespace {

constexpr unsigned kSlots = api::kSiteSlots;
constexpr unsigned kRanks = api::kSiteRanks;

using Slot = std::vector<std::uint8_t>;

/// The sites of a slot, best first.
Slot slot_of(const SiteTable& table, unsigned slot) {
    Slot sites;
    for (unsigned rank = 0; rank < kRanks; ++rank) {
        const std::uint8_t site = SiteTable::site_at(table.ranks(slot), rank);
        if (site != SiteTable::kNone) sites.push_back(site);
    }
    return sites;
}

std::vector<RankedSite> random_sites(std::mt19937_64& random, std::size_t count,
                                     std::uint32_t max_weight = 100) {
    std::vector<RankedSite> sites;
    for (std::size_t i = 0; i < count; ++i)
        sites.push_back({random(), static_cast<std::uint8_t>(i),
                         static_cast<std::uint32_t>(1 + random() % max_weight), 0});
    return sites;
}

double weight_of(const std::vector<RankedSite>& sites, const std::set<std::uint8_t>& without,
                 std::uint8_t tier = 0) {
    double total = 0;
    for (const RankedSite& site : sites)
        if (site.tier == tier && !without.contains(site.site)) total += site.weight;
    return total;
}

/// How many slots each site would get if the sites in `dark` took nothing.
std::map<std::uint8_t, double> shares(const SiteTable& table, const std::set<std::uint8_t>& dark) {
    std::map<std::uint8_t, double> counts;
    for (unsigned slot = 0; slot < kSlots; ++slot)
        for (const std::uint8_t site : slot_of(table, slot)) {
            if (dark.contains(site)) continue;
            ++counts[site];
            break;
        }
    return counts;
}

/// Of the slots whose first site is in both tables: how many have another first site, in percent.
double moved(const SiteTable& a, const SiteTable& b, std::uint8_t only_in_one) {
    double same = 0;
    double other = 0;
    for (unsigned slot = 0; slot < kSlots; ++slot) {
        const std::uint8_t before = SiteTable::site_at(a.ranks(slot), 0);
        const std::uint8_t after = SiteTable::site_at(b.ranks(slot), 0);
        if (before == only_in_one || after == only_in_one) continue;
        ++(before == after ? same : other);
    }
    return 100 * other / std::max(1.0, same + other);
}

}  // namespace

TEST_CASE("no site, or none with a weight: no slot names one") {
    for (const std::vector<RankedSite>& sites : {std::vector<RankedSite>{}, {{1, 3, 0, 0}, {2, 4, 0, 1}}}) {
        const auto table = SiteTable::build(sites, 7);
        for (unsigned slot = 0; slot < kSlots; ++slot) CHECK(table->ranks(slot) == ~0ULL);
        CHECK(table->built_from().size() == sites.size());
    }
}

TEST_CASE("each slot ranks min(8, sites) different sites") {
    std::mt19937_64 random(support::random_seed());
    for (const std::size_t count : {1U, 2U, 7U, 8U, 9U, 40U, 255U}) {
        CAPTURE(count);
        const auto sites = random_sites(random, count);
        const auto table = SiteTable::build(sites, random());
        bool whole = true;
        for (unsigned slot = 0; slot < kSlots; ++slot) {
            const Slot ranked = slot_of(*table, slot);
            const bool gap =
                SiteTable::site_at(table->ranks(slot), 7) != SiteTable::kNone && ranked.size() != kRanks;
            whole = whole && !gap && ranked.size() == std::min<std::size_t>(count, kRanks) &&
                    std::set<std::uint8_t>(ranked.begin(), ranked.end()).size() == ranked.size();
        }
        CHECK(whole);
    }
}

TEST_CASE("rank 0 gives each site its share of the slots to less than one slot") {
    std::mt19937_64 random(support::random_seed());
    for (int round = 0; round < 60; ++round) {
        const std::size_t count = 1 + random() % (round % 10 == 0 ? 255 : 20);
        const std::uint32_t max_weight = round % 3 == 0 ? api::kMaxWeight : 100;
        const auto sites = random_sites(random, count, max_weight);
        const auto table = SiteTable::build(sites, random());
        const auto counts = shares(*table, {});
        const double total = weight_of(sites, {});
        for (const RankedSite& site : sites) {
            const double exact = kSlots * site.weight / total;
            const double got = counts.contains(site.site) ? counts.at(site.site) : 0;
            CAPTURE(round);
            CAPTURE(count);
            CHECK(std::abs(got - exact) < 1.0 + 1e-6);
        }
    }
}

TEST_CASE("every rank's totals are what apportioning each group of slots gives, to about a slot") {
    std::mt19937_64 random(support::random_seed());
    for (int round = 0; round < 15; ++round) {
        const std::size_t count = 2 + random() % 15;
        const auto sites = random_sites(random, count);
        const auto table = SiteTable::build(sites, random());
        for (unsigned rank = 1; rank < std::min<std::size_t>(kRanks, count); ++rank) {
            std::map<std::set<std::uint8_t>, std::map<std::uint8_t, double>> groups;
            for (unsigned slot = 0; slot < kSlots; ++slot) {
                const Slot ranked = slot_of(*table, slot);
                ++groups[std::set<std::uint8_t>(ranked.begin(), ranked.begin() + rank)][ranked[rank]];
            }
            std::map<std::uint8_t, double> exact;
            std::map<std::uint8_t, double> got;
            for (const auto& [used, counts] : groups) {
                double slots = 0;
                for (const auto& [site, n] : counts) slots += n;
                for (const RankedSite& site : sites) {
                    if (used.contains(site.site)) continue;
                    const double share = slots * site.weight / weight_of(sites, used);
                    const double mine = counts.contains(site.site) ? counts.at(site.site) : 0;
                    exact[site.site] += share;
                    got[site.site] += mine;
                    // One for rounding, more than one where an earlier group's rounding is made good.
                    CHECK(std::abs(mine - share) < 2.5);
                }
            }
            CAPTURE(rank);
            CAPTURE(count);
            for (const auto& [site, share] : exact) CHECK(std::abs(got[site] - share) < 2.0);
        }
    }
}

TEST_CASE("when sites go dark, their slots spread over the others by weight") {
    std::mt19937_64 random(support::random_seed());
    for (int round = 0; round < 20; ++round) {
        const std::size_t count = 3 + random() % 14;
        const auto sites = random_sites(random, count);
        const auto table = SiteTable::build(sites, random());
        const auto before = shares(*table, {});
        // One dark site: exact to a slot or two. Two: its own rounding on top.
        for (const std::size_t dark_count : {1U, 2U}) {
            std::set<std::uint8_t> dark;
            while (dark.size() < dark_count) dark.insert(static_cast<std::uint8_t>(random() % count));
            const auto after = shares(*table, dark);
            const double total = weight_of(sites, dark);
            for (const RankedSite& site : sites) {
                if (dark.contains(site.site)) continue;
                CAPTURE(count);
                CAPTURE(dark_count);
                CHECK(std::abs(after.at(site.site) - kSlots * site.weight / total) <
                      (dark_count == 1 ? 3.5 : 8));
                CHECK(after.at(site.site) >= (before.contains(site.site) ? before.at(site.site) : 0));
            }
        }
    }
}

TEST_CASE("a site deleted or added moves under 1 % of the other sites' slots on average, 2 % at worst") {
    std::mt19937_64 random(support::random_seed());
    double sum = 0;
    double worst = 0;
    constexpr int kRounds = 120;
    for (int round = 0; round < kRounds; ++round) {
        const auto sites = random_sites(random, 2 + random() % 20, round % 2 == 0 ? 1 : 100);
        const std::uint64_t seed = random();
        auto fewer = sites;
        const auto gone = static_cast<std::uint8_t>(random() % sites.size());
        fewer.erase(fewer.begin() + gone);
        const double percent = moved(*SiteTable::build(sites, seed), *SiteTable::build(fewer, seed), gone);
        sum += percent;
        worst = std::max(worst, percent);
    }
    std::printf("site deleted: %.2f %% of the others' slots move on average, %.2f %% at worst\n",
                sum / kRounds, worst);
    CHECK(worst <= 2.0);
    CHECK(sum / kRounds <= 0.9);
}

TEST_CASE("the table depends on keys, weights, tiers and seed, not on order or ids") {
    std::mt19937_64 random(support::random_seed());
    for (int round = 0; round < 10; ++round) {
        auto sites = random_sites(random, 1 + random() % 30);
        for (RankedSite& site : sites) site.tier = static_cast<std::uint8_t>(random() % 3);
        const std::uint64_t seed = random();
        const auto table = SiteTable::build(sites, seed);
        auto shuffled = sites;
        std::shuffle(shuffled.begin(), shuffled.end(), random);
        std::map<std::uint8_t, std::uint8_t> renamed;
        for (RankedSite& site : shuffled) {
            const auto id = static_cast<std::uint8_t>(254 - site.site);
            renamed[site.site] = id;
            site.site = id;
        }
        const auto other = SiteTable::build(shuffled, seed);
        bool same = true;
        for (unsigned slot = 0; slot < kSlots; ++slot) {
            Slot expected = slot_of(*table, slot);
            for (std::uint8_t& site : expected) site = renamed.at(site);
            same = same && slot_of(*other, slot) == expected;
        }
        CHECK(same);
    }
    const auto sites = random_sites(random, 4, 1);
    CHECK(moved(*SiteTable::build(sites, 1), *SiteTable::build(sites, 2), SiteTable::kNone) > 50);
}

TEST_CASE("only the ratio of weights counts, and a site of weight 0 is never ranked") {
    std::mt19937_64 random(support::random_seed());
    auto sites = random_sites(random, 6);
    const std::uint64_t seed = random();
    const auto table = SiteTable::build(sites, seed);
    auto tenfold = sites;
    for (RankedSite& site : tenfold) site.weight *= 10;
    const auto scaled = SiteTable::build(tenfold, seed);
    unsigned different = 0;
    for (unsigned slot = 0; slot < kSlots; ++slot)
        different += table->ranks(slot) != scaled->ranks(slot) ? 1U : 0U;
    CHECK(different < 8);  // rounding of the scores alone
    sites.push_back({random(), 99, 0, 0});
    const auto with_idle = SiteTable::build(sites, seed);
    bool same = true;
    for (unsigned slot = 0; slot < kSlots; ++slot)
        same = same && table->ranks(slot) == with_idle->ranks(slot);
    CHECK(same);
}

TEST_CASE("tiers: lower ones first, and the last two ranks are kept for the next tiers") {
    struct Row {
        const char* name;
        std::vector<unsigned> sites;   ///< by tier
        std::vector<unsigned> places;  ///< ranks that each tier gets
    };
    const std::vector<Row> rows{
        {"one tier of one", {1}, {1}},
        {"one tier, all eight ranks", {9}, {8}},
        {"all fit", {3, 3, 2}, {3, 3, 2}},
        {"six leave two", {6, 4}, {6, 2}},
        {"seven give one up for two", {7, 2}, {6, 2}},
        {"seven keep seven when one follows", {7, 1}, {7, 1}},
        {"eight give up one when one follows", {8, 1}, {7, 1}},
        {"nine give up two", {9, 5}, {6, 2}},
        {"the next tiers in their order", {9, 9, 9}, {6, 2, 0}},
        {"one of each of the next tiers", {9, 1, 5}, {6, 1, 1}},
        {"a large second tier leaves two as well", {3, 10, 4}, {3, 3, 2}},
        {"four tiers", {3, 2, 10, 4}, {3, 2, 1, 2}},
        {"an empty first tier", {0, 9, 1}, {0, 7, 1}},
    };
    std::mt19937_64 random(support::random_seed());
    for (const Row& row : rows) {
        CAPTURE(row.name);
        std::vector<RankedSite> sites;
        for (std::size_t tier = 0; tier < row.sites.size(); ++tier)
            for (unsigned i = 0; i < row.sites[tier]; ++i)
                sites.push_back(
                    {random(), static_cast<std::uint8_t>(sites.size()), 10, static_cast<std::uint8_t>(tier)});
        const auto table = SiteTable::build(sites, random());
        bool right = true;
        for (unsigned slot = 0; slot < kSlots; ++slot) {
            std::vector<unsigned> places(row.sites.size());
            unsigned last = 0;
            for (const std::uint8_t site : slot_of(*table, slot)) {
                const unsigned tier = sites[site].tier;
                right = right && tier >= last;
                last = tier;
                ++places[tier];
            }
            right = right && places == row.places;
        }
        CHECK(right);
    }
}

TEST_CASE("the first rank of a next tier is apportioned to a slot, whatever the tier above did") {
    std::mt19937_64 random(support::random_seed());
    auto sites = random_sites(random, 8);
    for (std::size_t i = 3; i < sites.size(); ++i) sites[i].tier = 1;
    const auto table = SiteTable::build(sites, random());
    const auto counts = shares(*table, {0, 1, 2});
    for (std::size_t i = 3; i < sites.size(); ++i) {
        const double exact = kSlots * sites[i].weight / weight_of(sites, {}, 1);
        CHECK(std::abs((counts.contains(sites[i].site) ? counts.at(sites[i].site) : 0) - exact) < 1.0 + 1e-6);
    }
}

TEST_CASE("the table is the same on every host and in every version: a known value") {
    // A change here moves flows of every fleet.
    std::vector<RankedSite> sites;
    for (std::uint8_t i = 0; i < 12; ++i)
        sites.push_back({core::mix64(i + 1U), i, 10U + i, static_cast<std::uint8_t>(i / 9)});
    const auto table = SiteTable::build(sites, 2022'10'15);
    std::uint64_t sum = 0;
    for (unsigned slot = 0; slot < kSlots; ++slot) sum = core::mix64(sum ^ table->ranks(slot));
    CHECK(sum == 0x9d04d9bb80b852f7ULL);
}

TEST_CASE("16 sites are built quickly") {
    std::mt19937_64 random(support::random_seed());
    const auto sites = random_sites(random, 16);
    double best = 1e9;
    for (std::uint64_t round = 0; round < 10; ++round) {
        const auto start = std::chrono::steady_clock::now();
        const auto table = SiteTable::build(sites, round);
        const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
        best = std::min(best, took.count());
    }
    std::printf("site table of 16 sites: %.2f ms\n", best);
    CHECK(best < 100);
}
