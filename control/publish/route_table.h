// What is known of the kernel's links, neighbours and routes, and the next hops that follow from it.
//
// Pure: fed with netlink messages, asked for next hops. One thread. A neighbour that was known and then fails
// or is forgotten keeps its last hardware address (fail static): forwarding to it costs nothing if it is
// really gone, and a lost ARP answer must not stop traffic. It is asked for again all the same.
//
// Of a route with several ways a destination takes the one that the kernel chooses for it. While that one is
// no good (its link is down, its neighbour failed or never answered, its interface is no port) another takes
// its place, by a hash of the destination, so that many destinations spread; if all are no good, the kernel's
// choice stays. All ways' neighbours are asked for, so that the others are ready.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/publish/netlink_messages.h"
#include "control/publish/next_hop.h"

namespace detour::publish {

class RouteTable {
  public:
    struct NeighbourKey {
        std::uint32_t interface = 0;
        api::IpAddress address;
        auto operator<=>(const NeighbourKey&) const = default;
    };

    /// `ports`: config.dataplane.ports; the place in it is the EgressPort.
    explicit RouteTable(const std::vector<std::string>& ports);

    void update(const netlink::Link& link);
    /// True when next hops may have changed.
    bool update(const netlink::Neighbour& neighbour);
    /// Forgets links and neighbours before a new dump; known hardware addresses stay.
    void begin_dump();

    void set_route(const api::IpAddress& destination, api::Result<netlink::Route> route);
    /// Forgets the routes to all others.
    void keep_routes(const std::set<api::IpAddress>& destinations);

    [[nodiscard]] NextHops next_hops();
    /// Neighbours in use that should be asked for now; at most `limit`.
    [[nodiscard]] std::vector<NeighbourKey> to_ask(std::size_t limit) const;

  private:
    struct NeighbourState {
        std::optional<api::Mac> mac;  ///< last known
        std::uint16_t state = 0;
        bool failed = false;  ///< asked in vain, and not heard of since
    };
    using Ports = std::map<std::string, api::EgressPort, std::less<>>;
    [[nodiscard]] Ports::const_iterator port_of(const netlink::Link& link) const;
    [[nodiscard]] NextHop resolve(const api::IpAddress& destination, const netlink::Route& route);
    [[nodiscard]] NextHop resolve(const api::IpAddress& destination, const netlink::Path& path);
    [[nodiscard]] bool is_good(const netlink::Path& path) const;
    [[nodiscard]] netlink::Path choose(const api::IpAddress& destination, const netlink::Route& route) const;

    Ports ports_;
    std::map<std::uint32_t, netlink::Link> links_;
    std::map<NeighbourKey, NeighbourState> neighbours_;
    std::map<api::IpAddress, api::Result<netlink::Route>> routes_;
    std::set<NeighbourKey> in_use_;  ///< by the last next_hops()
};

}  // namespace detour::publish
