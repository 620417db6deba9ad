// What the API shows, made from the engine's snapshot and the fast path's figures. Pure: no clock, no socket.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control/api/messages.h"
#include "control/app/fast_path_figures.h"
#include "control/app/incident_book.h"
#include "control/app/service.h"
#include "control/app/snapshot.h"
#include "control/server/metrics.h"

namespace detour::app {

/// All that a view is made of, at one moment.
struct ViewInput {
    const Snapshot& snapshot;
    const config::Config& config;
    const FastPathFigures& figures;
    const ServiceCounters& counters;
    const ServiceOptions& options;
    const publish::NextHops& next_hops;
    bool switches_pending = false;
    std::uint64_t probes_shed = 0;
    std::uint64_t events = 0;
    std::uint64_t events_not_written = 0;
    const IncidentBook& incidents;
    std::optional<bfd::RunnerCounters> bfd = {};  ///< absent: no session is configured
    const health::Tunnel* tunnel = nullptr;       ///< null: no pool is probed through it
};

[[nodiscard]] control::Version view_version(const ViewInput& in);
[[nodiscard]] control::Status view_status(const ViewInput& in);
[[nodiscard]] std::vector<control::SiteStatus> view_sites(const ViewInput& in);
[[nodiscard]] std::vector<control::PoolStatus> view_pools(const ViewInput& in);
[[nodiscard]] std::vector<control::BackendStatus> view_backends(const ViewInput& in);
[[nodiscard]] std::vector<control::Drain> view_drains(const ViewInput& in);
[[nodiscard]] control::ConfigInfo view_config(const ViewInput& in);
[[nodiscard]] control::MetricsInput view_metrics(const ViewInput& in);

}  // namespace detour::app
