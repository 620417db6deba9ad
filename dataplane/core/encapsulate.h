// Puts a backend's prebuilt header before a client's IP packet: IPIP (RFC 2003, 2473, 4213), GUE variant 1
// (draft-ietf-intarea-gue-09, IP directly in UDP), GRE (RFC 2784). Pure function, no allocation, inline.
//
// Outer IPv4: DF set, id 0 (atomic datagram, RFC 6864), TTL 64; the client packet's own TTL stays as it is.
// DSCP and ECN are the client packet's: ECN by RFC 6040's normal mode, DSCP by RFC 2983's uniform model.
// Outer UDP checksum 0, for IPv6 by RFC 6935 and 6936. So that routers and receive queues spread flows, GUE's
// source port (49152 … 65535) and the outer IPv6 flow label (RFC 6438) come from the flow hash.
#pragma once

#include <immintrin.h>

#include <utility>

#include "dataplane/core/batch.h"
#include "dataplane/core/bytes.h"
#include "dataplane/core/checksum.h"
#include "dataplane/core/tables.h"

namespace detour::core {

/// One load and one store; GCC 12 would make two of each.
inline void copy32(std::uint8_t* to, const std::uint8_t* from) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

/// DSCP and ECN of the client's packet.
[[nodiscard]] inline std::uint8_t traffic_class(const std::uint8_t* inner, std::uint8_t v6) noexcept {
    return v6 != 0 ? static_cast<std::uint8_t>(load_be16(inner) >> 4U) : inner[1];
}

/// GUE's source port and length. `udp`: the UDP header; `inner`: bytes of the client's packet.
inline void fill_gue(std::uint8_t* udp, std::uint64_t flow_hash, std::uint16_t inner) noexcept {
    // As it lies in memory: the port's upper byte first, its two highest bits set.
    store(udp, static_cast<std::uint16_t>((flow_hash >> 48U) | 0x00c0U));
    store_be16(udp + 4, static_cast<std::uint16_t>(inner + 8U));
}

/// What only the client's packet tells: GUE's port and length, GRE's protocol type, IPIP's protocol, which it
/// returns (0 for the others: it stands in the header). `shim`: behind the outer IP header.
[[nodiscard]] inline std::uint8_t fill_shim(std::uint8_t* shim, api::Encap encap, const Packet& p) noexcept {
    constexpr std::uint8_t kIpv4InIp = 4;
    constexpr std::uint8_t kIpv6InIp = 41;
    if (encap == api::Encap::kIpip) return p.v6 != 0 ? kIpv6InIp : kIpv4InIp;
    if (encap == api::Encap::kGue)
        fill_gue(shim, p.flow_hash, p.ip_length);
    else
        store_be16(shim + 2, p.v6 != 0 ? 0x86dd : 0x0800);
    return 0;
}

/// The outer IPv4 header's own fields; `protocol` as fill_shim() returns it.
inline void fill_ipv4(std::uint8_t* ip, const EncapHeader& header, std::uint16_t length, std::uint8_t tos,
                      std::uint8_t protocol) noexcept {
    constexpr std::size_t kChecksum = 14 + 10;
    ip[1] = tos;
    const std::uint16_t length_be = swap16(length);
    store(ip + 2, length_be);
    // The header's field holds the folded sum of the header with TOS and length 0, IPIP's protocol too.
    const std::uint32_t sum = std::uint32_t{load<std::uint16_t>(header.bytes.data() + kChecksum)} +
                              length_be + ((std::uint32_t{tos} + protocol) << 8U);
    store(ip + 10, static_cast<std::uint16_t>(~checksum_fold_few(sum)));
}

/// `packet` must have been parsed and fit the tunnel. Replaces everything before the IP header (VLAN tags
/// too), sets data, length, headroom and port. False when the headroom is too small; nothing is changed then.
[[nodiscard, gnu::always_inline]] inline bool encapsulate(Packet& p, const EncapHeader& header,
                                                          const BackendEntry& backend) noexcept {
    constexpr std::size_t kEthernet = 14;
    const std::size_t length = header.length;
    const std::size_t l3 = p.l3;
    const std::size_t room = p.headroom + l3;
    if (room < length) return false;
    // Read before the first store: to the compiler bytes may be anything's.
    const std::uint16_t inner = p.ip_length;
    const std::uint64_t flow_hash = p.flow_hash;
    const auto [encap, outer] = std::pair(backend.encap, backend.outer);
    std::uint8_t* out = p.data + l3 - length;
    // 34 to 62 bytes, as two copies of 32 that overlap.
    copy32(out, header.bytes.data());
    copy32(out + length - 32, header.bytes.data() + length - 32);

    const std::uint8_t tos = traffic_class(out + length, p.v6);
    const auto whole = static_cast<std::uint16_t>(inner + length);
    std::uint8_t* ip = out + kEthernet;
    if (outer == OuterFamily::kV4) {
        const auto outer_length = static_cast<std::uint16_t>(whole - kEthernet);
        if (encap == api::Encap::kGue) [[likely]] {
            fill_ipv4(ip, header, outer_length, tos, 0);
            fill_gue(ip + 20, flow_hash, inner);
        } else {
            const std::uint8_t protocol = fill_shim(ip + 20, encap, p);
            fill_ipv4(ip, header, outer_length, tos, protocol);
            if (protocol != 0) ip[9] = protocol;
        }
    } else {
        const auto label = static_cast<std::uint32_t>(p.flow_hash >> 44U);
        store_be32(ip, 0x60000000U | std::uint32_t{tos} << 20U | label);
        store_be16(ip + 4, static_cast<std::uint16_t>(whole - kEthernet - 40U));
        if (const std::uint8_t next = fill_shim(ip + 40, encap, p); next != 0) ip[6] = next;
    }
    p.headroom = static_cast<std::uint16_t>(room - length);
    p.data = out;
    p.length = whole;
    p.l3 = kEthernet;
    p.port = header.port;
    return true;
}

}  // namespace detour::core
