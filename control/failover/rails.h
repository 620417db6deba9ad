// What an operator's drain must leave: enough sites, and room.
//
// A site on its ramp counts with the part that it takes by now: at the moment of the drain it holds no more,
// and what the drained site leaves would come to it at once. That is for operators alone, who can wait or
// say --force; automation counts such a site as whole, since a failing site can't wait for another's ramp.
// Pure, any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "control/failover/capacity.h"

namespace detour::failover {

/// A site of one pool before and after the drain: 0 takes no new flows, 1 whole, between: through its ramp.
struct RailSite {
    std::string name;
    double before = 0;
    double after = 0;
};

/// Empty when the rail holds, or when the drain changes nothing for the pool; else the words that refuse it.
[[nodiscard]] std::string below_min_sites(const std::string& pool, std::span<const RailSite> sites,
                                          std::uint32_t min_sites);

/// What the site's budget holds by now. One that is not stated stays so.
[[nodiscard]] Load on_ramp(const Load& budget, double part) noexcept;

/// Empty unless the drain makes the pool shed more than it does without it: 0 … 1 of its new flows.
/// `before`: as planned under the drains that are in force, or as it is, whichever is more.
[[nodiscard]] std::string beyond_capacity(const std::string& pool, std::span<const RailSite> sites,
                                          double before, double after);

}  // namespace detour::failover
