// Exact shares for the price of the least harm: moves slots between sites until each holds what it should.
//
// A slot that moves costs the difference of its two scores. The moves together are the cheapest there are (a
// transport problem, solved by successive shortest paths; Ahuja, Magnanti, Orlin: Network Flows, 1993,
// section 9.7), chains included: a slot of A goes to B and one of B to C where that costs less than from A to
// C. The cheapest whole depends little on any one site, which a choice made slot by slot does not promise:
// tables of almost equal sites come out almost equal.
//
// Integers only, ties by slot: every host comes to the same. Allocates. Any thread, no shared state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace detour::core {

/// Scores of all slots for the sites `first` … `first + sites - 1`, lower is better. The owner keeps them.
struct ScoreTable {
    std::span<const std::uint64_t> scores;  ///< by slot, then site; each below 2^55
    std::size_t stride = 0;                 ///< scores of a slot
    std::size_t first = 0;
    std::size_t sites = 0;  ///< at most kMaxSites
};

/// `holder`: the site of each slot, counted as the scores are, the best of the slot at first. `lacking`, by
/// the same count: how many slots each site should have more than it has, below 0: fewer; the sum is 0.
/// O(moves x (sites^2 + slots)).
void balance(const ScoreTable& table, std::span<std::int32_t> lacking, std::span<std::uint8_t> holder);

}  // namespace detour::core
