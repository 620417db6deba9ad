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
        (void)!std::system("ip link del near 2>/dev/null; ip link del other 2>/dev/null");
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

    Bench()
        : routes(io, {.ports = {"near"}, .debounce = 10ms, .ask_every = 100ms}, [this](const NextHops& told) {
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

}  // namespace

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
