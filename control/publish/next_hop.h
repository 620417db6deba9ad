// Where frames to a backend leave the host, as the kernel's routes and neighbours say. Plain data.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "dataplane/api/types.h"

namespace detour::publish {

struct NextHop {
    api::EgressPort port;
    api::Mac source;
    api::Mac destination;
    std::uint32_t mtu = 1500;  ///< of the route if it names one, else of the link; IP bytes
    bool resolved = false;     ///< false: `problem` says why, the other members mean nothing
    std::string problem;       ///< in an operator's words; empty when resolved
    std::uint16_t vlan =
        0;  ///< of the VLAN interface that the route leaves by; 0: it leaves by the port itself
    auto operator<=>(const NextHop&) const = default;
};

/// By backend address.
using NextHops = std::map<api::IpAddress, NextHop>;

}  // namespace detour::publish
