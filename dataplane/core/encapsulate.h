// Puts a backend's prebuilt header before a client's IP packet: IPIP (RFC 2003, 2473, 4213), GUE variant 1
// (draft-ietf-intarea-gue-09, IP directly in UDP), GRE (RFC 2784). Pure function, no allocation, inline.
//
// Outer IPv4: DF set, id 0 (atomic datagram, RFC 6864), TTL 64; the client packet's own TTL stays as it is.
// DSCP and ECN are the client packet's: ECN by RFC 6040's normal mode, DSCP by RFC 2983's uniform model.
// Outer UDP checksum 0, for IPv6 by RFC 6935 and 6936. So that routers and receive queues spread flows, GUE's
// source port (49152 … 65535) and the outer IPv6 flow label (RFC 6438) come from the flow hash.
#pragma once

#include <immintrin.h>

#include "dataplane/core/batch.h"
#include "dataplane/core/bytes.h"
#include "dataplane/core/checksum.h"
#include "dataplane/core/tables.h"

namespace detour::core {

/// Of the outer header; for IPIP it depends on the client's packet.
[[nodiscard]] inline std::uint8_t outer_protocol(api::Encap encap, std::uint8_t inner_v6) noexcept {
    constexpr std::uint8_t kIpip = 4;
    constexpr std::uint8_t kIpv6 = 41;
    constexpr std::uint8_t kUdp = 17;
    constexpr std::uint8_t kGre = 47;
    if (encap == api::Encap::kGue) return kUdp;
    if (encap == api::Encap::kGre) return kGre;
    return inner_v6 != 0 ? kIpv6 : kIpip;
}

/// One load and one store; GCC 12 would make two of each.
inline void copy32(std::uint8_t* to, const std::uint8_t* from) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

/// DSCP and ECN of the client's packet.
[[nodiscard]] inline std::uint8_t traffic_class(const std::uint8_t* inner, std::uint8_t v6) noexcept {
    return v6 != 0 ? static_cast<std::uint8_t>(load_be16(inner) >> 4U) : inner[1];
}

/// What lies between the outer IP header and the client's packet.
inline void fill_shim(std::uint8_t* shim, api::Encap encap, const Packet& p) noexcept {
    if (encap == api::Encap::kGue) {
        store_be16(shim, static_cast<std::uint16_t>(0xc000U | (p.flow_hash >> 50U)));
        store_be16(shim + 4, static_cast<std::uint16_t>(p.ip_length + 8U));
    } else if (encap == api::Encap::kGre) {
        store_be16(shim + 2, p.v6 != 0 ? 0x86dd : 0x0800);
    }
}

/// `packet` must have been parsed and fit the tunnel. Replaces everything before the IP header (VLAN tags
/// too), sets data, length, headroom and port. False when the headroom is too small; nothing is changed then.
[[nodiscard, gnu::always_inline]] inline bool encapsulate(Packet& p, const EncapHeader& header,
                                                          const BackendEntry& backend) noexcept {
    constexpr std::size_t kEthernet = 14;
    const std::size_t length = header.length;
    if (static_cast<std::size_t>(p.headroom) + p.l3 < length) return false;
    std::uint8_t* out = p.data + p.l3 - length;
    // 34 to 62 bytes, as two copies of 32 that overlap.
    copy32(out, header.bytes.data());
    copy32(out + length - 32, header.bytes.data() + length - 32);

    const std::uint8_t tos = traffic_class(out + length, p.v6);
    const std::uint8_t protocol = outer_protocol(backend.encap, p.v6);
    const auto outer_length = static_cast<std::uint16_t>(p.ip_length + length - kEthernet);
    std::uint8_t* ip = out + kEthernet;
    if (backend.outer == OuterFamily::kV4) {
        ip[1] = tos;
        store_be16(ip + 2, outer_length);
        ip[9] = protocol;
        // The header's field holds the folded sum of the header with TOS, length and protocol 0 (tables.h).
        const std::uint32_t sum = std::uint32_t{load<std::uint16_t>(header.bytes.data() + kEthernet + 10)} +
                                  swap16(outer_length) + ((std::uint32_t{tos} + protocol) << 8U);
        store(ip + 10, static_cast<std::uint16_t>(~checksum_fold_few(sum)));
        fill_shim(ip + 20, backend.encap, p);
    } else {
        const auto label = static_cast<std::uint32_t>(p.flow_hash >> 44U);
        store_be32(ip, 0x60000000U | std::uint32_t{tos} << 20U | label);
        store_be16(ip + 4, static_cast<std::uint16_t>(outer_length - 40U));
        ip[6] = protocol;
        fill_shim(ip + 40, backend.encap, p);
    }
    p.headroom = static_cast<std::uint16_t>(p.headroom + p.l3 - length);
    p.data = out;
    p.length = static_cast<std::uint16_t>(length + p.ip_length);
    p.l3 = kEthernet;
    p.port = header.port;
    return true;
}

}  // namespace detour::core
