// rtnetlink messages as values: what the kernel says about routes, neighbours and links, and what we ask it.
//
// Parsing is input from outside: every length is checked, what does not fit is an error and never a crash,
// what is not understood is skipped. Pure functions, any thread. Formats: linux/rtnetlink.h,
// linux/neighbour.h, linux/if_link.h; man 7 rtnetlink.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "dataplane/api/result.h"
#include "dataplane/api/types.h"

namespace detour::publish::netlink {

/// One of the ways of a route with several.
struct Path {
    std::uint32_t interface = 0;            ///< index; 0: none
    std::optional<api::IpAddress> gateway;  ///< absent: on the link. May be IPv6 for an IPv4 destination.
    auto operator<=>(const Path&) const = default;
};

/// The answer to "how is this address reached".
struct Route {
    std::uint32_t interface = 0;            ///< index; 0: none
    std::optional<api::IpAddress> gateway;  ///< as in Path
    std::uint32_t mtu = 0;                  ///< 0: the route names none
    bool unicast = false;                   ///< false: local, blackhole, unreachable, …
    /// Of a multipath route or a group of next hop objects: the ways that the kernel does not call dead.
    /// Empty for a route with one way. At most kMaxPaths.
    std::vector<Path> paths;
};
inline constexpr std::size_t kMaxPaths = 64;

struct Neighbour {
    std::uint32_t interface = 0;
    api::IpAddress address;
    std::optional<api::Mac> mac;
    std::uint16_t state = 0;  ///< NUD_*
    bool removed = false;
};

struct Link {
    std::uint32_t interface = 0;
    std::string name;
    std::optional<api::Mac> mac;
    std::uint32_t mtu = 0;
    bool up = false;
    bool removed = false;
    std::uint32_t parent = 0;  ///< index of the interface below it; 0: none
    std::uint16_t vlan = 0;    ///< 802.1Q id of a VLAN interface; 0: it is none
    bool carrier = true;       ///< false: there is no signal on the wire
};

/// Routes, rules or next hop objects changed: ask again. Which one is of no interest.
struct RoutesChanged {};
/// The kernel's answer to a request: 0, or an errno.
struct Acknowledged {
    std::uint32_t sequence = 0;
    int error = 0;
};
/// The end of a dump.
struct Done {
    std::uint32_t sequence = 0;
};
struct RouteAnswer {
    std::uint32_t sequence = 0;
    Route route;
};

using Message = std::variant<RouteAnswer, Neighbour, Link, RoutesChanged, Acknowledged, Done>;

/// All messages of one datagram that are of interest. A notification of a new route looks like an answer: on
/// a socket that only listens, a RouteAnswer means RoutesChanged. Error kInvalidArgument: lengths that do not
/// fit.
[[nodiscard]] api::Result<std::vector<Message>> parse(std::span<const std::uint8_t> datagram);

enum class Ask : std::uint8_t {
    kChosen,    ///< the way that the kernel's own packets would take; of several it chooses by its hash
    kAllPaths,  ///< the route as it was configured, with all its ways
};
/// "How is `destination` reached?"
[[nodiscard]] std::vector<std::uint8_t> route_request(const api::IpAddress& destination, Ask what,
                                                      std::uint32_t sequence);
enum class Dump : std::uint8_t { kLinks, kNeighboursV4, kNeighboursV6 };
[[nodiscard]] std::vector<std::uint8_t> dump_request(Dump what, std::uint32_t sequence);
/// Makes the kernel resolve a neighbour, or confirm a stale one, as if a packet had been sent to it
/// (NTF_USE).
[[nodiscard]] std::vector<std::uint8_t> use_neighbour_request(std::uint32_t interface,
                                                              const api::IpAddress& address,
                                                              std::uint32_t sequence);

/// The neighbour's address may be used now.
[[nodiscard]] bool is_usable(std::uint16_t state) noexcept;
/// It should be asked for: stale, failed, or never asked.
[[nodiscard]] bool wants_asking(std::uint16_t state) noexcept;

}  // namespace detour::publish::netlink
