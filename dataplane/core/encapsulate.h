// Puts a backend's prebuilt header before a client's IP packet: IPIP (RFC 2003, 2473, 4213), GUE variant 1
// (draft-ietf-intarea-gue-09, IP directly in UDP), GRE (RFC 2784). Pure function, no allocation.
//
// Outer IPv4: DF set, id 0 (atomic datagram, RFC 6864), TTL 64. Outer UDP checksum 0, for IPv6 by RFC 6935
// and 6936. GUE's source port comes from the flow hash, 49152 … 65535, so that routers and receive queues
// spread flows.
#pragma once

#include "dataplane/core/batch.h"
#include "dataplane/core/tables.h"

namespace detour::core {

/// `packet` must have been parsed and fit the tunnel. Replaces everything before the IP header (VLAN tags
/// too), sets data, length, headroom and port. False when the headroom is too small; nothing is changed then.
[[nodiscard]] bool encapsulate(Packet& packet, const EncapHeader& header,
                               const BackendEntry& backend) noexcept;

}  // namespace detour::core
