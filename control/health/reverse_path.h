// Interfaces that drop what does not come back by the way it would be sent: strict reverse path filtering.
//
// A probe through the tunnel is answered from the VIP, by the site's internet link. Under the strict filter
// (RFC 3704, 2.2) the kernel drops such answers without a word, and every backend looks down. Reads files.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace detour::health {

/// Names, sorted. `conf` is the kernel's folder of one folder for each interface. What can't be read counts
/// as not strict. IPv4 alone: IPv6 has no such setting.
[[nodiscard]] std::vector<std::string> strict_reverse_path(
    const std::filesystem::path& conf = "/proc/sys/net/ipv4/conf");

}  // namespace detour::health
