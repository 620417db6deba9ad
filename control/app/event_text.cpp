#include "control/app/event_text.h"

#include <fmt/format.h>

namespace detour::app {

namespace {

/// "talk@pangyo", "pangyo", "10.1.0.11 (talk@pangyo)", "this host".
std::string subject(const Event& event) {
    std::string where = event.pool;
    if (!event.site.empty()) where += (where.empty() ? "" : "@") + event.site;
    if (event.backend.empty()) return where.empty() ? "this host" : where;
    return where.empty() ? event.backend : fmt::format("{} ({})", event.backend, where);
}

const char* severity(const Event& event) {
    switch (event.kind) {
        case EventKind::kAlarm:
            return "alarm";
        case EventKind::kVerdict:
        case EventKind::kPoolVerdict:
            return event.to == "dark" ? "alarm" : "info";
        case EventKind::kBfd:
            return event.to == "down" ? "warning" : "info";
        case EventKind::kBackendDown:
        case EventKind::kSuspect:
        case EventKind::kStrand:
        case EventKind::kPlanRefused:
        case EventKind::kFastPathLost:
        case EventKind::kHold:
            return "warning";
        default:
            return "info";
    }
}

/// What happened to the subject.
std::string deed(const Event& event) {
    switch (event.kind) {
        case EventKind::kProbeMissed:
            return "missed a probe";
        case EventKind::kBackendUp:
            return "is up";
        case EventKind::kBackendDown:
            return "is down";
        case EventKind::kSuspect:
            return "is suspect, a burst of probes starts";
        case EventKind::kBfd:
            return fmt::format("BFD is {}, it was {}", event.to, event.from);
        case EventKind::kVerdict:
        case EventKind::kPoolVerdict:
            return fmt::format("is {}, it was {}", event.to, event.from);
        case EventKind::kSwitch:
            return fmt::format("admit goes from {} to {}", event.from, event.to);
        case EventKind::kSwitchDone:
            return "every worker passed the switches";
        case EventKind::kStrand:
            return "lets its established flows go";
        case EventKind::kDrain:
            return "is drained";
        case EventKind::kUndrain:
            return "is undrained";
        case EventKind::kDrainExpired:
            return "drain has expired";
        case EventKind::kHold:
            return "automation is on hold";
        case EventKind::kRelease:
            return "automation goes on";
        case EventKind::kWeight:
            return "another weight for " + event.to;
        case EventKind::kRampStarted:
            return "ramps up";
        case EventKind::kRampDone:
            return "takes its whole share again";
        case EventKind::kPlan:
            return "plan sent to the fast path";
        case EventKind::kPlanApplied:
            return "plan is in force";
        case EventKind::kPlanRefused:
            return "the fast path refused a plan";
        case EventKind::kAdopted:
            return "took over what the fast path does";
        case EventKind::kFastPathLost:
            return "lost the fast path";
        case EventKind::kReload:
            return "configuration reloaded";
        case EventKind::kActivation:
            return "activation";
        case EventKind::kWriter:
            return "takes the pool's new flows";
        case EventKind::kAlarm:
            return "alarm";
    }
    return std::string(to_string(event.kind));
}

}  // namespace

control::Time to_api(health::WallTime time) {
    return control::Time(std::chrono::floor<std::chrono::microseconds>(time.value));
}

control::Event to_api(const Event& event) {
    control::Event out;
    out.time = to_api(event.at.wall);
    out.kind = to_string(event.kind);
    out.severity = severity(event);
    out.site = event.site;
    out.pool = event.pool;
    out.backend = event.backend;
    out.text = fmt::format("{}: {}", subject(event), deed(event));
    if (!event.reason.empty()) out.text += fmt::format(" ({})", event.reason);
    if (!event.from.empty()) out.data["from"] = event.from;
    if (!event.to.empty()) out.data["to"] = event.to;
    if (!event.reason.empty()) out.data["reason"] = event.reason;
    if (!event.rule.empty()) out.data["rule"] = event.rule;
    out.data["monotonic_us"] = static_cast<std::int64_t>(event.at.monotonic.value.count() / 1000);
    return out;
}

}  // namespace detour::app
