// Makes the header that is put before client packets to one backend (EncapHeader in tables.h).
//
// For tables, and for probes that take the same tunnel. Pure, off the fast path.
#pragma once

#include "dataplane/core/tables.h"

namespace detour::core {

/// The header of packets to `backend` in a tunnel from `source`, which is of the backend's family.
[[nodiscard]] EncapHeader make_encap_header(api::Encap encap, const api::IpAddress& source,
                                            const api::PlanBackend& backend, const api::PlanNextHop& hop);
/// What is left of `mtu` bytes for a client's IP packet.
[[nodiscard]] std::uint16_t max_inner_of(const EncapHeader& header, std::uint32_t mtu);

}  // namespace detour::core
