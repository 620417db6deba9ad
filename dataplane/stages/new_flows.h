// New flows against the limits that the control process set: of a pool, and of a site (api::FlowLimit).
//
// A site's tokens go to the important pools first: a pool may take one only while the bucket holds a reserve
// besides, the larger the less important the pool. Under too many flows the bucket stands where the pools
// that still fit have theirs, and those beyond it get nothing. Owner thread only.
#pragma once

#include "dataplane/stages/stages.h"

namespace detour::stages {

/// Takes the tokens. Otherwise the packet is refused as its limit says, counted for its pool, and has its
/// verdict.
[[nodiscard]] bool take_flow_tokens(core::Packet& packet, const Context& context) noexcept;

/// The same, for nothing while no limit is in force. `packet` is placed: it has a pool and a site.
[[nodiscard]] inline bool within_limits(core::Packet& packet, const Context& context) noexcept {
    if (!context.host.limits_flows()) [[likely]]
        return true;
    return take_flow_tokens(packet, context);
}

}  // namespace detour::stages
