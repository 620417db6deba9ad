// What would another configuration move? Asked of the fast path's own tables, before it is put in force.
//
// Both plans are made as the engine makes them, with the ids, switches and weights that are in force, and the
// same random flows are placed by both. Pure, any thread; some milliseconds for each hundred pools.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "config/model.h"
#include "control/api/messages.h"
#include "control/app/snapshot.h"

namespace detour::app {

struct PreviewInput {
    Snapshot snapshot;   ///< with a plan
    config::Config now;  ///< what runs
    config::Config next;
    /// Established flows by backend, as last counted; empty: not known.
    std::map<api::BackendId, std::uint64_t> flows;
};

/// Errors: kUnavailable without a plan; kLimit and those of make_plan() for a configuration that could not be
/// put in force.
[[nodiscard]] api::Result<control::ConfigDiff> preview(const PreviewInput& input);

/// "pool.talk.weight goes from 1 to 2", one for each change; what needs a restart says so.
[[nodiscard]] std::vector<std::string> describe_changes(const config::Config& now,
                                                        const config::Config& next);

/// Weights that operators have set and that end because `next` has others, in words.
[[nodiscard]] std::vector<std::string> overruled_weights(const Snapshot& snapshot,
                                                         const config::Config& next);

}  // namespace detour::app
