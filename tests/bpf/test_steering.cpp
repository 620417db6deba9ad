// The loader of steering and guard on a real interface, with this test in the place of DPDK's driver. What
// counts: through a kill and a restart the kernel never answers a client of a VIP.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <doctest/doctest.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "dataplane/api/limits.h"
#include "dataplane/bpf/attached.h"
#include "dataplane/bpf/steering.h"
#include "tests/bpf/program.h"

using namespace detour;
using bpf_tests::Program;
using support::Bytes;
using support::Frame;

namespace {

constexpr const char* kEdge = "edge";
constexpr std::string_view kEdgeMac = "02:00:00:00:00:0e";
constexpr std::string_view kWireMac = "02:00:00:00:00:0f";
constexpr std::string_view kVip4 = "203.0.113.10";
constexpr std::string_view kVip6 = "2001:db8:f::10";
constexpr std::string_view kClient4 = "198.51.100.7";
constexpr std::string_view kClient6 = "2001:db8:c::7";
constexpr std::uint16_t kVipPort = 443;
constexpr std::uint16_t kOtherPort = 9999;
constexpr int kDeadlineMilliseconds = 5000;

/// This process in a network namespace of its own, which ends with it: `edge` has the VIPs, `wire` is its
/// cable.
class Namespace {
  public:
    Namespace() {
        REQUIRE(unshare(CLONE_NEWNET) == 0);
        const std::string edge = " address " + std::string(kEdgeMac),
                          wire = " address " + std::string(kWireMac);
        run("ip link add edge" + edge + " type veth peer name wire" + wire);
        run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.edge.rp_filter=0"
            " net.ipv6.conf.edge.accept_dad=0 net.ipv6.conf.wire.disable_ipv6=1");
        run("ip link set lo up && ip link set edge up && ip link set wire up");
        run("ethtool -K edge tx off >/dev/null && ethtool -K wire tx off >/dev/null");
        run("ip addr add 203.0.113.10/32 dev edge && ip addr add 2001:db8:f::10/128 dev edge nodad");
        for (const auto client : {kClient4, kClient6}) {
            const std::string to(client);
            run("ip route add " + to + " dev edge && ip neigh add " + to + " lladdr " +
                std::string(kWireMac) + " dev edge");
        }
        wire_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
        sockaddr_ll address{};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(ETH_P_ALL);
        address.sll_ifindex = static_cast<int>(if_nametoindex("wire"));
        REQUIRE(bind(wire_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    }
    Namespace(const Namespace&) = delete;
    Namespace& operator=(const Namespace&) = delete;
    ~Namespace() { close(wire_); }

    void send(const Bytes& frame) const {
        REQUIRE(::send(wire_, frame.data(), frame.size(), 0) == static_cast<ssize_t>(frame.size()));
    }

    /// The next frame that the kernel sent; a failure when none comes in time.
    [[nodiscard]] Bytes receive() const {
        while (true) {
            pollfd waiting{wire_, POLLIN, 0};
            REQUIRE_MESSAGE(poll(&waiting, 1, kDeadlineMilliseconds) == 1, "nothing came back");
            Bytes frame(2048);
            sockaddr_ll from{};
            socklen_t size = sizeof(from);
            const auto length =
                recvfrom(wire_, frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
            REQUIRE(length > 0);
            if (from.sll_pkttype == PACKET_OUTGOING) continue;
            frame.resize(static_cast<std::size_t>(length));
            return frame;
        }
    }

  private:
    static void run(const std::string& command) {
        REQUIRE_MESSAGE(std::system(command.c_str()) == 0, command);
    }
    int wire_ = -1;
};

Namespace& lab() {
    static Namespace instance;
    return instance;
}

Bytes syn(bool v6, std::uint16_t port) {
    Frame frame = Frame().ether(kWireMac, kEdgeMac);
    v6 ? frame.ipv6(kClient6, kVip6) : frame.ipv4(kClient4, kVip4);
    return frame.tcp({.source = 40000, .destination = port, .flags = support::kSyn, .window = 65535}).bytes();
}

/// The port of the VIP that a TCP reset in `frame` comes from; 0 when it is none.
std::uint16_t reset_from(bool v6, const Bytes& frame) {
    const std::size_t tcp = v6 ? 54 : 34;
    const std::uint8_t version = v6 ? 0x60 : 0x45;
    const std::size_t protocol = v6 ? 20 : 23;
    if (frame.size() < tcp + 20 || frame[14] != version || frame[protocol] != 6) return 0;
    return (frame[tcp + 13] & support::kRst) == 0
               ? std::uint16_t{0}
               : static_cast<std::uint16_t>(frame[tcp] << 8 | frame[tcp + 1]);
}

/// A SYN to the VIP, then one to another port of its address, which the kernel resets: whatever it says to
/// the first comes before that.
bool kernel_refuses_vip(bool v6) {
    lab().send(syn(v6, kVipPort));
    lab().send(syn(v6, kOtherPort));
    bool refused = false;
    while (true) {
        const std::uint16_t port = reset_from(v6, lab().receive());
        if (port == kOtherPort) return refused;
        refused = refused || port == kVipPort;
    }
}

/// What DPDK's af_xdp driver does (load_custom_xdp_prog): first program of the object, only on a free
/// interface.
int attach_as_the_driver_does() {
    const auto path = bpf::steering_object_path();
    REQUIRE(path);
    bpf_object* object = bpf_object__open_file(path->c_str(), nullptr);
    REQUIRE(bpf_object__load(object) == 0);
    REQUIRE(bpf_object__find_map_by_name(object, "xsks_map") != nullptr);
    const int fd = bpf_program__fd(bpf_object__next_program(object, nullptr));
    const bpf::QuietLibbpf quiet;
    const int error =
        bpf_xdp_attach(static_cast<int>(if_nametoindex(kEdge)), fd, XDP_FLAGS_UPDATE_IF_NOEXIST, nullptr);
    // The process dies here as far as the kernel can tell: the descriptors go, the attached program stays.
    bpf_object__close(object);
    return error;
}

api::Vip vip(const std::string& text) {
    const auto parsed = api::Vip::parse(text);
    REQUIRE(parsed);
    return *parsed;
}

std::vector<api::Vip> both_vips() {
    return {vip("203.0.113.10:443/tcp"), vip("[2001:db8:f::10]:443/tcp")};
}

void check_no_answer(const char* when) {
    CAPTURE(std::string(when));
    CHECK_FALSE(kernel_refuses_vip(false));
    CHECK_FALSE(kernel_refuses_vip(true));
}

/// Takes everything off, whatever a failed test left.
void clean() {
    (void)lab();
    (void)bpf::remove_stale(kEdge);
    auto guard = bpf::Guard::install(kEdge, {});
    REQUIRE(guard);
    REQUIRE(guard->remove());
}

template <class T>
api::ErrorCode code_of(const api::Result<T>& result) {
    REQUIRE_FALSE(result.has_value());
    return result.error().code;
}

std::vector<api::Vip> sorted(std::vector<api::Vip> vips) {
    std::ranges::sort(vips);
    return vips;
}

}  // namespace

TEST_CASE("without a guard the kernel refuses a VIP's clients: the test can see it") {
    clean();
    CHECK(kernel_refuses_vip(false));
    CHECK(kernel_refuses_vip(true));
}

TEST_CASE("from a kill to the first VIPs of the next process the kernel answers no client") {
    clean();
    const auto vips = both_vips();
    {
        auto guard = bpf::take_over(kEdge, vips);
        REQUIRE(guard);
        check_no_answer("before the first start");
        REQUIRE(attach_as_the_driver_does() == 0);
        check_no_answer("attached, maps still empty");
        CHECK(guard->dropped().value_or(0) >= 4);
        auto steering = bpf::Steering::find(kEdge);
        REQUIRE(steering);
        REQUIRE(bpf::set_vips(*guard, *steering, vips));
        const auto dropped = guard->dropped().value_or(0);
        check_no_answer("steering, no socket");
        CHECK_MESSAGE(guard->dropped() == dropped, "the steering program dropped them, not the guard");
    }
    check_no_answer("killed");
    CHECK(attach_as_the_driver_does() == -EBUSY);
    for (int restart = 0; restart < 3; ++restart) {
        // Nothing on disk: what the dead process left behind is all there is.
        auto guard = bpf::take_over(kEdge, {});
        REQUIRE(guard);
        check_no_answer("stale program detached");
        CHECK(sorted(*guard->maps().read()) == sorted(vips));
        if (restart == 1) continue;  // killed between take_over and the driver's attach
        REQUIRE(attach_as_the_driver_does() == 0);
        check_no_answer("attached anew");
    }
    auto guard = bpf::take_over(kEdge, vips);
    REQUIRE(guard);
    REQUIRE(guard->remove());
    REQUIRE(guard->remove());
    CHECK(kernel_refuses_vip(false));
}

TEST_CASE("a VIP that is taken from the plan is the kernel's again, a new one is not") {
    clean();
    auto guard = bpf::take_over(kEdge, {});
    REQUIRE(guard);
    REQUIRE(attach_as_the_driver_does() == 0);
    auto steering = bpf::Steering::find(kEdge);
    REQUIRE(steering);
    CHECK(kernel_refuses_vip(false));
    REQUIRE(bpf::set_vips(*guard, *steering, both_vips()));
    check_no_answer("both VIPs");
    REQUIRE(bpf::set_vips(*guard, *steering, std::vector{vip("203.0.113.10:443/tcp")}));
    CHECK_FALSE(kernel_refuses_vip(false));
    CHECK(kernel_refuses_vip(true));
    REQUIRE(bpf::set_vips(*guard, *steering, {}));
    CHECK(kernel_refuses_vip(false));
    clean();
}

TEST_CASE("set_vips leaves exactly what it was given, up to the most that a plan holds") {
    clean();
    auto guard = bpf::Guard::install(kEdge, both_vips());
    REQUIRE(guard);
    CHECK(sorted(*guard->maps().read()) == sorted(both_vips()));
    const auto many = [](std::uint8_t third) {
        std::vector<api::Vip> vips;
        for (std::size_t i = 0; i < api::kMaxVips; ++i) {
            const auto high = static_cast<std::uint8_t>(i >> 8U), low = static_cast<std::uint8_t>(i);
            vips.push_back({api::IpAddress::v4({10, third, high, low}), api::Port(80), api::Protocol::kUdp});
        }
        return vips;
    };
    for (const std::uint8_t third : {std::uint8_t{1}, std::uint8_t{2}}) {
        REQUIRE(guard->set_vips(many(third)));
        CHECK(sorted(*guard->maps().read()) == many(third));
    }
    REQUIRE(guard->maps().add(many(1)));
    CHECK(code_of(guard->maps().add(both_vips())) == api::ErrorCode::kLimit);
    REQUIRE(guard->set_vips({}));
    CHECK(guard->maps().read()->empty());
    REQUIRE(guard->remove());
}

TEST_CASE("the program of another is left alone and named") {
    clean();
    const Program other(DETOUR_DECAP_OBJECT, "detour_decap_x");
    const int edge = static_cast<int>(if_nametoindex(kEdge));
    REQUIRE(bpf_xdp_attach(edge, other.fd(), XDP_FLAGS_SKB_MODE, nullptr) == 0);
    const auto removed = bpf::remove_stale(kEdge);
    CHECK(code_of(removed) == api::ErrorCode::kRefused);
    CHECK(removed.error().what.find("'detour_decap_x'") != std::string::npos);
    CHECK(code_of(bpf::take_over(kEdge, both_vips())) == api::ErrorCode::kRefused);
    CHECK(code_of(bpf::Steering::find(kEdge)) == api::ErrorCode::kRefused);
    CHECK(bpf::attached_xdp(edge)->has_value());
    REQUIRE(bpf_xdp_detach(edge, XDP_FLAGS_SKB_MODE, nullptr) == 0);
    clean();
}

TEST_CASE("the filter of another in the guard's place is left alone and named") {
    clean();
    const Program other(DETOUR_DECAP_OBJECT, "detour_clamp");
    const int edge = static_cast<int>(if_nametoindex(kEdge));
    REQUIRE(bpf::attach_guard(edge, other.fd(), bpf::Place::kFree));
    const auto guard = bpf::Guard::install(kEdge, {});
    CHECK(code_of(guard) == api::ErrorCode::kRefused);
    CHECK(guard.error().what.find("'detour_clamp'") != std::string::npos);
    CHECK(bpf::attached_guard(edge)->has_value());
    REQUIRE(bpf::detach_guard(edge));
}

TEST_CASE("nothing attached and no interface are told apart") {
    clean();
    CHECK(bpf::remove_stale(kEdge));
    CHECK(code_of(bpf::Steering::find(kEdge)) == api::ErrorCode::kNotFound);
    CHECK(code_of(bpf::Steering::find("nosuch0")) == api::ErrorCode::kNotFound);
    CHECK(code_of(bpf::take_over("nosuch0", {})) == api::ErrorCode::kNotFound);
    CHECK(code_of(bpf::remove_stale("nosuch0")) == api::ErrorCode::kNotFound);
    CHECK(code_of(bpf::Guard::install("nosuch0", {})) == api::ErrorCode::kNotFound);
}
