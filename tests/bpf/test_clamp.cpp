// The MSS clamp of SYN-ACKs that leave a VIP. The namespace test covers checksums that a device finishes.
#include <doctest/doctest.h>
#include <linux/pkt_cls.h>

#include <string>

#include "tests/bpf/decap_frames.h"

using namespace detour::bpf_tests;
using detour::support::Frame;
using detour::support::hex;
using detour::support::kAck;
using detour::support::kSyn;

namespace {

struct Row {
    const char* name;
    Bytes options;
    Bytes wanted;  ///< options after it, for IPv4 (limit 1412 = 0x0584)
    decap_counter counter;
};

const Row kRows[] = {
    {"no options", {}, {}, DECAP_SYNACK_KEPT},
    {"MSS first", {2, 4, 0x05, 0xb4}, {2, 4, 0x05, 0x84}, DECAP_SYNACK_CLAMPED},
    {"MSS at the limit", {2, 4, 0x05, 0x84}, {2, 4, 0x05, 0x84}, DECAP_SYNACK_KEPT},
    {"MSS one above the limit", {2, 4, 0x05, 0x85}, {2, 4, 0x05, 0x84}, DECAP_SYNACK_CLAMPED},
    {"MSS below the limit", {2, 4, 0x02, 0x18}, {2, 4, 0x02, 0x18}, DECAP_SYNACK_KEPT},
    {"MSS 65535", {2, 4, 0xff, 0xff}, {2, 4, 0x05, 0x84}, DECAP_SYNACK_CLAMPED},
    {"as Linux sends it: MSS, SACK, timestamps, NOP, window scale",
     {2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7},
     {2, 4, 0x05, 0x84, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7},
     DECAP_SYNACK_CLAMPED},
    {"MSS behind two NOPs",
     {1, 1, 2, 4, 0x05, 0xb4, 1, 1},
     {1, 1, 2, 4, 0x05, 0x84, 1, 1},
     DECAP_SYNACK_CLAMPED},
    {"MSS at an odd offset",
     {1, 2, 4, 0x05, 0xb4, 1, 1, 1},
     {1, 2, 4, 0x05, 0x84, 1, 1, 1},
     DECAP_SYNACK_CLAMPED},
    {"MSS at an odd offset behind the window scale",
     {3, 3, 7, 2, 4, 0x23, 0x28, 0},
     {3, 3, 7, 2, 4, 0x05, 0x84, 0},
     DECAP_SYNACK_CLAMPED},
    {"MSS last of 40 bytes",
     {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,    1,
      1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 0x05, 0xb4},
     {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,    1,
      1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 0x05, 0x84},
     DECAP_SYNACK_CLAMPED},
    {"other options only", {4, 2, 1, 1, 3, 3, 7, 0}, {4, 2, 1, 1, 3, 3, 7, 0}, DECAP_SYNACK_KEPT},
    {"MSS behind the end of options",
     {0, 2, 4, 0x05, 0xb4, 0, 0, 0},
     {0, 2, 4, 0x05, 0xb4, 0, 0, 0},
     DECAP_SYNACK_KEPT},
    {"option of length 0", {3, 0, 2, 4, 0x05, 0xb4, 0, 0}, {3, 0, 2, 4, 0x05, 0xb4, 0, 0}, DECAP_SYNACK_KEPT},
    {"option of length 1", {3, 1, 2, 4, 0x05, 0xb4, 0, 0}, {3, 1, 2, 4, 0x05, 0xb4, 0, 0}, DECAP_SYNACK_KEPT},
    {"option beyond the header",
     {3, 9, 2, 4, 0x05, 0xb4, 0, 0},
     {3, 9, 2, 4, 0x05, 0xb4, 0, 0},
     DECAP_SYNACK_KEPT},
    {"MSS of length 3", {2, 3, 0xff, 0}, {2, 3, 0xff, 0}, DECAP_SYNACK_KEPT},
    {"MSS of length 6", {2, 6, 0xff, 0xff, 0, 0, 0, 0}, {2, 6, 0xff, 0xff, 0, 0, 0, 0}, DECAP_SYNACK_KEPT},
    {"MSS cut by the header's end", {1, 1, 2, 4}, {1, 1, 2, 4}, DECAP_SYNACK_KEPT},
};

struct Way {
    const char* name;
    Frame frame;
};

Way from_vip(Family family) {
    Frame frame = link();
    if (family == Family::kV4) return {"v4", frame.ipv4("203.0.113.10", "198.51.100.7")};
    return {"v6", frame.ipv6("2001:db8:f::10", "2001:db8:c::7")};
}

Bytes syn_ack(Family family, Bytes options, std::uint8_t flags = kSyn | kAck) {
    Frame frame = from_vip(family).frame;
    return frame.tcp({.source = 443, .destination = 40000, .flags = flags, .options = std::move(options)})
        .bytes();
}

/// The options of a v6 row: its limit is 20 bytes lower (1392 = 0x0570).
Bytes for_family(Family family, Bytes options) {
    if (family == Family::kV4) return options;
    for (std::size_t i = 0; i + 1 < options.size(); ++i) {
        if (options[i] == 0x05 && (options[i + 1] == 0x84 || options[i + 1] == 0x85)) options[i + 1] -= 20;
    }
    return options;
}

void expect_kept(const Program& program, const Bytes& frame) {
    const auto before = program.counters("decap_counters", DECAP_COUNTERS);
    const Ran ran = program.run(frame);
    CHECK(ran.verdict == static_cast<std::uint32_t>(TC_ACT_UNSPEC));
    CHECK(ran.frame == frame);
    CHECK(program.counters("decap_counters", DECAP_COUNTERS) == before);
}

}  // namespace

TEST_CASE("the MSS of a VIP's SYN-ACK is at most what the tunnel leaves, wherever the option stands") {
    const Program program = decap_program("detour_clamp");
    for (const Row& row : kRows) {
        for (const Family family : {Family::kV4, Family::kV6}) {
            CAPTURE(std::string(row.name));
            CAPTURE(static_cast<int>(family));
            const auto before = counted(program, row.counter);
            const Ran ran = program.run(syn_ack(family, for_family(family, row.options)));
            // The builder sums up anew, so comparing whole frames checks the incremental checksum too.
            const Bytes wanted = syn_ack(family, for_family(family, row.wanted));
            CHECK(ran.verdict == static_cast<std::uint32_t>(TC_ACT_UNSPEC));
            CHECK_MESSAGE(ran.frame == wanted, "got\n", hex(ran.frame), "\nwanted\n", hex(wanted));
            CHECK(counted(program, row.counter) == before + 1);
        }
    }
}

TEST_CASE("only SYN-ACKs, only of VIPs, only TCP") {
    const Program program = decap_program("detour_clamp");
    const Bytes mss{2, 4, 0x05, 0xb4};
    for (const Family family : {Family::kV4, Family::kV6}) {
        expect_kept(program, syn_ack(family, mss, kSyn));
        expect_kept(program, syn_ack(family, mss, kAck));
    }
    const detour::support::TcpFields fields{
        .source = 443, .destination = 40000, .flags = kSyn | kAck, .options = mss};
    expect_kept(program, link().ipv4("203.0.113.11", "198.51.100.7").tcp(fields).bytes());
    expect_kept(program, link().ipv6("2001:db8:f::11", "2001:db8:c::7").tcp(fields).bytes());
    expect_kept(program, link().ipv4("203.0.113.10", "198.51.100.7").udp(443, 40000).payload(40).bytes());
    expect_kept(program, link().ipv4("203.0.113.10", "198.51.100.7", {.fragment = 3}).tcp(fields).bytes());
}

TEST_CASE("a SYN-ACK behind VLAN tags or IP options is found") {
    const Program program = decap_program("detour_clamp");
    const auto frame = [](std::uint8_t mss_low) {
        const Bytes mss{2, 4, 0x05, mss_low};
        return link()
            .vlan(7)
            .ipv4("203.0.113.10", "198.51.100.7", {.options = Bytes(8, 1)})
            .tcp({.source = 443, .destination = 40000, .flags = kSyn | kAck, .options = mss})
            .bytes();
    };
    CHECK(program.run(frame(0xb4)).frame == frame(0x84));
}

TEST_CASE("a SYN-ACK cut anywhere leaves as it came") {
    const Program program = decap_program("detour_clamp");
    for (const Family family : {Family::kV4, Family::kV6}) {
        const Bytes whole = syn_ack(family, {2, 4, 0x05, 0xb4});
        for (std::size_t size = 14; size < whole.size(); ++size) {
            CAPTURE(size);
            const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
            if (program.takes(cut)) CHECK(program.run(cut).frame == cut);
        }
    }
}
