#include "control/health/tunnel_packet.h"

#include "dataplane/core/bytes.h"
#include "dataplane/core/encap_header.h"
#include "dataplane/core/encapsulate.h"
#include "dataplane/core/parse.h"

namespace detour::health {

namespace {

constexpr std::uint8_t kIcmpEcho = 8;
constexpr std::uint8_t kIcmp6Echo = 128;

/// As the fast path hashes a flow: the outer source port is that of a client with the same ports.
std::uint64_t flow_hash(const core::HashSeed& seed, const core::Packet& p) noexcept {
    const std::uint8_t* ip = p.data + p.l3;
    const auto ports = static_cast<std::uint32_t>(p.destination_port) << 16U | p.source_port;
    if (p.v6 != 0) return core::hash_v6(seed, ip + 8, ip + 24, ports, p.protocol);
    return core::hash_v4(seed, core::load<std::uint32_t>(ip + 12), core::load<std::uint32_t>(ip + 16), ports,
                         p.protocol);
}

}  // namespace

TunnelEnd make_tunnel_end(const ProbeRequest& asked, const api::IpAddress& source) {
    TunnelEnd end;
    if (!asked.tunnel) return end;
    api::PlanBackend backend;
    backend.address = asked.address;
    end.header = core::make_encap_header(asked.tunnel->encap, source, backend, {});
    end.backend.encap = asked.tunnel->encap;
    end.backend.outer = asked.address.is_v6() ? core::OuterFamily::kV6 : core::OuterFamily::kV4;
    end.backend.max_inner = core::max_inner_of(end.header, asked.tunnel->mtu);
    end.address = asked.address;
    return end;
}

std::uint32_t largest_inner(const ProbeRequest& asked) {
    const auto any = asked.address.is_v6() ? api::IpAddress::v6({}) : api::IpAddress::v4({});
    return make_tunnel_end(asked, any).backend.max_inner;
}

std::span<std::uint8_t> TunnelPacket::room() noexcept {
    return std::span(bytes_).subspan(kFront);
}

std::optional<ProbeKey> TunnelPacket::read(std::size_t size) noexcept {
    if (size == 0 || size > room().size()) return std::nullopt;
    std::uint8_t* ethernet = room().data() - kEthernet;
    const unsigned version = room().front() >> 4U;
    core::store_be16(ethernet + 12, version == 6 ? 0x86dd : 0x0800);
    packet_ = {};
    packet_.data = ethernet;
    packet_.length = static_cast<std::uint16_t>(size + kEthernet);
    packet_.headroom = kFront - kEthernet;
    const core::Parsed parsed = core::parse(packet_);
    const bool v6 = packet_.v6 != 0;
    if (parsed == core::Parsed::kTransport)
        return ProbeKey{packet_.protocol, v6, core::swap16(packet_.source_port)};
    const std::uint8_t* icmp = packet_.data + packet_.l4;
    const bool whole = parsed == core::Parsed::kIcmp && packet_.l4 + 8 <= packet_.length;
    if (!whole || icmp[0] != (v6 ? kIcmp6Echo : kIcmpEcho)) return std::nullopt;
    return ProbeKey{packet_.protocol, v6, core::load_be16(icmp + 4)};
}

std::span<const std::uint8_t> TunnelPacket::wrap(const TunnelEnd& end, const core::HashSeed& seed) noexcept {
    if (packet_.ip_length > end.backend.max_inner) return {};
    packet_.flow_hash = flow_hash(seed, packet_);
    if (!core::encapsulate(packet_, end.header, end.backend)) return {};
    return std::span<const std::uint8_t>(packet_.data, packet_.length).subspan(kEthernet);
}

}  // namespace detour::health
