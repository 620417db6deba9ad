#include "dataplane/core/segment.h"

#include <cstring>

#include "dataplane/core/bytes.h"
#include "dataplane/core/encapsulate.h"
#include "dataplane/core/ip_headers.h"
#include "dataplane/core/vlan.h"

namespace detour::core {
namespace {

constexpr std::uint8_t kProtocolTcp = 6;
constexpr std::uint16_t kTcpBytes = 20;

void write_addresses(std::uint8_t* ip, const Segment& s, const VipAddress& vip, bool to_client) noexcept {
    if (vip.v6 != 0) {
        const Address6 client{s.client};
        const Address6 own{vip.address};
        write_ipv6(ip, kProtocolTcp, kTcpBytes, to_client ? own : client, to_client ? client : own);
    } else {
        const auto client = load<std::uint32_t>(s.client.data());
        const auto own = load<std::uint32_t>(vip.address.data());
        write_ipv4(ip, kProtocolTcp, 20 + kTcpBytes, to_client ? own : client, to_client ? client : own);
    }
}

/// IP and TCP headers; returns their length.
std::uint16_t write_packet(std::uint8_t* ip, const Segment& s, const VipAddress& vip) noexcept {
    const bool to_client = s.backend == kNoBackendId;
    const std::uint16_t header = vip.v6 != 0 ? 40 : 20;
    write_addresses(ip, s, vip, to_client);
    std::uint8_t* tcp = ip + header;
    std::memset(tcp, 0, kTcpBytes);
    store(tcp, to_client ? vip.port : s.client_port);
    store(tcp + 2, to_client ? s.client_port : vip.port);
    store_be32(tcp + 4, s.sequence);
    store_be32(tcp + 8, s.acknowledgement);
    tcp[12] = 5U << 4U;
    tcp[13] = s.flags;
    store(tcp + 16, transport_checksum(ip, vip.v6 != 0, kProtocolTcp, kTcpBytes));
    return static_cast<std::uint16_t>(header + kTcpBytes);
}

/// As the client's own segments, so that the tunnel takes the same way.
std::uint64_t flow_hash(const Segment& s, const VipAddress& vip, const HashSeed& seed) noexcept {
    const std::uint32_t ports =
        static_cast<std::uint32_t>(s.client_port) | static_cast<std::uint32_t>(vip.port) << 16U;
    if (vip.v6 != 0) return hash_v6(seed, s.client.data(), vip.address.data(), ports, kProtocolTcp);
    return hash_v4(seed, load<std::uint32_t>(s.client.data()), load<std::uint32_t>(vip.address.data()), ports,
                   kProtocolTcp);
}

bool tunnel(const Segment& s, const VipAddress& vip, const ForwardingTables& tables, Packet& p) noexcept {
    constexpr std::uint8_t kUsable = kBackendPresent | kBackendResolved | kBackendHasSource;
    if (!tables.has_backend(s.backend)) return false;
    const BackendEntry& backend = tables.backends[s.backend];
    if ((backend.flags & kUsable) != kUsable) return false;
    p.l3 = 0;
    p.v6 = vip.v6;
    p.flow_hash = flow_hash(s, vip, tables.seed);
    p.ip_length = write_packet(p.data, s, vip);
    p.length = p.ip_length;
    if (!encapsulate(p, tables.headers[s.backend], backend)) return false;
    const std::uint16_t vlan = tables.vlans.empty() ? std::uint16_t{0} : tables.vlans[s.backend];
    return vlan == 0 || tag_frame(p, vlan);
}

}  // namespace

bool make_frame(const Segment& s, const ForwardingTables& tables, const LinkHeader& to_clients,
                Packet& p) noexcept {
    if (!tables.has_vip(s.vip)) return false;
    const VipAddress& vip = tables.vip_addresses[s.vip];
    if (s.backend != kNoBackendId) return tunnel(s, vip, tables, p);
    if (to_clients.length == 0) return false;
    std::memcpy(p.data, to_clients.bytes.data(), to_clients.length);
    p.l3 = to_clients.length;
    p.v6 = vip.v6;
    p.ip_length = write_packet(p.data + p.l3, s, vip);
    p.length = static_cast<std::uint16_t>(p.l3 + p.ip_length);
    p.port = to_clients.port;
    return true;
}

}  // namespace detour::core
