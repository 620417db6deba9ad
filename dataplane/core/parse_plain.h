// The common frame's headers, inline: untagged IPv4 without options or IPv6 without extension headers, whole,
// TCP or UDP.
//
// An answer of true means that parse() would have said kTransport with the very same fields; false means
// nothing, ask parse(). tests/packet/test_malformed.cpp compares the two. Pure functions, any thread.
#pragma once

#include "dataplane/core/bytes.h"
#include "dataplane/core/checksum.h"
#include "dataplane/core/parse.h"

namespace detour::core {

/// TCP with 20 bytes of header or more; `payload` counts from the TCP header on.
[[nodiscard]] inline bool parse_plain_tcp(Packet& p, const std::uint8_t* tcp,
                                          std::uint32_t payload) noexcept {
    const std::uint32_t header = tcp[12] >> 2U & 0x3cU;
    const std::uint8_t flags = tcp[13];
    if (header < 20 || header > payload || bad_tcp_flags(flags)) return false;
    p.protocol = 6;
    p.tcp_flags = flags;
    return true;
}

[[nodiscard]] inline bool parse_plain_transport(Packet& p, std::uint32_t l4, std::uint32_t total,
                                                std::uint8_t protocol) noexcept {
    const std::uint8_t* transport = p.data + l4;
    const std::uint32_t payload = kPlainEthernet + total - l4;
    if (protocol == 6) [[likely]] {
        if (!parse_plain_tcp(p, transport, payload)) return false;
    } else {
        const std::uint32_t length = load_be16(transport + 4);
        if (protocol != 17 || length < 8 || length > payload) return false;
        p.protocol = 17;
        p.tcp_flags = 0;
    }
    p.l3 = kPlainEthernet;
    p.l4 = static_cast<std::uint16_t>(l4);
    p.ip_length = static_cast<std::uint16_t>(total);
    p.length = static_cast<std::uint16_t>(kPlainEthernet + total);
    static_assert(offsetof(Packet, destination_port) == offsetof(Packet, source_port) + 2);
    std::memcpy(&p.source_port, transport, 4);
    return true;
}

[[nodiscard]] inline bool parse_plain_v4(Packet& p) noexcept {
    const std::uint8_t* ip = p.data + kPlainEthernet;
    const std::uint32_t total = load_be16(ip + 2);
    const bool whole = (load<std::uint16_t>(ip + 6) & swap16(0x3fff)) == 0;
    const std::uint64_t sum = std::uint64_t{load<std::uint32_t>(ip)} + load<std::uint32_t>(ip + 4) +
                              load<std::uint32_t>(ip + 8) + load<std::uint32_t>(ip + 12) +
                              load<std::uint32_t>(ip + 16);
    // 40 bytes: a TCP header fits behind the IP header, so that the reads below are within the packet.
    const bool fits = total >= 40 && total + kPlainEthernet <= p.length;
    if (!whole || !fits || checksum_fold(sum) != 0xffff || bad_source_v4(ip[12])) return false;
    p.v6 = 0;
    return parse_plain_transport(p, kPlainEthernet + 20U, total, ip[9]);
}

[[nodiscard]] inline bool parse_plain_v6(Packet& p) noexcept {
    const std::uint8_t* ip = p.data + kPlainEthernet;
    const std::uint32_t total = 40U + load_be16(ip + 4);
    const bool fits = total >= 60 && total + kPlainEthernet <= p.length;
    if (!fits || (ip[0] >> 4U) != 6 || bad_source_v6(ip + 8)) return false;
    p.v6 = 1;
    return parse_plain_transport(p, kPlainEthernet + 40U, total, ip[6]);
}

[[nodiscard]] inline bool parse_plain(Packet& p) noexcept {
    if (p.length < kPlainEthernet + 40U) return false;
    const auto start = load<std::uint32_t>(p.data + 12) & 0x00ffffffU;  // EtherType, version and length
    if (start == 0x450008U) return parse_plain_v4(p);
    return (start & 0xffffU) == 0xdd86U && parse_plain_v6(p);
}

}  // namespace detour::core
