#include "control/publish/route_table.h"

#include <fmt/format.h>
#include <linux/neighbour.h>

#include <algorithm>
#include <utility>

#include "dataplane/api/port_interface.h"

namespace detour::publish {

namespace {

constexpr std::uint32_t kMinMtu = 1280;
constexpr std::uint32_t kMaxMtu = 9978;

NextHop unresolved(std::string problem) {
    NextHop hop;
    hop.problem = std::move(problem);
    return hop;
}

/// A destination's own order of the ways, the same every time (FNV-1a, and a mix so that all bits count).
std::uint64_t preference(const api::IpAddress& destination, const netlink::Path& path) {
    std::uint64_t hash = 0xcbf29ce484222325ULL ^ path.interface;
    const auto add = [&](const api::IpAddress& address) {
        for (std::size_t i = 0; i < address.size(); ++i) {
            hash ^= static_cast<std::uint8_t>(address.bytes()[i]);
            hash *= 0x100000001b3ULL;
        }
    };
    add(destination);
    if (path.gateway) add(*path.gateway);
    hash = (hash ^ hash >> 32U) * 0xd6e8feb86659fd93ULL;
    return hash ^ hash >> 32U;
}

}  // namespace

RouteTable::RouteTable(const std::vector<std::string>& ports) {
    for (std::size_t i = 0; i < ports.size(); ++i) {
        ports_.emplace(api::interface_of_port(ports[i], static_cast<unsigned>(i)),
                       api::EgressPort(static_cast<std::uint16_t>(i)));
    }
}

void RouteTable::update(const netlink::Link& link) {
    if (!link.removed) {
        links_.insert_or_assign(link.interface, link);
        return;
    }
    links_.erase(link.interface);
    std::erase_if(neighbours_, [&](const auto& entry) { return entry.first.interface == link.interface; });
}

bool RouteTable::update(const netlink::Neighbour& neighbour) {
    const NeighbourKey key{neighbour.interface, neighbour.address};
    const bool used = in_use_.contains(key);
    if (neighbour.removed && !used) {
        neighbours_.erase(key);
        return false;
    }
    auto& known = neighbours_[key];
    known.state = neighbour.removed ? std::uint16_t{0} : neighbour.state;
    // The kernel asks a failed one again because we do: until it answers, it has failed.
    if ((known.state & NUD_FAILED) != 0) known.failed = true;
    if (netlink::is_usable(known.state)) known.failed = false;
    if (!neighbour.removed && netlink::is_usable(neighbour.state) && neighbour.mac) known.mac = neighbour.mac;
    return used;
}

void RouteTable::begin_dump() {
    links_.clear();
    std::erase_if(neighbours_, [&](const auto& entry) { return !in_use_.contains(entry.first); });
    for (auto& [key, known] : neighbours_) known.state = 0;
}

void RouteTable::set_route(const api::IpAddress& destination, api::Result<netlink::Route> route) {
    routes_.insert_or_assign(destination, std::move(route));
}

void RouteTable::keep_routes(const std::set<api::IpAddress>& destinations) {
    std::erase_if(routes_, [&](const auto& entry) { return !destinations.contains(entry.first); });
}

/// A VLAN interface sends by the port below it.
RouteTable::Ports::const_iterator RouteTable::port_of(const netlink::Link& link) const {
    const auto below = links_.find(link.parent);
    if (link.vlan == 0 || below == links_.end()) return ports_.find(link.name);
    return ports_.find(below->second.name);
}

/// Traffic that takes this way arrives, as far as the kernel knows.
bool RouteTable::is_good(const netlink::Path& path) const {
    const auto link = links_.find(path.interface);
    if (link == links_.end() || !link->second.up || !link->second.carrier) return false;
    if (port_of(link->second) == ports_.end() || !path.gateway) return false;
    const auto neighbour = neighbours_.find({path.interface, *path.gateway});
    return neighbour != neighbours_.end() && neighbour->second.mac && !neighbour->second.failed;
}

netlink::Path RouteTable::choose(const api::IpAddress& destination, const netlink::Route& route) const {
    const netlink::Path chosen{route.interface, route.gateway};
    if (route.paths.empty() || is_good(chosen)) return chosen;
    std::optional<netlink::Path> best;
    for (const auto& path : route.paths) {
        if (!is_good(path)) continue;
        if (!best || preference(destination, path) < preference(destination, *best)) best = path;
    }
    return best.value_or(chosen);
}

NextHop RouteTable::resolve(const api::IpAddress& destination, const netlink::Route& route) {
    if (!route.unicast) return unresolved("its route is not a unicast route: is it an address of this host?");
    for (const auto& path : route.paths) {
        const auto link = links_.find(path.interface);
        const bool ours = link != links_.end() && port_of(link->second) != ports_.end();
        if (ours && path.gateway) in_use_.insert({path.interface, *path.gateway});
    }
    NextHop hop = resolve(destination, choose(destination, route));
    if (!hop.resolved) return hop;
    hop.mtu = std::min(std::max(route.mtu != 0 ? route.mtu : hop.mtu, kMinMtu), kMaxMtu);
    return hop;
}

/// `mtu` is the link's.
NextHop RouteTable::resolve(const api::IpAddress& destination, const netlink::Path& path) {
    const auto link = links_.find(path.interface);
    if (link == links_.end())
        return unresolved(fmt::format("its route's interface {} is gone", path.interface));
    const auto port = port_of(link->second);
    if (port == ports_.end()) {
        return unresolved(
            fmt::format("its route leaves by {}, which is not in dataplane.ports", link->second.name));
    }
    if (!link->second.mac) return unresolved(link->second.name + " has no Ethernet address");
    const NeighbourKey key{path.interface, path.gateway.value_or(destination)};
    in_use_.insert(key);
    const auto neighbour = neighbours_.find(key);
    if (neighbour == neighbours_.end() || !neighbour->second.mac) {
        return unresolved(fmt::format("no answer from {} on {}", key.address.to_string(), link->second.name));
    }
    NextHop hop;
    hop.port = port->second;
    hop.source = *link->second.mac;
    hop.destination = *neighbour->second.mac;
    hop.resolved = true;
    hop.vlan = link->second.vlan;
    hop.mtu = link->second.mtu;
    return hop;
}

NextHops RouteTable::next_hops() {
    in_use_.clear();
    NextHops hops;
    for (const auto& [destination, route] : routes_) {
        hops.emplace(destination, route ? resolve(destination, *route) : unresolved(route.error().what));
    }
    return hops;
}

std::vector<RouteTable::NeighbourKey> RouteTable::to_ask(std::size_t limit) const {
    std::vector<NeighbourKey> ask;
    for (const auto& key : in_use_) {
        if (ask.size() == limit) break;
        const auto known = neighbours_.find(key);
        if (known == neighbours_.end() || netlink::wants_asking(known->second.state)) ask.push_back(key);
    }
    return ask;
}

}  // namespace detour::publish
