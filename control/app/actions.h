// What the engine wants done. The shell carries it out in the order of the fields and forgets it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/app/event.h"
#include "control/app/state_store.h"
#include "control/health/now.h"
#include "control/health/outcome.h"
#include "control/plan/order.h"
#include "dataplane/api/plan.h"

namespace detour::app {

struct Actions {
    /// Sent first, all in one SetSwitches message (site switches before backend switches). A switch that is
    /// refused or a lost channel needs no repair of its own: fetch the state again and call Engine::adopt().
    std::vector<api::SiteSwitch> sites;
    std::vector<api::BackendSwitch> backends;
    /// Sent with the switches. One that is refused is repaired as a switch is.
    std::vector<api::FlowLimit> limits;
    /// Sent after the switches. Report with on_plan_applied() or on_plan_refused().
    std::shared_ptr<const api::ForwardingPlan> plan;
    /// Carried out on whatever thread has time, and answered by one on_plan_made() in any case.
    std::optional<plan::Order> order;
    /// Sent now, each answered by one on_probe().
    std::vector<health::ProbeRequest> probes;
    /// Oldest first.
    std::vector<Event> events;
    /// For the state file (ids, generation, verdicts). Written when convenient, later ones replace earlier
    /// ones: the fast path's own state covers the gap. Its text is long: encode() on whatever thread has
    /// time.
    std::optional<StateToWrite> state;
    /// New content of the intents file because a drain ended by itself. Written when convenient.
    std::optional<std::string> intents;
    /// Call on_tick() at this time, or earlier; kNever: nothing to wait for.
    health::Monotonic next_wakeup = health::kNever;
};

}  // namespace detour::app
