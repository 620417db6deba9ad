// A client's packet as it leaves for a backend, made with code of its own, for comparing whole frames.
#pragma once

#include <cstdint>
#include <string>

#include "dataplane/api/plan.h"
#include "tests/support/packets.h"

namespace detour::support {

struct Tunnel {
    api::Encap encap = api::Encap::kGue;
    bool outer_v6 = false;
    std::string backend;            ///< its address, of the outer family
    std::uint16_t source_port = 0;  ///< of GUE
    std::uint32_t flow_label = 0;   ///< of outer IPv6
    std::size_t inner_link = 14;    ///< bytes before the client's IP header
};

/// Writes DSCP and ECN, and the flow label of IPv6, into an untagged frame's IP header: Frame makes it
/// without.
void set_class(Bytes& frame, std::uint8_t value, std::uint32_t label);

/// By the next hop and from the sources of make_plan(), without a VLAN tag.
[[nodiscard]] Bytes tunnelled(const Tunnel& tunnel, const Bytes& inner);

}  // namespace detour::support
