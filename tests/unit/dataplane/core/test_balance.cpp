// Moves of slots between sites: exact shares, at the least cost that there is.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "dataplane/core/balance.h"
#include "tests/support/random_seed.h"

using namespace detour;

namespace {

/// A small problem: `slots` slots, their scores for `sites` sites, each slot at its best site.
struct Problem {
    std::size_t sites = 0;
    std::vector<std::uint64_t> scores;
    std::vector<std::uint8_t> holder;
    std::vector<std::int32_t> lacking;

    [[nodiscard]] std::uint64_t score(std::size_t slot, std::size_t site) const {
        return scores[slot * sites + site];
    }
    [[nodiscard]] std::uint64_t total(const std::vector<std::uint8_t>& of) const {
        std::uint64_t sum = 0;
        for (std::size_t slot = 0; slot < of.size(); ++slot) sum += score(slot, of[slot]);
        return sum;
    }
};

Problem random_problem(std::mt19937_64& random, std::size_t slots, std::size_t sites) {
    Problem problem{.sites = sites, .scores = {}, .holder = {}, .lacking = std::vector<std::int32_t>(sites)};
    for (std::size_t i = 0; i < slots * sites; ++i) problem.scores.push_back(random() % 50);
    for (std::size_t slot = 0; slot < slots; ++slot) {
        const auto* row = &problem.scores[slot * sites];
        problem.holder.push_back(static_cast<std::uint8_t>(std::min_element(row, row + sites) - row));
        --problem.lacking[problem.holder.back()];
        ++problem.lacking[random() % sites];
    }
    return problem;
}

std::vector<int> counts_of(const Problem& problem) {
    std::vector<int> counts(problem.sites);
    for (const std::uint8_t site : problem.holder) ++counts[site];
    return counts;
}

/// Tries every assignment: the least total of scores that gives each site its count.
std::uint64_t cheapest(const Problem& problem, std::vector<int> left, std::size_t slot = 0) {
    if (slot == problem.holder.size()) return 0;
    std::uint64_t best = std::numeric_limits<std::uint64_t>::max();
    for (std::size_t site = 0; site < problem.sites; ++site) {
        if (left[site] == 0) continue;
        --left[site];
        best = std::min(best, problem.score(slot, site) + cheapest(problem, left, slot + 1));
        ++left[site];
    }
    return best;
}

}  // namespace

TEST_CASE("every site gets what it lacks, and no assignment that does so costs less") {
    std::mt19937_64 random(support::random_seed());
    for (int round = 0; round < 300; ++round) {
        Problem problem = random_problem(random, 1 + random() % 7, 1 + random() % 4);
        std::vector<int> wanted = counts_of(problem);
        for (std::size_t site = 0; site < problem.sites; ++site) wanted[site] += problem.lacking[site];
        core::balance({problem.scores, problem.sites, 0, problem.sites}, problem.lacking, problem.holder);
        CAPTURE(round);
        CHECK(counts_of(problem) == wanted);
        CHECK(problem.total(problem.holder) == cheapest(problem, wanted));
        CHECK(std::all_of(problem.lacking.begin(), problem.lacking.end(), [](int n) { return n == 0; }));
    }
}

TEST_CASE("a chain of two cheap moves is made before one dear move") {
    // Slot 0 is A's and would hardly mind B, slot 1 is B's and would hardly mind C; A to C is dear for both.
    Problem problem{3, {0, 1, 90, 80, 0, 1}, {0, 1}, {-1, 0, 1}};
    core::balance({problem.scores, 3, 0, 3}, problem.lacking, problem.holder);
    CHECK(problem.holder == std::vector<std::uint8_t>{1, 2});
}

TEST_CASE("sites outside the range are left alone") {
    // Of four sites the middle two take part; the others' scores would be better.
    Problem problem{4, {0, 1, 2, 0, 0, 1, 3, 0}, {1, 1}, {7, -1, 1, -7}};
    core::balance({problem.scores, 4, 1, 2}, problem.lacking, problem.holder);
    CHECK(problem.holder == std::vector<std::uint8_t>{2, 1});
    CHECK(problem.lacking == std::vector<std::int32_t>{7, 0, 0, -7});
}

TEST_CASE("nothing lacks: nothing moves") {
    Problem problem{2, {0, 1, 1, 0}, {0, 1}, {0, 0}};
    core::balance({problem.scores, 2, 0, 2}, problem.lacking, problem.holder);
    CHECK(problem.holder == std::vector<std::uint8_t>{0, 1});
}
