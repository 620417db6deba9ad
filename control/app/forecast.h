// Where the new flows of a pool go, and where they would go: shares by site.
//
// Computed from tiers, weights and admits, without the tables: exact where every site admits all or nothing,
// and an estimate (each site counts weight x admit) on ramps. Pure, any thread.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "config/model.h"
#include "control/api/messages.h"
#include "control/app/fast_path_figures.h"
#include "control/app/snapshot.h"
#include "control/failover/shares.h"

namespace detour::app {

struct SitePart {
    std::string site;
    std::uint32_t weight = 0;
    unsigned tier = 0;  ///< lower is preferred
    double admit = 1;   ///< 0 … 1
};

/// One share per part, in order; all zero when no site admits anything. They add up to 1 or 0.
[[nodiscard]] std::vector<double> shares(const std::vector<SitePart>& parts);

/// The parts of one pool as they are. Sites without a backend that is up take nothing.
[[nodiscard]] std::vector<SitePart> parts_of(const PoolStatus& pool, const Snapshot& snapshot);

/// What moved between two moments, more than a thousandth of a pool: from each loser to each winner in
/// proportion.
[[nodiscard]] std::vector<control::Move> moves(const Snapshot& before, const Snapshot& after);

/// `failing`: names of sites that would take nothing. Loads and what is shed are predicted by the very
/// function that decides (failover::allocate()), from the flows that are measured now.
[[nodiscard]] control::PlanFailReply forecast(const Snapshot& snapshot, const config::Config& config,
                                              const std::set<std::string>& failing);

}  // namespace detour::app
