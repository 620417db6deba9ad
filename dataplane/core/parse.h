// Ethernet, VLAN, IPv4, IPv6, TCP and UDP headers of one frame (RFC 791, 8200, 9293, 768).
//
// Reads nothing beyond `length`. What it accepts is safe for every later stage. Pure function.
#pragma once

#include "dataplane/core/batch.h"

namespace detour::core {

inline constexpr unsigned kMaxVlanTags = 2;
inline constexpr unsigned kMaxExtensionHeaders = 8;

inline constexpr std::uint8_t kTcpFin = 0x01;
inline constexpr std::uint8_t kTcpSyn = 0x02;
inline constexpr std::uint8_t kTcpRst = 0x04;
inline constexpr std::uint8_t kTcpPsh = 0x08;
inline constexpr std::uint8_t kTcpAck = 0x10;

/// What a frame turned out to be.
enum class Parsed : std::uint8_t {
    kTransport,  ///< TCP or UDP, all fields of Packet set
    kFragment,   ///< of any protocol: addresses known, ports not
    kIcmp,       ///< ICMP or ICMPv6, l4 set
    kOther,      ///< ARP, other EtherTypes, other protocols
    kMalformed,  ///< packet.reason says why
};

/// Fills in the fields "set by parse" of `packet`; trims `length` to the IP packet's end (Ethernet padding
/// goes). Never sets the verdict.
[[nodiscard]] Parsed parse(Packet& packet) noexcept;

}  // namespace detour::core
