// Next hops from a real kernel, in network namespaces of the test's own.
//
// The test process moves into a new namespace with a veth whose far end lies in a second one. Needs root;
// without it the program ends with 77 and says so.
#include "control/publish/kernel_routes.h"

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace detour;
using namespace std::chrono_literals;
using publish::NextHop;
using publish::NextHops;

namespace {

const auto kGateway = api::IpAddress::parse("10.77.0.2").value();
const auto kBehind = api::IpAddress::parse("10.78.0.9").value();
const auto kBehind6 = api::IpAddress::parse("2001:db8:78::9").value();
const auto kNowhere = api::IpAddress::parse("10.99.0.1").value();
const auto kElsewhere = api::IpAddress::parse("10.79.0.9").value();
const api::Mac kNear{{2, 0, 0, 0, 0, 1}};
const api::Mac kFar{{2, 0, 0, 0, 0, 2}};

void run(const std::string& command) {
    CAPTURE(command);
    REQUIRE(std::system(command.c_str()) == 0);
}

/// veth "near" here, "far" in a second namespace that lives as long as its holder process.
struct Wire {
    Wire() {
        FILE* holder = popen("unshare -n sh -c 'echo $$; exec sleep 300'", "r");
        REQUIRE(holder != nullptr);
        REQUIRE(std::fscanf(holder, "%d", &pid) == 1);
        stream = holder;
        const std::string id = std::to_string(pid);
        far = "nsenter -t " + id + " -n ";
        run("ip link add near type veth peer name far netns " + id);
        run("ip link add other type veth peer name other-peer");
        run("ip link set near address 02:00:00:00:00:01; ip link set near mtu 1480");
        run(far + "ip link set far address 02:00:00:00:00:02");
        run("ip addr add 10.77.0.1/24 dev near; ip addr add 2001:db8:77::1/64 dev near nodad");
        run(far + "ip addr add 10.77.0.2/24 dev far; " + far + "ip addr add 2001:db8:77::2/64 dev far nodad");
        run("ip link set lo up; ip link set near up; ip link set other up; ip link set other-peer up");
        run(far + "ip link set far mtu 1480; " + far + "ip link set far up");
        run("ip addr add 10.79.0.1/24 dev other");
        run("ip route add 10.78.0.0/24 via 10.77.0.2; ip -6 route add 2001:db8:78::/64 via 2001:db8:77::2");
    }
    ~Wire() {
        kill(pid, SIGKILL);
        pclose(stream);
        (void)!std::system("for link in near other near2; do ip link del $link; done >/dev/null 2>&1");
        (void)!std::system("ip nexthop flush >/dev/null 2>&1");
    }
    Wire(const Wire&) = delete;
    Wire& operator=(const Wire&) = delete;

    int pid = 0;
    std::string far;  ///< prefix of a command that runs at the far end
    FILE* stream = nullptr;
};

struct Bench {
    boost::asio::io_context io;
    std::optional<NextHops> hops;
    int changes = 0;
    publish::KernelRoutes routes;

    explicit Bench(std::vector<std::string> ports = {"near"})
        : routes(io, {.ports = std::move(ports), .debounce = 10ms, .ask_every = 100ms},
                 [this](const NextHops& told) {
                     hops = told;
                     ++changes;
                 }) {}

    void wait_for(const std::function<bool()>& done) {
        const auto limit = std::chrono::steady_clock::now() + 10s;
        while (!done() && std::chrono::steady_clock::now() < limit) io.run_one_for(100ms);
        REQUIRE(done());
    }
    [[nodiscard]] NextHop hop(const api::IpAddress& address) const {
        return hops && hops->contains(address) ? hops->at(address) : NextHop{};
    }
};

/// A second link to the far end, with a gateway of its own.
void add_second_link(const Wire& wire) {
    run("ip link add near2 type veth peer name far2 netns " + std::to_string(wire.pid));
    run("ip addr add 10.76.0.1/24 dev near2; ip addr add 2001:db8:76::1/64 dev near2 nodad; ip link set "
        "near2 up");
    run(wire.far + "ip addr add 10.76.0.2/24 dev far2; " + wire.far +
        "ip addr add 2001:db8:76::2/64 dev far2 nodad; " + wire.far + "ip link set far2 up");
}

std::vector<api::IpAddress> many_behind(bool v6) {
    std::vector<api::IpAddress> many;
    for (int i = 1; i <= 40; ++i)
        many.push_back(
            api::IpAddress::parse((v6 ? "2001:db8:78::" : "10.78.0.") + std::to_string(i)).value());
    return many;
}

/// How many of the addresses leave by each port; nothing is counted while one is unresolved.
std::vector<int> spread(const Bench& bench, const std::vector<api::IpAddress>& addresses) {
    std::vector<int> counts(2);
    for (const auto& address : addresses) {
        const NextHop hop = bench.hop(address);
        if (!hop.resolved) return {0, 0};
        ++counts[hop.port.value()];
    }
    return counts;
}

}  // namespace

TEST_CASE("the ways of a multipath route are all used, and one that is no good is left while it is") {
    struct Row {
        std::string name;
        bool v6;
        std::string both;   ///< the route by both gateways
        std::string again;  ///< what the link's loss took away for good
    };
    for (const Row& row : {
             Row{"IPv4, next hops in the route", false,
                 "ip route replace 10.78.0.0/24 nexthop via 10.77.0.2 nexthop via 10.76.0.2", "true"},
             // The kernel deletes next hop objects whose link is lost; who made them makes them anew.
             Row{"IPv4, a group of next hop objects", false,
                 "ip nexthop add id 1 via 10.77.0.2 dev near; ip nexthop add id 2 via 10.76.0.2 dev near2;"
                 "ip nexthop add id 3 group 1/2; ip route replace 10.78.0.0/24 nhid 3",
                 "ip nexthop add id 2 via 10.76.0.2 dev near2; ip nexthop replace id 3 group 1/2"},
             Row{"IPv6, next hops in the route", true,
                 "ip -6 route del 2001:db8:78::/64; ip -6 route add 2001:db8:78::/64 "
                 "nexthop via 2001:db8:77::2 nexthop via 2001:db8:76::2",
                 "true"},
         }) {
        CAPTURE(row.name);
        Wire wire;
        add_second_link(wire);
        run(row.both);
        Bench bench({"near", "near2"});
        REQUIRE(bench.routes.start());
        const auto addresses = many_behind(row.v6);
        bench.routes.watch(addresses);
        const auto both_used = [&] {
            const auto counts = spread(bench, addresses);
            return counts[0] >= 5 && counts[1] >= 5;
        };
        const auto first_only = [&] { return spread(bench, addresses) == std::vector{40, 0}; };
        bench.wait_for(both_used);
        const NextHops before = *bench.hops;

        run(wire.far + "ip link set far2 down");
        bench.wait_for(first_only);
        run(wire.far + "ip link set far2 up");
        run(wire.far + "ip addr replace 2001:db8:76::2/64 dev far2 nodad");
        run(row.again);
        bench.wait_for([&] { return *bench.hops == before; });

        const std::string gateway = row.v6 ? "2001:db8:76::2" : "10.76.0.2";
        const std::string subnet = row.v6 ? "/64" : "/24";
        run(wire.far + "ip addr del " + gateway + subnet + " dev far2");
        run("ip neigh replace " + gateway + " dev near2 nud failed");
        bench.wait_for(first_only);
        run(wire.far + "ip addr add " + gateway + subnet + " dev far2" + (row.v6 ? " nodad" : ""));
        bench.wait_for([&] { return *bench.hops == before; });
    }
}

TEST_CASE("a group of next hop objects that shrinks takes its addresses along") {
    Wire wire;
    add_second_link(wire);
    run("ip nexthop add id 1 via 10.77.0.2 dev near; ip nexthop add id 2 via 10.76.0.2 dev near2");
    run("ip nexthop add id 3 group 1/2; ip route replace 10.78.0.0/24 nhid 3");
    Bench bench({"near", "near2"});
    REQUIRE(bench.routes.start());
    const auto addresses = many_behind(false);
    bench.routes.watch(addresses);
    bench.wait_for([&] { return spread(bench, addresses)[1] >= 5; });
    run("ip nexthop replace id 3 group 2");
    bench.wait_for([&] { return spread(bench, addresses) == std::vector{0, 40}; });
}

TEST_CASE("a way by an interface that is no port is not taken while there is another") {
    Wire wire;
    add_second_link(wire);
    run("ip route replace 10.78.0.0/24 nexthop via 10.77.0.2 nexthop via 10.76.0.2");
    Bench bench;
    REQUIRE(bench.routes.start());
    const auto addresses = many_behind(false);
    bench.routes.watch(addresses);
    bench.wait_for([&] { return spread(bench, addresses) == std::vector{40, 0}; });
}

TEST_CASE("gateways and neighbours on the link are resolved by asking, others say why not") {
    Wire wire;
    Bench bench;
    REQUIRE(bench.routes.start());
    bench.routes.watch({kGateway, kBehind, kBehind6, kNowhere, kElsewhere});
    bench.wait_for([&] {
        return bench.hop(kGateway).resolved && bench.hop(kBehind).resolved && bench.hop(kBehind6).resolved;
    });
    const NextHop expected{api::EgressPort(0), kNear, kFar, 1480, true, ""};
    CHECK(bench.hop(kGateway) == expected);
    CHECK(bench.hop(kBehind) == expected);
    CHECK(bench.hop(kBehind6) == expected);
    CHECK(bench.hop(kNowhere).problem.find("no route to 10.99.0.1") != std::string::npos);
    CHECK(bench.hop(kElsewhere).problem.find("leaves by other") != std::string::npos);
}

TEST_CASE("a neighbour's new hardware address, a new route and a new MTU are noticed") {
    Wire wire;
    Bench bench;
    REQUIRE(bench.routes.start());
    bench.routes.watch({kBehind});
    bench.wait_for([&] { return bench.hop(kBehind).resolved; });

    run("ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:99 dev near nud permanent");
    const api::Mac changed{{2, 0, 0, 0, 0, 0x99}};
    bench.wait_for([&] { return bench.hop(kBehind).destination == changed; });

    run("ip route replace 10.78.0.0/24 via 10.77.0.2 mtu 1400");
    bench.wait_for([&] { return bench.hop(kBehind).mtu == 1400; });

    run("ip route del 10.78.0.0/24");
    bench.wait_for([&] { return !bench.hop(kBehind).resolved; });

    run("ip route add 10.78.0.0/24 via 10.77.0.2");
    bench.wait_for([&] { return bench.hop(kBehind).resolved && bench.hop(kBehind).mtu == 1480; });

    run("ip link set near mtu 1400");
    bench.wait_for([&] { return bench.hop(kBehind).mtu == 1400; });
}

TEST_CASE("a neighbour that dies keeps its address, and one that appears later is found") {
    Wire wire;
    Bench bench;
    REQUIRE(bench.routes.start());
    run(wire.far + "ip link set far down");
    bench.routes.watch({kBehind});
    bench.wait_for([&] { return bench.changes == 1; });
    CHECK_FALSE(bench.hop(kBehind).resolved);
    run(wire.far + "ip link set far up");
    bench.wait_for([&] { return bench.hop(kBehind).resolved; });
    const int before = bench.changes;
    run("ip neigh flush dev near");
    run("ip neigh replace 10.77.0.2 dev near nud failed");
    bench.io.run_for(300ms);
    CHECK(bench.hop(kBehind).destination == kFar);
    CHECK(bench.changes == before);
}

TEST_CASE("5,000 addresses are looked up without holding the loop") {
    Wire wire;
    Bench bench;
    REQUIRE(bench.routes.start());
    std::vector<api::IpAddress> many;
    for (unsigned i = 0; i < 5'000; ++i) {
        const auto high = static_cast<std::uint8_t>(i >> 8U);
        many.push_back(api::IpAddress::v4({10, 78, high, static_cast<std::uint8_t>(i)}));
    }
    run("ip route add 10.78.0.0/16 via 10.77.0.2");
    bench.routes.watch(many);
    bench.wait_for(
        [&] { return bench.hops && bench.hops->size() == 5'000 && bench.hop(many[4'999]).resolved; });
    CHECK(bench.changes <= 3);
}

int main(int argc, char** argv) {
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) {
        std::puts("skipped: making network namespaces needs root");
        return 77;
    }
    doctest::Context context(argc, argv);
    return context.run();
}
