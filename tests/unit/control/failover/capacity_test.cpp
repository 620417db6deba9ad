// Who gets the room that is left: budgets hold, the least important pools are shed first, tiers fill in
// order.
#include "control/failover/capacity.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>

using namespace detour::failover;

namespace {

constexpr double kClose = 1e-6;

CapacityPool pool(std::uint32_t priority, double flows, std::vector<CapacityPart> parts, double gbps = 0) {
    return {priority, {flows, gbps}, std::move(parts)};
}
CapacityPart at(std::uint32_t site, unsigned tier = 0, double admit = 1, std::uint32_t weight = 100) {
    return {site, {weight, tier, admit}};
}

struct Row {
    std::string name;
    std::vector<Load> budgets;
    std::vector<CapacityPool> pools;
    std::vector<std::vector<double>> shares;
    std::vector<double> shed;
};

const std::vector<Row> kRows{
    {"no pools", {{100, 0}}, {}, {}, {}},
    {"a pool without a site sheds nothing: there is nowhere to shed it", {}, {pool(1, 10, {})}, {{}}, {0}},
    {"nothing stated: by weight", {{}, {}}, {pool(1, 1000, {at(0), at(1, 0, 1, 300)})}, {{0.25, 0.75}}, {0}},
    {"room for all: by weight", {{1000, 0}, {1000, 0}}, {pool(1, 1000, {at(0), at(1)})}, {{0.5, 0.5}}, {0}},
    {"exactly full", {{500, 0}, {500, 0}}, {pool(1, 1000, {at(0), at(1)})}, {{0.5, 0.5}}, {0}},
    {"what does not fit goes to a site of the same tier",
     {{200, 0}, {1000, 0}},
     {pool(1, 1000, {at(0), at(1)})},
     {{0.2, 0.8}},
     {0}},
    {"then to the next tier",
     {{200, 0}, {300, 0}, {1000, 0}},
     {pool(1, 1000, {at(0), at(1), at(2, 1)})},
     {{0.2, 0.3, 0.5}},
     {0}},
    {"active, hot, warm, cold in turn",
     {{100, 0}, {100, 0}, {100, 0}, {100, 0}},
     {pool(1, 350, {at(3, 3), at(1, 1), at(0, 0), at(2, 2)})},
     {{50.0 / 350, 100.0 / 350, 100.0 / 350, 100.0 / 350}},
     {0}},
    {"what fits nowhere is shed", {{200, 0}, {300, 0}}, {pool(1, 1000, {at(0), at(1)})}, {{0.2, 0.3}}, {0.5}},
    {"the least important pool is shed, the other is not touched",
     {{1000, 0}},
     {pool(2, 800, {at(0)}), pool(1, 700, {at(0)})},
     {{0.375}, {1}},
     {0.625, 0}},
    {"equal ones share what is left",
     {{1000, 0}},
     {pool(5, 1000, {at(0)}), pool(5, 3000, {at(0)}), pool(1, 600, {at(0)})},
     {{0.1}, {0.1}, {1}},
     {0.9, 0.9, 0}},
    {"an important pool makes room by pushing the others to the next tier",
     {{1000, 0}, {1000, 0}},
     {pool(1, 900, {at(0)}), pool(2, 500, {at(0), at(1, 1)})},
     {{1}, {0.2, 0.8}},
     {0, 0}},
    {"bytes count as flows do", {{0, 10}, {0, 100}}, {pool(1, 100, {at(0), at(1)}, 40)}, {{0.25, 0.75}}, {0}},
    {"whichever is scarcer", {{50, 10}}, {pool(1, 100, {at(0)}, 40)}, {{0.25}}, {0.75}},
    {"a closed site takes nothing",
     {{1000, 0}, {400, 0}},
     {pool(1, 800, {at(0, 0, 0), at(1)})},
     {{0, 0.5}},
     {0.5}},
    {"what a ramping site does not take yet goes to the next tier and is not shed",
     {{300, 0}, {1000, 0}, {1000, 0}},
     {pool(1, 1000, {at(0), at(1, 0, 0.1), at(2, 1)})},
     {{0.3, 0.1, 0.6}},
     {0}},
    {"no site admits: nothing is placed and nothing counts as shed",
     {{1000, 0}},
     {pool(1, 800, {at(0, 0, 0)})},
     {{0}},
     {0}},
    {"a pool that offers nothing is placed by weight",
     {{10, 0}, {10, 0}},
     {pool(1, 0, {at(0), at(1)})},
     {{0.5, 0.5}},
     {0}},
};

bool untouched(const std::vector<double>& factors) {
    return std::ranges::all_of(factors, [](double factor) { return factor == 1; });
}

/// The shares of all pools under their lowered admits.
std::vector<std::vector<double>> planned(const std::vector<CapacityPool>& pools,
                                         const std::vector<Load>& budgets) {
    const auto factors = spill(pools, budgets, allocate(pools, budgets));
    std::vector<std::vector<double>> result;
    for (std::size_t i = 0; i < pools.size(); ++i) {
        std::vector<SharePart> parts;
        for (std::size_t p = 0; p < pools[i].parts.size(); ++p) {
            parts.push_back(pools[i].parts[p].share);
            parts.back().admit *= factors[i][p];
        }
        result.push_back(shares(parts));
    }
    return result;
}

/// Sites on ramps, of several tiers, and pools of few priorities that fill them more or less.
struct Fleet {
    std::vector<Load> budgets;
    std::vector<CapacityPool> pools;

    explicit Fleet(std::mt19937_64& random) {
        const auto below = [&](std::uint32_t limit) { return static_cast<std::uint32_t>(random() % limit); };
        budgets.resize(2 + below(5));
        std::vector<double> admits;
        for (Load& budget : budgets) {
            budget.new_flows = below(4) == 0 ? 0.0 : 200 + below(2000);
            admits.push_back(below(3) == 0 ? (1 + below(100)) / 100.0 : 1.0);
        }
        pools.resize(1 + below(10));
        for (CapacityPool& p : pools) {
            p.priority = 1 + below(2);
            p.offered.new_flows = below(600);
            for (std::uint32_t s = 0; s < budgets.size(); ++s) {
                const double admit = below(6) == 0 ? 0.0 : admits[s];
                if (below(4) > 0) p.parts.push_back(at(s, below(2), admit, 1 + below(300)));
            }
        }
    }
};

}  // namespace

TEST_CASE("room is given out by priority, tier and weight") {
    for (const Row& row : kRows) {
        CAPTURE(row.name);
        const Allocation got = allocate(row.pools, row.budgets);
        REQUIRE(got.pools.size() == row.shares.size());
        for (std::size_t p = 0; p < row.shares.size(); ++p) {
            CAPTURE(p);
            CHECK(got.pools[p].shed == doctest::Approx(row.shed[p]).epsilon(kClose));
            REQUIRE(got.pools[p].share.size() == row.shares[p].size());
            for (std::size_t i = 0; i < row.shares[p].size(); ++i)
                CHECK(got.pools[p].share[i] == doctest::Approx(row.shares[p][i]).epsilon(kClose));
        }
    }
}

TEST_CASE("random fleets: no budget is passed, nothing is shed while a site of the pool has room") {
    const std::uint64_t seed = std::random_device{}();
    MESSAGE("seed " << seed);
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint32_t limit) { return static_cast<std::uint32_t>(random() % limit); };
    for (int round = 0; round < 3000; ++round) {
        CAPTURE(round);
        std::vector<Load> budgets(1 + below(6));
        for (Load& budget : budgets)
            budget = {below(4) == 0 ? 0.0 : below(1000), below(3) == 0 ? below(40) : 0.0};
        std::vector<CapacityPool> pools(1 + below(12));
        for (CapacityPool& p : pools) {
            p.priority = 1 + below(3);
            p.offered = {static_cast<double>(below(800)), below(20) / 4.0};
            for (std::uint32_t s = 0; s < budgets.size(); ++s) {
                if (below(3) > 0)
                    p.parts.push_back(at(s, below(3), below(5) == 0 ? 0.0 : 1.0, 1 + below(300)));
            }
        }
        const Allocation got = allocate(pools, budgets);
        for (std::size_t s = 0; s < budgets.size(); ++s) {
            if (budgets[s].new_flows > 0) CHECK(got.load[s].new_flows <= budgets[s].new_flows * (1 + kClose));
            if (budgets[s].gbps > 0) CHECK(got.load[s].gbps <= budgets[s].gbps * (1 + kClose));
        }
        for (std::size_t i = 0; i < pools.size(); ++i) {
            const PoolAllocation& pool_got = got.pools[i];
            const double sum = std::accumulate(pool_got.share.begin(), pool_got.share.end(), 0.0);
            CHECK((sum == 0 || sum + pool_got.shed == doctest::Approx(1).epsilon(1e-4)));
            if (pool_got.shed == 0) continue;
            for (std::size_t p = 0; p < pools[i].parts.size(); ++p) {
                const std::uint32_t s = pools[i].parts[p].site;
                if (pools[i].parts[p].share.admit == 0) continue;
                const bool full = (budgets[s].new_flows > 0 &&
                                   got.load[s].new_flows >= budgets[s].new_flows * (1 - 1e-4)) ||
                                  (budgets[s].gbps > 0 && got.load[s].gbps >= budgets[s].gbps * (1 - 1e-4));
                CHECK(full);
            }
        }
    }
}

TEST_CASE("want of room elsewhere does not shorten a ramp, and what is shed is sent where it is refused") {
    // The site that comes back at 1 % has room for all; the survivor is full of more important flows.
    const std::vector<CapacityPool> pools{pool(1, 1000, {at(0)}), pool(2, 400, {at(0), at(1, 0, 0.01)})};
    const std::vector<Load> budgets{{1000, 0}, {5000, 0}};
    const Allocation got = allocate(pools, budgets);
    CHECK(got.pools[1].share[0] == doctest::Approx(0));
    CHECK(got.pools[1].share[1] == doctest::Approx(0.01).epsilon(0.02));
    CHECK(got.pools[1].shed == doctest::Approx(0.99).epsilon(0.02));
    CHECK(got.pools[1].route[0] == doctest::Approx(0.99).epsilon(0.02));
    for (const auto& factors : spill(pools, budgets, got)) CHECK(untouched(factors));
    // Nobody has room: nothing is gained by sending it elsewhere.
    const std::vector<CapacityPool> one{pool(1, 1000, {at(0), at(1)})};
    const std::vector<Load> small{{100, 0}, {100, 0}};
    const Allocation full = allocate(one, small);
    CHECK(full.pools[0].shed == doctest::Approx(0.8));
    CHECK(full.pools[0].route[0] == doctest::Approx(0.5));
    CHECK(untouched(spill(one, small, full)[0]));
}

TEST_CASE("spill lowers admits until the shares are what was wanted") {
    struct Case {
        std::string name;
        std::vector<CapacityPart> parts;
        std::vector<double> budgets;  ///< 0 … 1 of what the pool offers; 0: not stated
        std::vector<double> wanted;
    };
    const std::vector<Case> cases{
        {"nothing to do", {at(0), at(1)}, {0, 0}, {0.5, 0.5}},
        {"to the neighbour", {at(0), at(1)}, {0.2, 0}, {0.2, 0.8}},
        {"to the next tier", {at(0), at(1), at(2, 1)}, {0.2, 0.3, 0}, {0.2, 0.3, 0.5}},
        {"what is shed leaves the proportions", {at(0), at(1)}, {0.3, 0.4}, {0.45, 0.55}},
        {"three unequal ones",
         {at(0, 0, 1, 100), at(1, 0, 1, 200), at(2, 0, 1, 50)},
         {0.1, 0, 0.4},
         {0.1, 0.72, 0.18}},
    };
    for (const Case& row : cases) {
        CAPTURE(row.name);
        const std::vector<CapacityPool> pools{pool(1, 1000, row.parts)};
        std::vector<Load> budgets;
        for (const double budget : row.budgets) budgets.push_back({1000 * budget, 0});
        const auto got = planned(pools, budgets)[0];
        for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::abs(got[i] - row.wanted[i]) < 0.01);
    }
}

TEST_CASE("what is not full is left open, as far as its site has room") {
    // Full, half through a ramp, and one of the next tier with room: only the first is touched.
    const std::vector<CapacityPool> one{pool(1, 1000, {at(0), at(1, 0, 0.5), at(2, 1)})};
    const std::vector<Load> first{{400, 0}, {0, 0}, {900, 0}};
    const auto factors = spill(one, first, allocate(one, first))[0];
    CHECK(factors[0] < 0.9);
    CHECK(factors[1] == 1);
    CHECK(factors[2] == 1);
}

TEST_CASE("pools of one priority do not each count a site's spare room as their own") {
    // The last site is left open to both, but has room for little more than what both must send there.
    const std::vector<CapacityPart> parts{at(0), at(1, 0, 0.5), at(2, 1)};
    const std::vector<CapacityPool> pools{pool(1, 1000, parts), pool(1, 1000, parts)};
    const std::vector<Load> budgets{{400, 0}, {1100, 0}, {700, 0}};
    const auto got = planned(pools, budgets);
    for (std::size_t p = 0; p < parts.size(); ++p) {
        CAPTURE(p);
        CHECK(1000 * (got[0][p] + got[1][p]) <= budgets[p].new_flows * 1.01);
    }
}

TEST_CASE("random fleets: what all pools plan at a site stays within its budget") {
    const char* one = std::getenv("DETOUR_SEED");
    const std::uint64_t seed = one != nullptr ? std::strtoull(one, nullptr, 10) : std::random_device{}();
    MESSAGE("seed " << seed);
    std::mt19937_64 random(seed);
    unsigned lowered = 0;
    for (int round = 0; round < 2000; ++round) {
        CAPTURE(round);
        const Fleet fleet(random);
        const Allocation wanted = allocate(fleet.pools, fleet.budgets);
        const auto factors = spill(fleet.pools, fleet.budgets, wanted);
        const auto got = planned(fleet.pools, fleet.budgets);
        std::vector<double> planned_at(fleet.budgets.size());
        std::vector<double> routed(fleet.budgets.size());
        for (std::size_t i = 0; i < fleet.pools.size(); ++i) {
            const CapacityPool& p = fleet.pools[i];
            for (std::size_t k = 0; k < p.parts.size(); ++k) {
                planned_at[p.parts[k].site] += p.offered.new_flows * got[i][k];
                routed[p.parts[k].site] += p.offered.new_flows * wanted.pools[i].route[k];
                CHECK((factors[i][k] >= 0 && factors[i][k] <= 1));
            }
            lowered += untouched(factors[i]) ? 0 : 1;
        }
        for (std::size_t s = 0; s < fleet.budgets.size(); ++s) {
            CAPTURE(s);
            if (fleet.budgets[s].new_flows == 0) continue;
            // Beyond its budget only what no site has room for: its token bucket refuses that.
            CHECK(planned_at[s] <= std::max(fleet.budgets[s].new_flows, routed[s]) * 1.03 + 0.5);
        }
    }
    CHECK(lowered > 1000);
}

TEST_CASE("admits are rounded down, never to nothing") {
    CHECK(admit_of(1) == detour::api::kAdmitAll);
    CHECK(admit_of(1.5) == detour::api::kAdmitAll);
    CHECK(admit_of(0) == detour::api::kAdmitNone);
    CHECK(admit_of(-1) == detour::api::kAdmitNone);
    CHECK(admit_of(1e-9).value() == 656);
    CHECK(admit_of(0.5).value() == 128 * 256);
    CHECK(admit_of(0.501) == admit_of(0.5));
    CHECK(part_of(detour::api::kAdmitAll) == doctest::Approx(1));
}
