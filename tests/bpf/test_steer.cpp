// Steering and guard: which frames are ours. Both must give the same answer to every row.
#include <doctest/doctest.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "dataplane/bpf/steer_maps.h"
#include "tests/bpf/program.h"

using detour::bpf_tests::Bytes;
using detour::bpf_tests::Program;
using detour::bpf_tests::Ran;
using detour::support::Frame;
using detour::support::kSyn;

namespace {

constexpr std::string_view kVip4 = "203.0.113.10";
constexpr std::string_view kVip6 = "2001:db8:f::10";
constexpr std::string_view kOther4 = "203.0.113.11";
constexpr std::string_view kOther6 = "2001:db8:f::11";
constexpr std::string_view kClient4 = "198.51.100.7";
constexpr std::string_view kClient6 = "2001:db8:c::7";
constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;

steer_address address_key(std::string_view text) {
    const Bytes bytes = detour::support::address_bytes(text);
    steer_address key{};
    key.family = bytes.size() == 4 ? STEER_FAMILY_V4 : STEER_FAMILY_V6;
    std::copy(bytes.begin(), bytes.end(), key.bytes);
    return key;
}

void fill(const Program& program) {
    const std::uint8_t present = 1;
    for (const auto vip : {kVip4, kVip6}) {
        program.put("vip_addresses", address_key(vip), present);
        for (const std::uint8_t protocol : {kTcp, kUdp}) {
            // TCP 443 and UDP 53, so that a port of one protocol is another port of the other.
            const steer_vip key{address_key(vip), protocol, __builtin_bswap16(protocol == kTcp ? 443 : 53)};
            program.put("vips", key, present);
        }
    }
}

Frame link() {
    return Frame().ether("02:00:00:00:00:01", "02:00:00:00:00:02");
}
Frame to4(std::string_view address = kVip4) {
    return link().ipv4(kClient4, address);
}
Frame to6(std::string_view address = kVip6) {
    return link().ipv6(kClient6, address);
}
Bytes tcp(Frame frame, std::uint16_t port = 443) {
    return frame.tcp({.source = 40000, .destination = port, .flags = kSyn}).payload(4).bytes();
}
Bytes udp(Frame frame, std::uint16_t port = 53) {
    return frame.udp(40000, port).payload(4).bytes();
}
Frame tagged(Frame inner, int tags) {
    Frame frame = link();
    for (int i = 0; i < tags; ++i) frame.vlan(static_cast<std::uint16_t>(i + 1), i == 0 ? 0x88a8 : 0x8100);
    return frame.inner(inner.bytes());
}
Frame extended(int headers, std::uint8_t type = 60) {
    Frame frame = to6();
    for (int i = 0; i < headers; ++i) frame.extension(type);
    return frame;
}
Bytes changed(Bytes frame, std::size_t at, std::uint8_t value) {
    frame.at(at) = value;
    return frame;
}

enum class To : std::uint8_t { kUs, kKernel };
struct Row {
    const char* name;
    To to;
    Bytes frame;
};

const Row kRows[] = {
    {"v4 TCP to the VIP", To::kUs, tcp(to4())},
    {"v4 UDP to the VIP", To::kUs, udp(to4())},
    {"v6 TCP to the VIP", To::kUs, tcp(to6())},
    {"v6 UDP to the VIP", To::kUs, udp(to6())},
    {"v4 TCP to another port", To::kKernel, tcp(to4(), 22)},
    {"v4 UDP to another port", To::kKernel, udp(to4(), 443)},
    {"v6 TCP to another port", To::kKernel, tcp(to6(), 53)},
    {"v6 UDP to another port", To::kKernel, udp(to6(), 443)},
    {"v4 TCP to another address", To::kKernel, tcp(to4(kOther4))},
    {"v6 TCP to another address", To::kKernel, tcp(to6(kOther6))},
    {"from the VIP, not to it", To::kKernel, tcp(link().ipv4(kVip4, kClient4))},
    {"v4 options before TCP", To::kUs, tcp(link().ipv4(kClient4, kVip4, {.options = Bytes(12, 1)}))},
    {"v4 options before another port", To::kKernel,
     tcp(link().ipv4(kClient4, kVip4, {.options = Bytes(12, 1)}), 22)},
    {"first fragment of another port", To::kUs,
     tcp(link().ipv4(kClient4, kVip4, {.df = false, .fragment = 0x2000}), 22)},
    {"later fragment", To::kUs,
     link().ipv4(kClient4, kVip4, {.df = false, .protocol = kUdp, .fragment = 100}).payload(64).bytes()},
    {"fragment to another address", To::kKernel,
     link().ipv4(kClient4, kOther4, {.df = false, .protocol = kUdp, .fragment = 100}).payload(64).bytes()},
    {"v6 fragment", To::kUs, udp(to6().fragment(1), 443)},
    {"v6 fragment behind options", To::kUs, udp(to6().extension(60).fragment(64), 443)},
    {"v6 fragment to another address", To::kKernel, udp(to6(kOther6).fragment(1))},
    {"ping to the VIP", To::kUs, to4().icmp(8, 0, 1).payload(8).bytes()},
    {"ping to another address", To::kKernel, to4(kOther4).icmp(8, 0, 1).payload(8).bytes()},
    {"ICMP too big to the VIP", To::kUs, to4().icmp(3, 4, 1400).payload(28).bytes()},
    {"v6 ping to the VIP", To::kUs, to6().icmp(128, 0, 1).payload(8).bytes()},
    {"ICMPv6 too big to the VIP", To::kUs, to6().icmp(2, 0, 1400).payload(48).bytes()},
    {"neighbour solicitation for the VIP", To::kKernel, to6().icmp(135, 0, 0).payload(16).bytes()},
    {"ICMPv6 132, the last before neighbour discovery", To::kUs, to6().icmp(132, 0, 0).payload(16).bytes()},
    {"ICMPv6 137, the last of neighbour discovery", To::kKernel, to6().icmp(137, 0, 0).payload(16).bytes()},
    {"ICMPv6 138", To::kUs, to6().icmp(138, 0, 0).payload(16).bytes()},
    {"ICMPv6 number in IPv4", To::kKernel,
     link().ipv4(kClient4, kVip4, {.protocol = 58}).payload(20).bytes()},
    {"GRE to the VIP's address", To::kKernel, to4().gre().payload(20).bytes()},
    {"hop-by-hop options", To::kUs, tcp(extended(1, 0))},
    {"routing header", To::kUs, tcp(extended(1, 43))},
    {"authentication header", To::kUs, tcp(extended(1, 51))},
    {"authentication header, another port", To::kKernel, tcp(extended(1, 51), 22)},
    {"8 extension headers, the limit", To::kUs, tcp(extended(8))},
    {"8 extension headers and another port", To::kKernel, tcp(extended(8), 22)},
    {"9 extension headers, which nobody reads", To::kUs, tcp(extended(9), 22)},
    {"extension header of 2 KiB", To::kUs, tcp(to6().extension(60, 255), 22)},
    {"extension headers to another address", To::kKernel, tcp(to6(kOther6).extension(60))},
    {"v4 header length 4", To::kUs, changed(tcp(to4(), 22), 14, 0x44)},
    {"v4 header length beyond the frame", To::kUs,
     changed(link().ipv4(kClient4, kVip4, {.protocol = kTcp}).payload(20).bytes(), 14, 0x4f)},
    {"IPv4 type, IP version 6", To::kKernel, changed(tcp(to4()), 14, 0x65)},
    {"ARP", To::kKernel, changed(tcp(to4()), 13, 0x06)},
};

/// A steering program with a socket on queue 0, which test runs come in by.
struct Scene {
    Program steer{DETOUR_STEER_OBJECT, "detour_steer"};
    Program guard{DETOUR_GUARD_OBJECT, "detour_guard"};
    int socket = ::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

    Scene() {
        fill(steer);
        fill(guard);
        REQUIRE(socket >= 0);
        steer.put("xsks_map", std::uint32_t{0}, socket);
    }
    Scene(const Scene&) = delete;
    Scene& operator=(const Scene&) = delete;
    ~Scene() { ::close(socket); }
};

void expect(const Scene& scene, const Bytes& frame, To to) {
    const Ran steered = scene.steer.run(frame);
    CHECK(steered.verdict == (to == To::kUs ? XDP_REDIRECT : XDP_PASS));
    CHECK(steered.frame == frame);
    if (!scene.guard.takes(frame)) return;
    const Ran guarded = scene.guard.run(frame);
    CHECK(guarded.verdict == static_cast<std::uint32_t>(to == To::kUs ? TC_ACT_SHOT : TC_ACT_UNSPEC));
    CHECK(guarded.frame == frame);
}

}  // namespace

TEST_CASE("the steering program takes exactly what is a VIP's, and the guard drops the same") {
    const Scene scene;
    for (const Row& row : kRows) {
        CAPTURE(std::string(row.name));
        const auto before = scene.guard.counter("guard_dropped", 0);
        expect(scene, row.frame, row.to);
        CHECK(scene.guard.counter("guard_dropped", 0) - before == (row.to == To::kUs ? 1 : 0));
    }
}

TEST_CASE("two VLAN tags are looked through, three are the kernel's") {
    const Scene scene;
    const Frame vip = to4().tcp({.source = 1, .destination = 443, .flags = kSyn});
    const Frame ssh = to4().tcp({.source = 1, .destination = 22, .flags = kSyn});
    for (const int tags : {1, 2}) {
        CAPTURE(tags);
        expect(scene, tagged(vip, tags).bytes(), To::kUs);
        expect(scene, tagged(ssh, tags).bytes(), To::kKernel);
    }
    expect(scene, tagged(vip, 3).bytes(), To::kKernel);
}

TEST_CASE(
    "a frame cut anywhere is the kernel's until its address shows, then ours unless its port is another's") {
    const Scene scene;
    struct Cut {
        const char* name;
        Bytes frame;
        std::size_t address_ends;
        std::size_t port_ends;
        To whole;
    };
    const Cut cuts[] = {
        {"v4 VIP", tcp(to4()), 34, 38, To::kUs},
        {"v6 VIP", tcp(to6()), 54, 58, To::kUs},
        {"v4 ssh", tcp(to4(), 22), 34, 38, To::kKernel},
        {"v6 ssh", tcp(to6(), 22), 54, 58, To::kKernel},
        {"v6 options, VIP", tcp(extended(2)), 54, 74, To::kUs},
        {"v6 options, ssh", tcp(extended(2), 22), 54, 74, To::kKernel},
    };
    for (const Cut& cut : cuts) {
        for (std::size_t size = 14; size <= cut.frame.size(); ++size) {
            CAPTURE(std::string(cut.name));
            CAPTURE(size);
            const To to = size < cut.address_ends ? To::kKernel : size < cut.port_ends ? To::kUs : cut.whole;
            expect(scene, Bytes(cut.frame.begin(), cut.frame.begin() + static_cast<std::ptrdiff_t>(size)),
                   to);
        }
    }
}

TEST_CASE("without a socket VIP packets are dropped and counted, and the kernel keeps the rest") {
    const Program steer(DETOUR_STEER_OBJECT, "detour_steer");
    fill(steer);
    CHECK(steer.run(tcp(to4())).verdict == XDP_DROP);
    CHECK(steer.run(tcp(to4(), 22)).verdict == XDP_PASS);
    CHECK(steer.counter("steer_counters", STEER_NO_SOCKET) == 1);
    CHECK(steer.counter("steer_counters", STEER_TAKEN) == 0);
}

TEST_CASE("with empty maps everything is the kernel's") {
    const Program steer(DETOUR_STEER_OBJECT, "detour_steer");
    const Program guard(DETOUR_GUARD_OBJECT, "detour_guard");
    for (const Row& row : kRows) {
        CAPTURE(std::string(row.name));
        CHECK(steer.run(row.frame).verdict == XDP_PASS);
        CHECK(guard.run(row.frame).verdict == static_cast<std::uint32_t>(TC_ACT_UNSPEC));
    }
}
