// Command line of netlab-loadgen: what is asked of it, checked. Values only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <netinet/in.h>

namespace detour::netlab {

/// An IPv4 or IPv6 address with port, as the socket calls want it.
struct Endpoint {
    sockaddr_storage address{};
    socklen_t length = 0;
    [[nodiscard]] bool is_v6() const { return address.ss_family == AF_INET6; }
    /// Without the port.
    [[nodiscard]] std::string host() const;
    [[nodiscard]] std::uint16_t port() const;
};

/// "203.0.113.10:80" or "[2001:db8:f::10]:80". Throws std::invalid_argument.
Endpoint parse_endpoint(const std::string& text);

struct Options {
    std::vector<Endpoint> targets;  ///< taken in turn
    Endpoint source_v4;             ///< the first; length 0: the kernel chooses
    Endpoint source_v6;
    std::uint32_t source_count = 250;  ///< following the first one, in its last byte(s)
    std::uint32_t prefixes = 1;        ///< 1 … 250: in so many /24 and /48, beginning with the first one's
    std::uint32_t new_rate = 0;        ///< connections a second
    std::uint32_t long_lived = 0;      ///< clients, in thirds: sending, waiting, downloading
    std::uint32_t idle = 0;            ///< clients that ask once and then keep their connection
    std::uint32_t idle_rate = 2000;    ///< of them begun a second, at first
    std::uint64_t upload_bytes = 0;    ///< 0: no uploads
    std::uint32_t upload_every_ms = 1000;
    std::uint32_t send_every_ms = 100;  ///< of a sending client
    std::uint32_t connect_timeout_ms = 5000;
    std::uint32_t answer_timeout_ms = 10000;  ///< of a new connection, from its start
    std::uint32_t idle_timeout_ms = 15000;  ///< a long-lived client that waits so long for bytes due gives up
    std::uint32_t report_ms = 500;          ///< between two lines of totals on stdout
    std::uint32_t duration_s = 0;           ///< 0: until SIGTERM
    std::string out;                        ///< one JSON line per connection
};

/// Throws std::invalid_argument with what was wrong, or with the usage.
Options parse_options(int argc, char** argv);

}  // namespace detour::netlab
