#include "tests/support/tunnelled.h"

#include "tests/support/fast_path.h"

namespace detour::support {
namespace {

/// The client packet's DSCP and ECN.
std::uint8_t class_of(const Bytes& inner, std::size_t link_header) {
    if (inner.at(link_header) >> 4U == 4) return inner.at(link_header + 1);
    return static_cast<std::uint8_t>(inner.at(link_header) << 4U | inner.at(link_header + 1) >> 4U);
}

}  // namespace

void set_class(Bytes& frame, std::uint8_t value, std::uint32_t label) {
    if (frame.at(14) == 0x45) {
        frame.at(15) = value;
        frame.at(24) = frame.at(25) = 0;
        const std::uint16_t sum = plain_checksum({frame.begin() + 14, frame.begin() + 34});
        frame.at(24) = static_cast<std::uint8_t>(sum >> 8U);
        frame.at(25) = static_cast<std::uint8_t>(sum);
        return;
    }
    frame.at(14) = static_cast<std::uint8_t>(0x60U | value >> 4U);
    frame.at(15) = static_cast<std::uint8_t>(value << 4U | label >> 16U);
    frame.at(16) = static_cast<std::uint8_t>(label >> 8U);
    frame.at(17) = static_cast<std::uint8_t>(label);
}

Bytes tunnelled(const Tunnel& tunnel, const Bytes& inner) {
    Frame frame;
    frame.ether(kOutMac, kNextHopMac);
    tunnel.outer_v6 ? frame.ipv6("2001:db8::1", tunnel.backend) : frame.ipv4("192.0.2.1", tunnel.backend);
    if (tunnel.encap == api::Encap::kGue) frame.udp(tunnel.source_port, 6080, true);
    if (tunnel.encap == api::Encap::kGre) frame.gre();
    Bytes bytes = frame.inner(inner, tunnel.inner_link).bytes();
    set_class(bytes, class_of(inner, tunnel.inner_link), tunnel.flow_label);
    return bytes;
}

}  // namespace detour::support
