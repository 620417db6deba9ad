// Who gets the room that is left: offered flows against what each site can hold.
//
// The rules, in this order:
//   - A site never gets more than its budget: what this host may spend there (capacity x share x the healthy
//     part of the site). A budget that is not stated holds everything.
//   - Pools are served in the order of `priority`, 1 first; those of one priority alike. So when there is not
//     enough room, the least important pools are shed first.
//   - A pool fills its best tier by weight; what does not fit goes to its sites of that tier that have room,
//     then to the next tier, and what fits nowhere is shed. A site on a partial admit gets no more than that
//     part of the pool when others have no room: want of room elsewhere does not shorten a ramp.
// The result is what to aim at; the fast path's token buckets keep what really arrives within it.
// Water filling: each round fills at least one site or places everything. Pure, any thread. O(sites x parts).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "control/failover/shares.h"

namespace detour::failover {

/// Flows a second and client-to-site Gbit/s. In a budget 0 means "not stated".
struct Load {
    double new_flows = 0;
    double gbps = 0;
};

/// A pool in one site.
struct CapacityPart {
    std::uint32_t site = 0;  ///< index of its budget
    SharePart share;         ///< what all other rules let it take
};

struct CapacityPool {
    std::uint32_t priority = 100;  ///< 1 is shed last
    Load offered;
    std::vector<CapacityPart> parts;
};

struct PoolAllocation {
    std::vector<double> share;  ///< of the pool's flows, for each part; with `shed` they add up to 1
    /// Where to send them: `share`, and what is shed to the full sites, whose token buckets refuse it.
    std::vector<double> route;
    double shed = 0;  ///< what fits nowhere; 0 too when no part admits anything
};

struct Allocation {
    std::vector<PoolAllocation> pools;
    std::vector<Load> load;  ///< by site
    std::vector<bool> full;  ///< by site: it could not take all that came to it
};

[[nodiscard]] Allocation allocate(std::span<const CapacityPool> pools, std::span<const Load> budgets);

/// By pool and part: how far to lower its admit, 0 … 1 of what it is, so that what shares() lets all pools
/// send to a site together comes to no more than its budget, or than `wanted` routes there. What has room is
/// left open, although a part of a lower tier then gets a little more than it must while another one ramps:
/// the less changes, the fewer flows move. `wanted` is what allocate() made of the same pools and budgets.
[[nodiscard]] std::vector<std::vector<double>> spill(std::span<const CapacityPool> pools,
                                                     std::span<const Load> budgets, const Allocation& wanted);

}  // namespace detour::failover
