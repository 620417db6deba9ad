// What a packet's fields mean once it has its reason: a batch is used again, so that a field that no stage
// wrote for this packet holds an older one's.
//
// For those who look at packets from outside (capture, trace). Pure, any thread.
#pragma once

#include "dataplane/core/batch.h"

namespace detour::stages {

/// `pool`, `pool_id` and `vip` are the packet's.
[[nodiscard]] constexpr bool knows_pool(api::Reason reason) noexcept {
    using enum api::Reason;
    switch (reason) {
        case kResetSent:
        case kTooBigAnswered:
        case kIcmpOverBudget:
        case kNoSite:
        case kNoBackend:
        case kUnresolvedNextHop:
        case kNoTunnelSource:
        case kTooBigOverBudget:
        case kTooBigUnanswered:
        case kStranded:
        case kResetOverBudget:
        case kNoHeadroom:
        case kShed:
        case kShedReset:
        case kEmptyReset:
            return true;
        default:
            return api::is_forwarded(reason);
    }
}

/// `backend` and `site` are the packet's: one was chosen.
[[nodiscard]] constexpr bool knows_backend(api::Reason reason) noexcept {
    using enum api::Reason;
    switch (reason) {
        case kTooBigAnswered:
        case kUnresolvedNextHop:
        case kNoTunnelSource:
        case kTooBigOverBudget:
        case kTooBigUnanswered:
        case kNoHeadroom:
        case kShed:
        case kShedReset:
            return true;
        default:
            return api::is_forwarded(reason);
    }
}

}  // namespace detour::stages
