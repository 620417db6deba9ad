// What part of a pool's new flows each of its sites takes, from tiers, weights and admits.
//
// Exact where every site admits all or nothing. On partial admits an estimate: each site counts weight x
// admit, and what the sites of one tier refuse goes to the next, as the fast path's ranks do (dataplane/core/
// select.h); what everybody refuses goes to those that took something. Pure, any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/api/types.h"

namespace detour::failover {

struct SharePart {
    std::uint32_t weight = 0;
    unsigned tier = 0;  ///< lower is preferred
    double admit = 1;   ///< 0 … 1
};

/// One share for each part, in order. They add up to 1, or to 0 when no part admits anything.
[[nodiscard]] std::vector<double> shares(std::span<const SharePart> parts);

/// The value of a switch for 0 … 1, rounded down to a 256th so that noise moves nobody; above 0 it is at
/// least the 1 % of a ramp's start.
[[nodiscard]] api::Admit admit_of(double part) noexcept;
[[nodiscard]] double part_of(api::Admit admit) noexcept;

}  // namespace detour::failover
