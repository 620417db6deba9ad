// Next hops from links, neighbours and routes, as rows without a kernel.
#include "control/publish/route_table.h"

#include <doctest/doctest.h>
#include <linux/neighbour.h>

using namespace detour;
using publish::NextHop;
using publish::RouteTable;
using publish::netlink::Link;
using publish::netlink::Neighbour;
using publish::netlink::Route;

namespace {

const api::Mac kPortMac{{2, 0, 0, 0, 0, 9}};
const api::Mac kRouterMac{{2, 0, 0, 0, 0, 7}};
const auto kBackend = api::IpAddress::parse("10.1.0.11").value();
const auto kRouter = api::IpAddress::parse("10.0.0.1").value();

Link link(std::uint32_t index, const char* name, std::optional<api::Mac> mac = kPortMac) {
    return {index, name, mac, 1500, true, false};
}

Neighbour neighbour(std::uint16_t state, std::optional<api::Mac> mac = kRouterMac) {
    return {3, kRouter, mac, state, false};
}

RouteTable table_with_router() {
    RouteTable table({"eth0", "net_af_packet0,iface=eth1"});
    table.update(link(2, "eth9"));
    table.update(link(3, "eth1"));
    table.set_route(kBackend, Route{3, kRouter, 0, true});
    table.update(neighbour(NUD_REACHABLE));
    return table;
}

NextHop hop(RouteTable& table) {
    return table.next_hops().at(kBackend);
}

}  // namespace

TEST_CASE("routes of a port that is owned whole are those of its TAP interface") {
    RouteTable table({"eth0", "0000:03:00.0"});
    table.update(link(3, "detour1"));
    table.set_route(kBackend, Route{3, kRouter, 0, true});
    table.update(neighbour(NUD_REACHABLE));
    CHECK(hop(table) == NextHop{api::EgressPort(1), kPortMac, kRouterMac, 1500, true, ""});
}

TEST_CASE("a next hop carries the port's place, both hardware addresses and the smaller MTU") {
    auto table = table_with_router();
    CHECK(hop(table) == NextHop{api::EgressPort(1), kPortMac, kRouterMac, 1500, true, ""});
    table.set_route(kBackend, Route{3, kRouter, 1400, true});
    CHECK(hop(table).mtu == 1400);
    table.set_route(kBackend, Route{3, kRouter, 65535, true});
    CHECK(hop(table).mtu == 9978);
}

TEST_CASE("a route that leaves by a VLAN interface leaves by the port below it, with the VLAN's tag") {
    RouteTable table({"eth0", "eth1"});
    Link vlan{4, "backbone", kPortMac, 1496, true, false, 3, 100};
    table.update(link(3, "eth1"));
    table.update(vlan);
    table.set_route(kBackend, Route{4, kRouter, 0, true});
    table.update(Neighbour{4, kRouter, kRouterMac, NUD_REACHABLE, false});
    CHECK(hop(table) == NextHop{api::EgressPort(1), kPortMac, kRouterMac, 1496, true, "", 100});
    vlan.parent = 2;
    table.update(vlan);
    CHECK_MESSAGE(!hop(table).resolved, "the interface below is no port");
    // A veth names its peer as the interface below; it is a port all the same.
    Link veth = link(3, "eth1");
    veth.parent = 2;
    table.update(veth);
    table.set_route(kBackend, Route{3, kRouter, 0, true});
    table.update(neighbour(NUD_REACHABLE));
    CHECK(hop(table) == NextHop{api::EgressPort(1), kPortMac, kRouterMac, 1500, true, "", 0});
}

TEST_CASE("a backend on the link is its own neighbour") {
    auto table = table_with_router();
    table.set_route(kBackend, Route{3, std::nullopt, 0, true});
    CHECK_FALSE(hop(table).resolved);
    REQUIRE(table.to_ask(10).size() == 1);
    CHECK(table.to_ask(10)[0].address == kBackend);
    table.update(Neighbour{3, kBackend, api::Mac{{2, 0, 0, 0, 0, 1}}, NUD_STALE, false});
    CHECK(hop(table).destination == api::Mac{{2, 0, 0, 0, 0, 1}});
}

TEST_CASE("what can't be resolved says why") {
    struct Row {
        Route route;
        const char* problem;
    };
    auto table = table_with_router();
    table.update(link(4, "eth0", std::nullopt));
    const std::vector<Row> rows = {
        {{3, kRouter, 0, false}, "not a unicast route"},
        {{9, kRouter, 0, true}, "interface 9 is gone"},
        {{2, kRouter, 0, true}, "leaves by eth9, which is not in dataplane.ports"},
        {{4, kRouter, 0, true}, "eth0 has no Ethernet address"},
        {{3, api::IpAddress::parse("10.0.0.99").value(), 0, true}, "no answer from 10.0.0.99 on eth1"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.problem);
        table.set_route(kBackend, row.route);
        CHECK_FALSE(hop(table).resolved);
        CHECK(hop(table).problem.find(row.problem) != std::string::npos);
    }
    table.set_route(kBackend, api::fail(api::ErrorCode::kNotFound, "", "no route to 10.1.0.11"));
    CHECK(hop(table).problem == "no route to 10.1.0.11");
}

TEST_CASE("a neighbour that fails or is forgotten keeps its address and is asked for") {
    auto table = table_with_router();
    CHECK(hop(table).resolved);
    CHECK(table.to_ask(10).empty());
    for (const auto state : std::initializer_list<std::uint16_t>{NUD_FAILED, NUD_NONE, NUD_STALE}) {
        CHECK(table.update(neighbour(state, std::nullopt)));
        CHECK(hop(table).destination == kRouterMac);
        CHECK(table.to_ask(10).size() == 1);
        CHECK(table.to_ask(0).empty());
    }
    for (const auto state :
         std::initializer_list<std::uint16_t>{NUD_INCOMPLETE, NUD_DELAY, NUD_PROBE, NUD_PERMANENT}) {
        table.update(neighbour(state, std::nullopt));
        CHECK(hop(table).destination == kRouterMac);
        CHECK(table.to_ask(10).empty());
    }
    auto removed = neighbour(NUD_REACHABLE);
    removed.removed = true;
    CHECK(table.update(removed));
    CHECK(hop(table).destination == kRouterMac);
    CHECK(table.to_ask(10).size() == 1);
    const api::Mac other{{2, 0, 0, 0, 0, 8}};
    CHECK(table.update(neighbour(NUD_REACHABLE, other)));
    CHECK(hop(table).destination == other);
}

TEST_CASE(
    "of several ways the kernel's choice is taken while it is good, else another, else the choice stays") {
    const auto second_router = api::IpAddress::parse("10.0.1.1").value();
    const api::Mac second_mac{{2, 0, 0, 0, 0, 8}};
    Route route{3, kRouter, 0, true};
    route.paths = {{3, kRouter}, {4, second_router}};
    RouteTable table({"eth0", "eth1"});
    table.update(link(3, "eth1"));
    table.update(link(4, "eth0"));
    table.set_route(kBackend, route);
    const auto second = [&](std::uint16_t state) {
        return Neighbour{4, second_router, state == NUD_FAILED ? std::nullopt : std::optional(second_mac),
                         state, false};
    };
    CHECK_FALSE(hop(table).resolved);
    CHECK_MESSAGE(table.to_ask(10).size() == 2, "both ways' neighbours are asked for");

    const NextHop by_first{api::EgressPort(1), kPortMac, kRouterMac, 1500, true, ""};
    const NextHop by_second{api::EgressPort(0), kPortMac, second_mac, 1500, true, ""};
    table.update(second(NUD_REACHABLE));
    CHECK_MESSAGE(hop(table) == by_second, "the first is not known yet");
    table.update(neighbour(NUD_REACHABLE));
    CHECK(hop(table) == by_first);

    table.update(neighbour(NUD_FAILED, std::nullopt));
    CHECK(hop(table) == by_second);
    table.update(neighbour(NUD_INCOMPLETE, std::nullopt));
    CHECK_MESSAGE(hop(table) == by_second, "asked for once more, it has not answered");
    table.update(second(NUD_FAILED));
    CHECK_MESSAGE(hop(table) == by_first, "both failed: the kernel's choice, at its last address");
    table.update(second(NUD_REACHABLE));
    table.update(neighbour(NUD_REACHABLE));
    CHECK(hop(table) == by_first);

    auto silent = link(3, "eth1");
    silent.carrier = false;
    table.update(silent);
    CHECK(hop(table) == by_second);
    auto down = link(3, "eth1");
    down.up = false;
    table.update(down);
    CHECK(hop(table) == by_second);
    table.update(link(3, "eth9"));
    CHECK_MESSAGE(hop(table) == by_second, "the first leaves by no port of ours");
    table.update(link(3, "eth1"));
    CHECK(hop(table) == by_first);
}

TEST_CASE("destinations whose way is no good spread over the good ones, the same every time") {
    RouteTable table({"eth0"});
    table.update(link(3, "eth0"));
    Route route{3, kRouter, 0, true};
    for (std::uint8_t i = 1; i <= 4; ++i) {
        const auto router = api::IpAddress::v4({10, 0, 0, i});
        route.paths.push_back({3, router});
        const std::uint16_t state = i == 1 ? NUD_FAILED : NUD_REACHABLE;
        table.update(Neighbour{3, router, api::Mac{{2, 0, 0, 0, 1, i}}, state, false});
    }
    for (std::uint8_t i = 1; i <= 200; ++i) table.set_route(api::IpAddress::v4({10, 1, 0, i}), route);
    std::map<std::uint8_t, int> counts;
    const auto hops = table.next_hops();
    for (const auto& [destination, hop] : hops) ++counts[hop.destination.bytes[5]];
    REQUIRE(counts.size() == 3);
    for (const auto& [router, count] : counts) {
        CAPTURE(router);
        CHECK(count >= 40);
    }
    CHECK(table.next_hops() == hops);
}

TEST_CASE("neighbours that nobody uses are of no interest") {
    auto table = table_with_router();
    (void)table.next_hops();
    CHECK_FALSE(
        table.update(Neighbour{3, api::IpAddress::parse("10.0.0.77").value(), kRouterMac, NUD_STALE, false}));
    CHECK(table.to_ask(10).empty());
}

TEST_CASE("a removed interface takes its neighbours along") {
    auto table = table_with_router();
    CHECK(hop(table).resolved);
    auto gone = link(3, "eth1");
    gone.removed = true;
    table.update(gone);
    CHECK_FALSE(hop(table).resolved);
    table.update(link(3, "eth1"));
    CHECK_FALSE(hop(table).resolved);
}

TEST_CASE("a new dump forgets what is gone and keeps known addresses in use") {
    auto table = table_with_router();
    (void)table.next_hops();
    table.begin_dump();
    CHECK_FALSE(hop(table).resolved);
    table.update(link(3, "eth1"));
    CHECK(hop(table).destination == kRouterMac);
    table.keep_routes({});
    CHECK(table.next_hops().empty());
}
