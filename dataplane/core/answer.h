// Answers made from the packet they answer, in its own buffer: a RST, ICMP "too big", an echo. Pure, no
// allocation.
//
// All go back to where the frame came from: MACs swapped, VLAN tags kept, same port.
#pragma once

#include <cstdint>

#include "dataplane/core/batch.h"

namespace detour::core {

/// Turns a TCP segment with ACK set into the RST that its sender accepts: its sequence number is the
/// segment's own acknowledgement (RFC 9293 section 3.10.7.1, RFC 5961 section 3). Options and extension
/// headers go.
void answer_with_reset(Packet& packet) noexcept;

/// Turns a SYN without ACK into the RST that refuses it: it acknowledges the SYN (RFC 9293 section 3.10.7.1).
/// What data the SYN may have carried is not acknowledged.
void refuse_syn(Packet& packet) noexcept;

/// Turns a packet into ICMP "fragmentation needed" (RFC 792, 1191) or ICMPv6 "packet too big" (RFC 4443) that
/// quotes it. `mtu` is the largest IP packet that the tunnel carries, bytes. False when the headroom is too
/// small.
[[nodiscard]] bool answer_too_big(Packet& packet, std::uint16_t mtu) noexcept;

/// Turns an echo request into its reply (RFC 792, 4443). False, and nothing is changed, when it has IP
/// options or extension headers.
[[nodiscard]] bool answer_echo(Packet& packet) noexcept;

}  // namespace detour::core
