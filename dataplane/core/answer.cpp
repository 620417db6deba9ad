#include "dataplane/core/answer.h"

#include <algorithm>

#include "dataplane/core/bytes.h"
#include "dataplane/core/checksum.h"
#include "dataplane/core/ip_headers.h"
#include "dataplane/core/parse.h"

namespace detour::core {
namespace {

constexpr std::uint8_t kProtocolIcmp = 1;
constexpr std::uint8_t kProtocolTcp = 6;
constexpr std::uint8_t kProtocolIcmp6 = 58;

void swap_macs(std::uint8_t* frame) noexcept {
    std::array<std::uint8_t, 6> destination{};
    std::memcpy(destination.data(), frame, 6);
    std::memcpy(frame, frame + 6, 6);
    std::memcpy(frame + 6, destination.data(), 6);
}

/// Turns a TCP segment into a bare one from its destination to its source.
void answer(Packet& p, std::uint32_t sequence, std::uint32_t acknowledgement, std::uint8_t flags) noexcept {
    std::uint8_t* ip = p.data + p.l3;
    const bool v6 = p.v6 != 0;
    if (v6) {
        const auto client = load<Address6>(ip + 8);
        const auto vip = load<Address6>(ip + 24);
        write_ipv6(ip, kProtocolTcp, 20, vip, client);
    } else {
        const auto client = load<std::uint32_t>(ip + 12);
        const auto vip = load<std::uint32_t>(ip + 16);
        write_ipv4(ip, kProtocolTcp, 40, vip, client);
    }
    const std::size_t header = v6 ? 40 : 20;
    std::uint8_t* tcp = ip + header;
    std::memset(tcp, 0, 20);
    store(tcp, p.destination_port);
    store(tcp + 2, p.source_port);
    store_be32(tcp + 4, sequence);
    store_be32(tcp + 8, acknowledgement);
    tcp[12] = 5U << 4U;
    tcp[13] = flags;
    store(tcp + 16, transport_checksum(ip, v6, kProtocolTcp, 20));
    swap_macs(p.data);
    p.ip_length = static_cast<std::uint16_t>(header + 20);
    p.length = static_cast<std::uint16_t>(p.l3 + p.ip_length);
}

}  // namespace

void answer_with_reset(Packet& p) noexcept {
    answer(p, acknowledgement_of(p), 0, kTcpRst);
}

void refuse_syn(Packet& p) noexcept {
    answer(p, 0, sequence_of(p) + 1, kTcpRst | kTcpAck);
}

bool answer_echo(Packet& p) noexcept {
    const bool v6 = p.v6 != 0;
    if (p.l4 != p.l3 + (v6 ? 40 : 20)) return false;
    std::uint8_t* ip = p.data + p.l3;
    std::uint8_t* icmp = p.data + p.l4;
    if (v6) {
        const auto client = load<Address6>(ip + 8);
        std::memcpy(ip + 8, ip + 24, 16);
        store(ip + 24, client);
        ip[7] = 64;
    } else {
        const auto client = load<std::uint32_t>(ip + 12);
        store(ip + 12, load<std::uint32_t>(ip + 16));
        store(ip + 16, client);
        ip[8] = 64;
        store(ip + 10, std::uint16_t{0});
        store(ip + 10, checksum(ip, 20));
    }
    // Of what the checksum covers only the type changes (RFC 1624); a wrong one stays wrong.
    const std::uint32_t before = load<std::uint16_t>(icmp);
    icmp[0] = v6 ? 129 : 0;
    const std::uint32_t sum =
        (load<std::uint16_t>(icmp + 2) ^ 0xffffU) + (before ^ 0xffffU) + load<std::uint16_t>(icmp);
    store(icmp + 2, static_cast<std::uint16_t>(~checksum_fold(sum)));
    swap_macs(p.data);
    return true;
}

bool answer_too_big(Packet& p, std::uint16_t mtu) noexcept {
    const bool v6 = p.v6 != 0;
    const std::size_t added = v6 ? 48 : 28;
    if (p.headroom < added) return false;
    // As much of the packet as fits: 576 bytes in all (RFC 1812 section 4.3.2.3), 1280 (RFC 4443
    // section 3.2).
    const std::size_t quoted = std::min<std::size_t>(p.ip_length, v6 ? 1280 - 48 : 576 - 28);
    std::uint8_t* original = p.data + p.l3;
    std::uint8_t* ip = original - added;
    std::array<std::uint8_t, kMaxLinkHeader> link{};
    std::memcpy(link.data(), p.data, p.l3);

    std::uint8_t* icmp = ip + (v6 ? 40 : 20);
    const auto icmp_length = static_cast<std::uint16_t>(8 + quoted);
    if (v6) {
        write_ipv6(ip, kProtocolIcmp6, icmp_length, load<Address6>(original + 24),
                   load<Address6>(original + 8));
    } else {
        write_ipv4(ip, kProtocolIcmp, static_cast<std::uint16_t>(20 + icmp_length),
                   load<std::uint32_t>(original + 16), load<std::uint32_t>(original + 12));
    }
    std::memset(icmp, 0, 8);
    icmp[0] = v6 ? 2 : 3;
    icmp[1] = v6 ? 0 : 4;
    store_be16(icmp + 6, mtu);
    store(icmp + 2,
          v6 ? transport_checksum(ip, true, kProtocolIcmp6, icmp_length) : checksum(icmp, icmp_length));

    p.data -= added;
    std::memcpy(p.data, link.data(), p.l3);
    swap_macs(p.data);
    p.headroom = static_cast<std::uint16_t>(p.headroom - added);
    p.ip_length = static_cast<std::uint16_t>((v6 ? 40 : 20) + icmp_length);
    p.length = static_cast<std::uint16_t>(p.l3 + p.ip_length);
    return true;
}

}  // namespace detour::core
