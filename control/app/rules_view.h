// What the API shows of the rules between pools: dependencies, the writer of their data, room, domains. Pure.
#pragma once

#include <string>
#include <vector>

#include "config/model.h"
#include "control/api/messages.h"
#include "control/app/snapshot.h"

namespace detour::app {

/// Adds them to a pool's state and reason.
void add_rules(const PoolStatus& pool, const config::Config& config, control::PoolStatus& out);

/// What of it needs a person, worst first.
[[nodiscard]] std::vector<std::string> pool_alarms(const Snapshot& snapshot);

[[nodiscard]] std::vector<control::DomainStatus> view_domains(const Snapshot& snapshot);

}  // namespace detour::app
