#include "dataplane/core/encapsulate.h"

#include "dataplane/core/bytes.h"
#include "dataplane/core/checksum.h"

namespace detour::core {
namespace {

constexpr std::size_t kEthernet = 14;
constexpr std::uint8_t kProtocolIpip = 4;
constexpr std::uint8_t kProtocolIpv6 = 41;
constexpr std::uint8_t kProtocolUdp = 17;
constexpr std::uint8_t kProtocolGre = 47;

std::uint8_t outer_protocol(api::Encap encap, std::uint8_t inner_v6) noexcept {
    if (encap == api::Encap::kGue) return kProtocolUdp;
    if (encap == api::Encap::kGre) return kProtocolGre;
    return inner_v6 != 0 ? kProtocolIpv6 : kProtocolIpip;
}

/// What lies between the outer IP header and the client's packet.
void fill_shim(std::uint8_t* shim, api::Encap encap, const Packet& p) noexcept {
    if (encap == api::Encap::kGue) {
        store_be16(shim, static_cast<std::uint16_t>(0xc000U | (p.flow_hash >> 50U)));
        store_be16(shim + 4, static_cast<std::uint16_t>(p.ip_length + 8U));
    } else if (encap == api::Encap::kGre) {
        store_be16(shim + 2, p.v6 != 0 ? 0x86dd : 0x0800);
    }
}

}  // namespace

bool encapsulate(Packet& p, const EncapHeader& header, const BackendEntry& backend) noexcept {
    const std::size_t length = header.length;
    if (static_cast<std::size_t>(p.headroom) + p.l3 < length) return false;
    std::uint8_t* inner = p.data + p.l3;
    std::uint8_t* out = inner - length;
    // 34 to 62 bytes, as two copies of 32 that overlap.
    std::memcpy(out, header.bytes.data(), 32);
    std::memcpy(out + length - 32, header.bytes.data() + length - 32, 32);

    const std::uint8_t protocol = outer_protocol(backend.encap, p.v6);
    const auto outer_length = static_cast<std::uint16_t>(p.ip_length + length - kEthernet);
    std::uint8_t* ip = out + kEthernet;
    if (backend.outer == OuterFamily::kV4) {
        store_be16(ip + 2, outer_length);
        ip[9] = protocol;
        // The field holds the folded sum of the header with length and protocol 0 (tables.h).
        const std::uint64_t sum = static_cast<std::uint64_t>(load<std::uint16_t>(ip + 10)) +
                                  swap16(outer_length) + swap16(protocol);
        store(ip + 10, static_cast<std::uint16_t>(~checksum_fold(sum)));
        fill_shim(ip + 20, backend.encap, p);
    } else {
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
