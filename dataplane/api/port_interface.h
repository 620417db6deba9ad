// Which interface of the kernel stands beside a port: a matter of its name and place alone.
//
// The kernel's routes and neighbours are those of that interface, so both processes have to agree on it. An
// interface port is its own ("eth1"), and so is a device that opens one ("net_af_packet0,iface=eth1"). A port
// that DPDK owns whole, a PCI address or any other device string, gets a TAP interface that the fast path
// makes: "detour0" for the first port of the list, "detour1" for the second. Pure, any thread.
#pragma once

#include <string>
#include <string_view>

namespace detour::api {

/// DPDK has the port to itself: no interface of the kernel receives its frames.
[[nodiscard]] bool is_owned_whole(std::string_view port);

/// `position`: the port's place in dataplane.ports, from 0.
[[nodiscard]] std::string interface_of_port(std::string_view port, unsigned position);

}  // namespace detour::api
