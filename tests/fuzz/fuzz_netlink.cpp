// What the kernel says about routes, neighbours and links: no datagram harms the reader, and what follows
// from the messages for next hops stays inside its bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "control/publish/netlink_messages.h"
#include "control/publish/route_table.h"

namespace {

using namespace detour;
using namespace detour::publish;

void require(bool condition) {
    if (!condition) std::abort();
}

void feed(RouteTable& table, const netlink::Message& message, std::uint8_t place) {
    if (const auto* link = std::get_if<netlink::Link>(&message)) table.update(*link);
    if (const auto* neighbour = std::get_if<netlink::Neighbour>(&message)) (void)table.update(*neighbour);
    if (const auto* answer = std::get_if<netlink::RouteAnswer>(&message)) {
        require(answer->route.paths.size() <= netlink::kMaxPaths);
        table.set_route(api::IpAddress::v4({10, 1, 0, place}), answer->route);
    }
}

void check(const NextHops& hops) {
    for (const auto& [destination, hop] : hops) {
        require(hop.resolved == hop.problem.empty());
        if (hop.resolved) require(hop.mtu >= 1280 && hop.mtu <= 9978 && hop.port.value() < 2);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto messages = netlink::parse({data, size});
    if (!messages) {
        require(!messages.error().what.empty());
        return 0;
    }
    require(messages->size() * 16 <= size);
    RouteTable table({"eth0", "eth1"});
    // Twice: the second time with neighbours in use.
    for (int round = 0; round < 2; ++round) {
        std::uint8_t place = 0;
        for (const auto& message : *messages) feed(table, message, place++);
        const NextHops hops = table.next_hops();
        check(hops);
        require(table.next_hops() == hops);
        require(table.to_ask(3).size() <= 3);
    }
    table.begin_dump();
    check(table.next_hops());
    return 0;
}
