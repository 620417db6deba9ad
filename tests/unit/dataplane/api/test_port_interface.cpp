// Which interface of the kernel stands beside a port.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "dataplane/api/port_interface.h"

using namespace detour;

TEST_CASE("a port leads to its interface; one that is owned whole to the TAP of its place") {
    struct Row {
        const char* port;
        unsigned position;
        const char* interface;
        bool whole;
    };
    const std::vector<Row> rows{
        {"eth1", 0, "eth1", false},
        {"bond0.12", 3, "bond0.12", false},
        {"network", 0, "network", false},
        {"net_af_xdp0,iface=veth-a,start_queue=0", 0, "veth-a", false},
        {"net_af_packet0,iface=eth1", 1, "eth1", false},
        {"0000:03:00.0", 0, "detour0", true},
        {"03:00.1", 2, "detour2", true},
        {"net_null0", 1, "detour1", true},
        {"net_ring0,size=4", 15, "detour15", true},
    };
    for (const Row& row : rows) {
        CAPTURE(row.port);
        CHECK(api::interface_of_port(row.port, row.position) == row.interface);
        CHECK(api::is_owned_whole(row.port) == row.whole);
    }
}
