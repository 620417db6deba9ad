// A correct configuration that has every key, each on a line of its own, for the tests of the loader.
#pragma once

#include <string>
#include <string_view>

namespace detour::config::tests {

inline constexpr std::string_view kBase = R"([pop]
name = "icn1"
share = 0.25
fleet_seed = "5f1d7a3c9be24680a1c3e5f708192a3b"

[dataplane]
ports = ["eth1"]
workers = 2
source = ["192.0.2.1", "2001:db8::1"]
flows_per_worker = 4096
resets_per_second = 500
icmp_per_second = 100
socket = "/run/d/dataplane.sock"
state_dir = "/var/lib/d/dataplane"

[control]
socket = "/run/d/control.sock"
state_dir = "/var/lib/d/control"

[failover]
panic_threshold = 0.4
dark_threshold = 0.1
max_dark_sites = 2
ramp = "2m"
strand_after = "1.5s"
auto_return_within = "1h"
confirm_timeout = "150ms"

[[site]]
name = "pangyo"
key = "p1"
domain = ["kr", "seongnam", "pangyo"]
tier = "active"
capacity = { new_flows = 200_000, gbps = 40 }

[[site.probe]]
type = "bfd"
address = "10.1.0.1"
source = "192.0.2.1"
interface = "eth1"
multihop = true
min_ttl = 250
interval = "100ms"
multiplier = 4

[[site]]
name = "anyang"
tier = "hot"

[[pool]]
name = "talk"
vip = ["203.0.113.10:443/tcp", "[2001:db8:f::10]:443/tcp"]
encap = "ipip"
hash = "source"
stranded = "keep"
on_empty = "reset"
data = "any"
priority = 1
min_sites = 2
max_backends = 8
depends_on = ["login"]
site_weight = { pangyo = 50, anyang = 150 }

[pool.health]
type = "http"
port = 8080
path = "/healthz"
host = "talk.example"
status = [200, 204]
via = "direct"
interval = "200ms"
timeout = "150ms"
fast_interval = "50ms"
fall = 2
rise = 4

[[pool.backend]]
site = "pangyo"
address = "10.1.0.11"
weight = 70

[[pool.backend]]
site = "anyang"
address = "2001:db8:2::11"

[[pool]]
name = "login"
vip = ["203.0.113.11:53/udp"]

[[pool.backend]]
site = "anyang"
address = "10.2.0.12"
)";

/// `text` with the first `from` after `after` replaced; ends the test when either is absent.
[[nodiscard]] std::string replaced(std::string_view text, std::string_view after, std::string_view from,
                                   std::string_view to);

}  // namespace detour::config::tests
