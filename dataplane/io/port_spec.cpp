#include "dataplane/io/port_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "dataplane/api/limits.h"

namespace detour::io {
namespace {

constexpr std::size_t kMaxInterfaceName = 15;  // IFNAMSIZ less its terminator

bool all_hex(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isxdigit(c) != 0; });
}

// "0000:01:00.0" or "01:00.0".
bool is_pci_address(std::string_view text) {
    if (text.size() == 12 && all_hex(text.substr(0, 4)) && text[4] == ':') text.remove_prefix(5);
    return text.size() == 7 && all_hex(text.substr(0, 2)) && text[2] == ':' && all_hex(text.substr(3, 2)) &&
           text[5] == '.' && text[6] >= '0' && text[6] <= '7';
}

bool is_interface_name(std::string_view text) {
    if (text.empty() || text.size() > kMaxInterfaceName || text == "." || text == "..") return false;
    return std::all_of(text.begin(), text.end(), [](unsigned char c) {
        return std::isgraph(c) != 0 && c != '/' && c != ',' && c != ':' && c != '=';
    });
}

}  // namespace

api::Result<PortSpec> parse_port(std::string_view text) {
    const std::string whole(text);
    if (is_pci_address(text)) {
        return PortSpec{PortKind::kPci, text.size() == 7 ? "0000:" + whole : whole, whole, 1};
    }
    if (text.starts_with("net_")) {
        return PortSpec{PortKind::kDevice, whole.substr(0, whole.find(',')), whole, 1};
    }
    if (is_interface_name(text)) return PortSpec{PortKind::kInterface, whole, whole, 1};
    return api::fail(
        api::ErrorCode::kInvalidArgument, "reading --port",
        fmt::format("'{}' is no interface name, no PCI address (0000:01:00.0) and no DPDK device "
                    "string (net_…)",
                    text));
}

DeviceArguments device_arguments(const PortSpec& port, unsigned index, std::string_view steering) {
    switch (port.kind) {
        case PortKind::kPci:
            return {"--allow=" + port.name, port.name};
        case PortKind::kDevice:
            return {"--vdev=" + port.text, port.name};
        case PortKind::kInterface:
            break;
    }
    const std::string device = fmt::format("net_af_xdp{}", index);
    return {fmt::format("--vdev={},iface={},start_queue=0,queue_count={},xdp_prog={}", device, port.name,
                        port.queues, steering),
            device};
}

api::Result<void> check_ports(std::span<const PortSpec> ports) {
    constexpr auto kDoing = "reading --port";
    if (ports.size() > api::kMaxPorts) {
        return api::fail(api::ErrorCode::kLimit, kDoing,
                         fmt::format("{} ports are more than {}", ports.size(), api::kMaxPorts));
    }
    std::set<std::string> seen;
    for (unsigned i = 0; i < ports.size(); ++i) {
        const PortSpec& port = ports[i];
        if (!seen.insert(port.name).second ||
            !seen.insert(device_arguments(port, i, {}).device + "#").second) {
            return api::fail(api::ErrorCode::kInvalidArgument, kDoing,
                             fmt::format("'{}' is named twice", port.name));
        }
    }
    return {};
}

}  // namespace detour::io
