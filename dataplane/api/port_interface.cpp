#include "dataplane/api/port_interface.h"

namespace detour::api {
namespace {

constexpr std::string_view kInterfaceKey = "iface=";

}  // namespace

bool is_owned_whole(std::string_view port) {
    if (port.find(kInterfaceKey) != std::string_view::npos) return false;
    return port.starts_with("net_") || port.find_first_of(":,=") != std::string_view::npos;
}

std::string interface_of_port(std::string_view port, unsigned position) {
    if (is_owned_whole(port)) return "detour" + std::to_string(position);
    const auto at = port.find(kInterfaceKey);
    if (at == std::string_view::npos) return std::string(port);
    port.remove_prefix(at + kInterfaceKey.size());
    return std::string(port.substr(0, port.find(',')));
}

}  // namespace detour::api
