// A port as the operator names it, and what DPDK has to be told about it.
//
// Three ways to name one: an interface ("eth1", taken through AF_XDP, so that the kernel keeps all but VIP
// traffic), a PCI address ("0000:01:00.0", owned whole by DPDK), or a DPDK device string
// ("net_pcap0,rx_pcap=in.pcap"). Pure functions, any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/api/result.h"

namespace detour::io {

enum class PortKind : std::uint8_t { kInterface, kPci, kDevice };

struct PortSpec {
    PortKind kind = PortKind::kInterface;
    std::string name;     ///< as the operator wrote it; for a device string the part before the first comma
    std::string text;     ///< the whole argument
    unsigned queues = 1;  ///< receive queues to open; known at start, at least one per worker
    bool operator==(const PortSpec&) const = default;
};

/// Error kInvalidArgument when it is none of the three.
[[nodiscard]] api::Result<PortSpec> parse_port(std::string_view text);

/// What EAL is told about the port that is number `index` of the command line. `steering`: path of the XDP
/// program, without a comma.
struct DeviceArguments {
    std::string option;  ///< "--vdev=…" or "--allow=…"
    std::string device;  ///< name to find it by afterwards
};
[[nodiscard]] DeviceArguments device_arguments(const PortSpec& port, unsigned index,
                                               std::string_view steering);

/// Error kInvalidArgument when two ports name the same device, kLimit when there are too many.
[[nodiscard]] api::Result<void> check_ports(std::span<const PortSpec> ports);

}  // namespace detour::io
