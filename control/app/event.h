// What happened, for the timeline: one value per event, in an operator's words.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "control/health/now.h"

namespace detour::app {

enum class EventKind : std::uint8_t {
    kProbeMissed,  ///< the first miss of a backend that answered before
    kBackendUp,
    kBackendDown,
    kSuspect,      ///< a burst started at a site
    kBfd,          ///< a BFD session of a site came up or went down
    kVerdict,      ///< a site's verdict changed
    kPoolVerdict,  ///< a pool's verdict in one site changed
    kSwitch,       ///< admit of a site or of a pool in a site was set by a verdict or an operator
    kSwitchDone,   ///< every worker of the fast path passed the switches (reported by the shell)
    kStrand,       ///< keep was taken away: established flows are let go
    kDrain,
    kUndrain,
    kDrainExpired,
    kHold,     ///< automation stands still
    kRelease,  ///< and goes on
    kWeight,   ///< an operator set a weight, or it is as configured again
    kRampStarted,
    kRampDone,
    kPlan,  ///< a plan was sent to the fast path
    kPlanApplied,
    kPlanRefused,
    kAdopted,  ///< the state of a fast path was taken over
    kFastPathLost,
    kReload,
    kActivation,  ///< of a warm or cold site: begun, or done
    kWriter,      ///< a single-writer pool goes to another site
    kAlarm,       ///< somebody should look
};

/// snake_case: "probe_missed", "backend_up", …
[[nodiscard]] std::string_view to_string(EventKind kind) noexcept;

struct Event {
    health::Now at;
    EventKind kind = EventKind::kAlarm;
    std::string site;  ///< names; empty when it is not about one
    std::string pool;
    std::string backend;    ///< address
    std::string from;       ///< "healthy", "65535"
    std::string to;         ///< "dark", "0"
    std::string reason;     ///< "2 of 2 backends down: timeout"
    std::string rule = {};  ///< by which it was decided, where the kind alone does not tell
};

}  // namespace detour::app
