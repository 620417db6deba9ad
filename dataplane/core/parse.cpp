#include "dataplane/core/parse.h"

#include "dataplane/core/bytes.h"
#include "dataplane/core/checksum.h"

namespace detour::core {
namespace {

using api::Reason;

constexpr std::uint16_t kEtherIpv4 = 0x0800;
constexpr std::uint16_t kEtherIpv6 = 0x86dd;
constexpr std::uint16_t kEtherVlan = 0x8100;
constexpr std::uint16_t kEtherQinq = 0x88a8;

constexpr std::uint8_t kProtocolIcmp = 1;
constexpr std::uint8_t kProtocolTcp = 6;
constexpr std::uint8_t kProtocolUdp = 17;
constexpr std::uint8_t kProtocolIcmp6 = 58;

constexpr std::uint8_t kHopByHop = 0;
constexpr std::uint8_t kRouting = 43;
constexpr std::uint8_t kFragmentHeader = 44;
constexpr std::uint8_t kAuthentication = 51;
constexpr std::uint8_t kDestinationOptions = 60;

Parsed malformed(Packet& p, Reason reason) noexcept {
    p.reason = reason;
    return Parsed::kMalformed;
}

Parsed parse_tcp(Packet& p, std::uint32_t payload) noexcept {
    if (payload < 20) return malformed(p, Reason::kTruncatedTcp);
    const std::uint8_t* tcp = p.data + p.l4;
    const std::uint32_t offset = (tcp[12] >> 4U) * 4U;
    if (offset < 20 || offset > payload) return malformed(p, Reason::kBadTcpOffset);
    p.tcp_flags = tcp[13];
    if (bad_tcp_flags(tcp[13])) return malformed(p, Reason::kBadTcpFlags);
    p.source_port = load<std::uint16_t>(tcp);
    p.destination_port = load<std::uint16_t>(tcp + 2);
    return Parsed::kTransport;
}

Parsed parse_udp(Packet& p, std::uint32_t payload) noexcept {
    if (payload < 8) return malformed(p, Reason::kTruncatedUdp);
    const std::uint8_t* udp = p.data + p.l4;
    const std::uint32_t length = load_be16(udp + 4);
    if (length < 8 || length > payload) return malformed(p, Reason::kBadUdpLength);
    p.source_port = load<std::uint16_t>(udp);
    p.destination_port = load<std::uint16_t>(udp + 2);
    return Parsed::kTransport;
}

Parsed parse_transport(Packet& p, std::uint32_t payload) noexcept {
    if (p.protocol == kProtocolTcp) return parse_tcp(p, payload);
    if (p.protocol == kProtocolUdp) return parse_udp(p, payload);
    const bool icmp = p.protocol == (p.v6 != 0 ? kProtocolIcmp6 : kProtocolIcmp);
    return icmp ? Parsed::kIcmp : Parsed::kOther;
}

Parsed parse_ipv4(Packet& p) noexcept {
    const std::uint32_t room = p.length - static_cast<std::uint32_t>(p.l3);
    if (room < 20) return malformed(p, Reason::kTruncatedIp);
    const std::uint8_t* ip = p.data + p.l3;
    if (ip[0] >> 4U != 4) return malformed(p, Reason::kBadIpVersion);
    const std::uint32_t header = (ip[0] & 0x0fU) * 4U;
    const std::uint32_t total = load_be16(ip + 2);
    if (header < 20) return malformed(p, Reason::kBadIpHeaderLength);
    if (header > room) return malformed(p, Reason::kTruncatedIp);
    if (total < header || total > room) return malformed(p, Reason::kBadIpTotalLength);
    if (checksum_fold(checksum_add(0, ip, header)) != 0xffff) return malformed(p, Reason::kBadIpChecksum);
    if (bad_source_v4(ip[12])) return malformed(p, Reason::kBadSource);
    p.v6 = 0;
    p.protocol = ip[9];
    p.ip_length = static_cast<std::uint16_t>(total);
    p.length = static_cast<std::uint16_t>(p.l3 + total);
    p.l4 = static_cast<std::uint16_t>(p.l3 + header);
    if ((load_be16(ip + 6) & 0x3fffU) != 0) return Parsed::kFragment;
    return parse_transport(p, total - header);
}

bool is_extension(std::uint8_t next) noexcept {
    return next == kHopByHop || next == kRouting || next == kDestinationOptions || next == kAuthentication ||
           next == kFragmentHeader;
}

/// Walks the extension headers; `offset` counts from the IPv6 header.
Parsed walk_extensions(Packet& p, std::uint32_t total) noexcept {
    const std::uint8_t* ip = p.data + p.l3;
    std::uint8_t next = ip[6];
    std::uint32_t offset = 40;
    for (unsigned count = 0; is_extension(next); ++count) {
        if (count == kMaxExtensionHeaders) return malformed(p, Reason::kTooManyExtensions);
        if (offset + 8 > total) return malformed(p, Reason::kTruncatedIp);
        const std::uint8_t* extension = ip + offset;
        p.protocol = next;
        p.l4 = static_cast<std::uint16_t>(p.l3 + offset);
        // An atomic fragment (offset 0, last) is a whole packet: RFC 6946.
        if (next == kFragmentHeader && (load_be16(extension + 2) & 0xfff9U) != 0) return Parsed::kFragment;
        std::uint32_t size = (extension[1] + 1U) * 8U;
        if (next == kFragmentHeader) size = 8;
        if (next == kAuthentication) size = (extension[1] + 2U) * 4U;
        if (offset + size > total) return malformed(p, Reason::kTruncatedIp);
        next = extension[0];
        offset += size;
    }
    p.protocol = next;
    p.l4 = static_cast<std::uint16_t>(p.l3 + offset);
    return parse_transport(p, total - offset);
}

Parsed parse_ipv6(Packet& p) noexcept {
    const std::uint32_t room = p.length - static_cast<std::uint32_t>(p.l3);
    if (room < 40) return malformed(p, Reason::kTruncatedIp);
    const std::uint8_t* ip = p.data + p.l3;
    if (ip[0] >> 4U != 6) return malformed(p, Reason::kBadIpVersion);
    const std::uint32_t total = 40U + load_be16(ip + 4);
    if (total > room) return malformed(p, Reason::kBadIpTotalLength);
    p.v6 = 1;
    if (bad_source_v6(ip + 8)) return malformed(p, Reason::kBadSource);
    p.ip_length = static_cast<std::uint16_t>(total);
    p.length = static_cast<std::uint16_t>(p.l3 + total);
    return walk_extensions(p, total);
}

}  // namespace

Parsed parse(Packet& p) noexcept {
    p.protocol = 0;
    p.tcp_flags = 0;
    p.v6 = 0;
    if (p.length < 14) return malformed(p, Reason::kTruncatedEthernet);
    std::uint16_t type = load_be16(p.data + 12);
    p.l3 = 14;
    for (unsigned tags = 0; (type == kEtherVlan || type == kEtherQinq) && tags < kMaxVlanTags; ++tags) {
        if (p.length < p.l3 + 4U) return malformed(p, Reason::kTruncatedEthernet);
        type = load_be16(p.data + p.l3 + 2);
        p.l3 = static_cast<std::uint8_t>(p.l3 + 4);
    }
    if (type == kEtherIpv4) return parse_ipv4(p);
    if (type == kEtherIpv6) return parse_ipv6(p);
    return Parsed::kOther;
}

}  // namespace detour::core
