#include "control/app/event.h"

namespace detour::app {

std::string_view to_string(EventKind kind) noexcept {
    switch (kind) {
        case EventKind::kProbeMissed:
            return "probe_missed";
        case EventKind::kBackendUp:
            return "backend_up";
        case EventKind::kBackendDown:
            return "backend_down";
        case EventKind::kSuspect:
            return "suspect";
        case EventKind::kBfd:
            return "bfd";
        case EventKind::kVerdict:
            return "verdict";
        case EventKind::kPoolVerdict:
            return "pool_verdict";
        case EventKind::kSwitch:
            return "switch";
        case EventKind::kSwitchDone:
            return "switch_done";
        case EventKind::kStrand:
            return "strand";
        case EventKind::kDrain:
            return "drain";
        case EventKind::kUndrain:
            return "undrain";
        case EventKind::kDrainExpired:
            return "drain_expired";
        case EventKind::kHold:
            return "hold";
        case EventKind::kRelease:
            return "release";
        case EventKind::kWeight:
            return "weight";
        case EventKind::kRampStarted:
            return "ramp_started";
        case EventKind::kRampDone:
            return "ramp_done";
        case EventKind::kPlan:
            return "plan";
        case EventKind::kPlanApplied:
            return "plan_applied";
        case EventKind::kPlanRefused:
            return "plan_refused";
        case EventKind::kAdopted:
            return "adopted";
        case EventKind::kFastPathLost:
            return "fast_path_lost";
        case EventKind::kReload:
            return "reload";
        case EventKind::kActivation:
            return "activation";
        case EventKind::kWriter:
            return "writer";
        case EventKind::kAlarm:
            return "alarm";
    }
    return "unknown";
}

}  // namespace detour::app
