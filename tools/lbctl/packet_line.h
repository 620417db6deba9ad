// A frame in a few words: addresses, ports, protocol, flags. What cannot be read is said as far as it goes.
//
// Pure, any thread. Takes any bytes, cut off anywhere.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace detour::lbctl {

/// From the Ethernet header on: "vlan 100 10.9.9.9:4000 > 203.0.113.10:443 tcp S".
[[nodiscard]] std::string packet_line(std::span<const std::uint8_t> frame);
/// From the IP header on.
[[nodiscard]] std::string ip_line(std::span<const std::uint8_t> packet);

}  // namespace detour::lbctl
