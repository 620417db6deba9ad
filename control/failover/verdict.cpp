#include "control/failover/verdict.h"

namespace detour::failover {

std::string_view to_string(Verdict verdict) noexcept {
    switch (verdict) {
        case Verdict::kUnknown:
            return "unknown";
        case Verdict::kHealthy:
            return "healthy";
        case Verdict::kDegraded:
            return "degraded";
        case Verdict::kSuspect:
            return "suspect";
        case Verdict::kDark:
            return "dark";
        case Verdict::kRecovering:
            return "recovering";
        case Verdict::kDrained:
            return "drained";
    }
    return "unknown";
}

}  // namespace detour::failover
