// Ethernet, VLAN, IPv4, IPv6, TCP and UDP headers of one frame (RFC 791, 8200, 9293, 768).
//
// Reads nothing beyond `length`. What it accepts is safe for every later stage. Pure function.
#pragma once

#include <cstddef>

#include "dataplane/core/batch.h"
#include "dataplane/core/bytes.h"

namespace detour::core {

inline constexpr unsigned kMaxVlanTags = 2;
inline constexpr std::size_t kMaxLinkHeader = 14 + 4 * kMaxVlanTags;  ///< bytes
inline constexpr unsigned kMaxExtensionHeaders = 8;

inline constexpr std::uint8_t kTcpFin = 0x01;
inline constexpr std::uint8_t kTcpSyn = 0x02;
inline constexpr std::uint8_t kTcpRst = 0x04;
inline constexpr std::uint8_t kTcpPsh = 0x08;
inline constexpr std::uint8_t kTcpAck = 0x10;

inline constexpr std::uint8_t kPlainEthernet = 14;  ///< bytes of an Ethernet header without a VLAN tag

/// Flags that no stack sends: none at all, SYN with FIN or RST, FIN alone. One bit for each of the 64.
inline constexpr std::uint64_t kBadTcpFlags = [] {
    std::uint64_t bad = 0;
    for (unsigned f = 0; f < 64; ++f) {
        const bool syn_mixed = (f & kTcpSyn) != 0 && (f & (kTcpFin | kTcpRst)) != 0;
        const bool bare_fin = (f & (kTcpFin | kTcpAck | kTcpSyn)) == kTcpFin;
        if (f == 0 || syn_mixed || bare_fin) bad |= std::uint64_t{1} << f;
    }
    return bad;
}();
[[nodiscard]] constexpr bool bad_tcp_flags(std::uint8_t flags) noexcept {
    return (kBadTcpFlags >> (flags & 0x3fU) & 1U) != 0;
}

/// Addresses that no answer can be sent to: 0/8, 127/8, 224/3 (RFC 6890).
[[nodiscard]] constexpr bool bad_source_v4(std::uint8_t first) noexcept {
    return first == 0 || first == 127 || first >= 224;
}
/// Multicast, unspecified and loopback. `address`: 16 bytes.
[[nodiscard]] inline bool bad_source_v6(const std::uint8_t* address) noexcept {
    if (address[0] == 0xff) return true;
    const bool zeros = load<std::uint64_t>(address) == 0 && load<std::uint32_t>(address + 8) == 0;
    return zeros && load_be32(address + 12) <= 1;
}

/// Of a TCP packet that was parsed, or a first fragment, whose start has not moved since; host order.
[[nodiscard]] inline std::uint32_t sequence_of(const Packet& p) noexcept {
    return load_be32(p.data + p.l4 + 4);
}
[[nodiscard]] inline std::uint32_t acknowledgement_of(const Packet& p) noexcept {
    return load_be32(p.data + p.l4 + 8);
}

/// What a frame turned out to be.
enum class Parsed : std::uint8_t {
    kTransport,  ///< TCP or UDP, all fields of Packet set
    kFragment,   ///< of any protocol: addresses known, ports not; IPv6: l4 is the fragment header
    kIcmp,       ///< ICMP or ICMPv6, l4 set
    kOther,      ///< ARP, other EtherTypes, other protocols
    kMalformed,  ///< packet.reason says why; with kBadSource the addresses are known
};

/// Fills in the fields "set by parse" of `packet`; trims `length` to the IP packet's end (Ethernet padding
/// goes). Never sets the verdict.
[[nodiscard]] Parsed parse(Packet& packet) noexcept;

}  // namespace detour::core
