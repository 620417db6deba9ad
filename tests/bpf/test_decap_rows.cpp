// detour-decap, XDP and tc: every encapsulation and family pair, and every reason to drop.
#include <doctest/doctest.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <functional>
#include <string>

#include "tests/bpf/decap_frames.h"

using namespace detour::bpf_tests;
using detour::support::Frame;
using detour::support::hex;

namespace {

struct Mode {
    const char* program;
    std::uint32_t pass;
    std::uint32_t drop;
};
constexpr std::uint32_t kUnspecified = static_cast<std::uint32_t>(TC_ACT_UNSPEC);
constexpr Mode kModes[] = {{"detour_decap_x", XDP_PASS, XDP_DROP},
                           {"detour_decap_t", kUnspecified, TC_ACT_SHOT}};

/// Runs `frame` and expects that only `counter` counts.
void expect(const Mode& mode, const Program& program, const Bytes& frame, decap_counter counter,
            const Bytes& wanted) {
    const auto before = program.counters("decap_counters", DECAP_COUNTERS);
    const Ran ran = program.run(frame);
    auto after = program.counters("decap_counters", DECAP_COUNTERS);
    after[counter] -= 1;
    CHECK(after == before);
    const bool passes = counter <= DECAP_GRE;
    CHECK(ran.verdict == (passes ? mode.pass : mode.drop));
    if (passes) CHECK_MESSAGE(ran.frame == wanted, "got\n", hex(ran.frame), "\nwanted\n", hex(wanted));
}

void expect_dropped(const Mode& mode, const Program& program, const Bytes& frame, decap_counter counter) {
    expect(mode, program, frame, counter, frame);
}

/// A change to a tunnel packet, and what it is then counted as.
struct Mistake {
    const char* name;
    TunnelRow row;
    decap_counter counter;
    std::function<void(Bytes&)> change;
};

constexpr TunnelRow kIpip44 = kTunnelRows[0];
constexpr TunnelRow kIpip64 = kTunnelRows[1];
constexpr TunnelRow kIpip46 = kTunnelRows[2];
constexpr TunnelRow kIpip66 = kTunnelRows[3];
constexpr TunnelRow kGue44 = kTunnelRows[4];
constexpr TunnelRow kGue46 = kTunnelRows[6];
constexpr TunnelRow kGueZero44 = kTunnelRows[8];
constexpr TunnelRow kGre44 = kTunnelRows[12];

constexpr std::size_t kIp = 14;            // the outer IP header
constexpr std::size_t kAfter4 = kIp + 20;  // what follows an outer IPv4 header
constexpr std::size_t kAfter6 = kIp + 40;

std::function<void(Bytes&)> set(std::size_t at, std::uint8_t value) {
    return [=](Bytes& frame) { frame.at(at) = value; };
}

/// The same in the outer IPv4 header, with the checksum made right again.
std::function<void(Bytes&)> set_v4(std::size_t at, std::uint8_t value) {
    return [=](Bytes& frame) {
        frame.at(kIp + at) = value;
        fix_checksum(frame);
    };
}

const Mistake kMistakes[] = {
    // Not ours to take: left alone.
    {"outer destination v4 is not this host's", kIpip44, DECAP_PASSED, set_v4(19, 12)},
    {"outer destination v6 is not this host's", kIpip66, DECAP_PASSED, set(kIp + 39, 0x12)},
    {"UDP to another port", kGue44, DECAP_PASSED, set(kAfter4 + 3, 0xc1)},
    {"outer protocol is TCP", kIpip44, DECAP_PASSED, set_v4(9, 6)},
    {"EtherType is ARP", kIpip44, DECAP_PASSED, set(13, 0x06)},
    {"EtherType says IPv6, the header says 4", kIpip44, DECAP_PASSED,
     [](Bytes& f) { f.at(12) = 0x86, f.at(13) = 0xdd; }},
    {"a later fragment of UDP", kGue44, DECAP_PASSED, set_v4(7, 1)},
    // Not allowed.
    {"outer source v4 is no PoP", kIpip44, DECAP_NOT_A_SOURCE, set_v4(15, 2)},
    {"outer source v4 is no PoP, GUE", kGue44, DECAP_NOT_A_SOURCE, set_v4(15, 2)},
    {"outer source v4 is no PoP, GRE", kGre44, DECAP_NOT_A_SOURCE, set_v4(15, 2)},
    {"outer source v6 is no PoP", kIpip66, DECAP_NOT_A_SOURCE, set(kIp + 13, 2)},
    {"outer source is no PoP and the rest is broken too", kIpip44, DECAP_NOT_A_SOURCE,
     [](Bytes& f) { f.at(kIp + 15) = 2, f.at(kIp + 10) ^= 0xff; }},
    {"inner destination v4 is no VIP", kIpip44, DECAP_NOT_A_VIP, set(kAfter4 + 19, 11)},
    {"inner destination v6 is no VIP", kIpip64, DECAP_NOT_A_VIP, set(kAfter4 + 39, 0x11)},
    // Outer header.
    {"outer checksum", kIpip44, DECAP_OUTER_MALFORMED, [](Bytes& f) { f.at(kIp + 10) ^= 1; }},
    {"outer header length 4", kIpip44, DECAP_OUTER_MALFORMED, set(kIp, 0x44)},
    {"outer total length below its header", kIpip44, DECAP_OUTER_MALFORMED,
     [](Bytes& f) { f.at(kIp + 2) = 0, f.at(kIp + 3) = 19, fix_checksum(f); }},
    {"outer total length beyond the frame", kIpip44, DECAP_OUTER_MALFORMED,
     [](Bytes& f) { f.at(kIp + 3)++, fix_checksum(f); }},
    {"outer payload length beyond the frame", kIpip66, DECAP_OUTER_MALFORMED,
     [](Bytes& f) { f.at(kIp + 5)++; }},
    {"first fragment of IPIP", kIpip44, DECAP_OUTER_FRAGMENT, set_v4(6, 0x20)},
    {"later fragment of IPIP", kIpip44, DECAP_OUTER_FRAGMENT, set_v4(7, 5)},
    {"later fragment of GRE", kGre44, DECAP_OUTER_FRAGMENT, set_v4(7, 5)},
    {"first fragment of GUE", kGue44, DECAP_OUTER_FRAGMENT, set_v4(6, 0x20)},
    // UDP and GUE.
    {"UDP length below its header", kGue44, DECAP_UDP_MALFORMED, set(kAfter4 + 5, 7)},
    {"UDP length beyond the packet", kGue44, DECAP_UDP_MALFORMED, [](Bytes& f) { f.at(kAfter4 + 5)++; }},
    {"UDP length beyond the packet, v6", kGue46, DECAP_UDP_MALFORMED, [](Bytes& f) { f.at(kAfter6 + 5)++; }},
    {"UDP without payload", kGue44, DECAP_GUE_UNSUPPORTED, set(kAfter4 + 5, 8)},
    {"GUE variant 2", kGue44, DECAP_GUE_UNSUPPORTED, set(kAfter4 + 8, 0x85)},
    {"GUE variant 0 with the control bit", kGueZero44, DECAP_GUE_UNSUPPORTED, set(kAfter4 + 8, 0x20)},
    {"GUE variant 0 with options", kGueZero44, DECAP_GUE_UNSUPPORTED, set(kAfter4 + 8, 1)},
    {"GUE variant 0 with flags", kGueZero44, DECAP_GUE_UNSUPPORTED, set(kAfter4 + 10, 1)},
    {"GUE variant 0 with flags, last byte", kGueZero44, DECAP_GUE_UNSUPPORTED, set(kAfter4 + 11, 1)},
    {"GUE variant 0 with another protocol", kGueZero44, DECAP_GUE_UNSUPPORTED, set(kAfter4 + 9, 17)},
    {"GUE variant 0 says v6, inside is v4", kGueZero44, DECAP_INNER_MALFORMED, set(kAfter4 + 9, 41)},
    {"GUE variant 1 with IP version 5", kGue44, DECAP_INNER_MALFORMED, set(kAfter4 + 8, 0x55)},
    // GRE.
    {"GRE with a checksum", kGre44, DECAP_GRE_UNSUPPORTED, set(kAfter4, 0x80)},
    {"GRE with a key", kGre44, DECAP_GRE_UNSUPPORTED, set(kAfter4, 0x20)},
    {"GRE version 1", kGre44, DECAP_GRE_UNSUPPORTED, set(kAfter4 + 1, 1)},
    {"GRE of Ethernet", kGre44, DECAP_GRE_UNSUPPORTED,
     [](Bytes& f) { f.at(kAfter4 + 2) = 0x65, f.at(kAfter4 + 3) = 0x58; }},
    // Inner header.
    {"protocol 4, inside is v6", kIpip64, DECAP_INNER_MALFORMED, set_v4(9, 4)},
    {"protocol 41, inside is v4", kIpip44, DECAP_INNER_MALFORMED, set_v4(9, 41)},
    {"inner header length 4", kIpip44, DECAP_INNER_MALFORMED, set(kAfter4, 0x44)},
    {"inner total length below its header", kIpip44, DECAP_INNER_MALFORMED, set(kAfter4 + 3, 19)},
    {"inner total length beyond the outer", kIpip44, DECAP_INNER_MALFORMED,
     [](Bytes& f) { f.at(kAfter4 + 3)++; }},
    {"inner total length beyond the outer, in v6", kIpip46, DECAP_INNER_MALFORMED,
     [](Bytes& f) { f.at(kAfter6 + 3)++; }},
    {"inner payload length beyond the outer", kIpip64, DECAP_INNER_MALFORMED,
     [](Bytes& f) { f.at(kAfter4 + 5)++; }},
    {"congestion marked outside, v4 inside can't carry it", kIpip44, DECAP_INNER_ECN, set_v4(1, 3)},
    {"congestion marked outside, v6 inside can't carry it", kIpip66, DECAP_INNER_ECN, set(kIp + 1, 0x30)},
};

}  // namespace

TEST_CASE("every encapsulation and family pair comes out as the inner packet behind the same link header") {
    for (const Mode& mode : kModes) {
        const Program program = decap_program(mode.program);
        for (const TunnelRow& row : kTunnelRows) {
            CAPTURE(std::string(mode.program));
            CAPTURE(std::string(row.name));
            expect(mode, program, tunneled(row), taken(row.tunnel), client_frame(row.inner));
        }
    }
}

TEST_CASE("a frame cut anywhere passes untouched while it may be anything, and is dropped from then on") {
    for (const Mode& mode : kModes) {
        const Program program = decap_program(mode.program);
        for (const TunnelRow& row : kTunnelRows) {
            const Bytes whole = tunneled(row);
            for (std::size_t size = 14; size < whole.size(); ++size) {
                CAPTURE(std::string(mode.program));
                CAPTURE(std::string(row.name));
                CAPTURE(size);
                const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
                if (!program.takes(cut)) continue;
                const bool known = size >= recognisable_bytes(row);
                expect(mode, program, cut, known ? DECAP_OUTER_MALFORMED : DECAP_PASSED, cut);
            }
        }
    }
}

TEST_CASE("an inner packet cut anywhere inside a whole outer one is malformed") {
    for (const Mode& mode : kModes) {
        const Program program = decap_program(mode.program);
        for (const TunnelRow& row : kTunnelRows) {
            const Bytes inner = client_frame(row.inner);
            for (std::size_t size = 14 + 4; size < inner.size(); ++size) {
                CAPTURE(std::string(mode.program));
                CAPTURE(std::string(row.name));
                CAPTURE(size);
                const Bytes cut(inner.begin(), inner.begin() + static_cast<std::ptrdiff_t>(size));
                expect_dropped(mode, program, tunneled(row, cut), DECAP_INNER_MALFORMED);
            }
        }
    }
}

TEST_CASE("each mistake is counted under its own reason") {
    for (const Mode& mode : kModes) {
        const Program program = decap_program(mode.program);
        for (const Mistake& mistake : kMistakes) {
            CAPTURE(std::string(mode.program));
            CAPTURE(std::string(mistake.name));
            Bytes frame = tunneled(mistake.row);
            mistake.change(frame);
            expect(mode, program, frame, mistake.counter, frame);
        }
    }
}

TEST_CASE("bytes behind the outer packet, as Ethernet pads short frames, stay behind the inner one") {
    for (const Mode& mode : kModes) {
        const Program program = decap_program(mode.program);
        Bytes frame = tunneled(kIpip44);
        Bytes wanted = client_frame(Family::kV4);
        frame.resize(frame.size() + 6);
        wanted.resize(wanted.size() + 6);
        expect(mode, program, frame, DECAP_IPIP, wanted);
    }
}

TEST_CASE("outer options and extension headers are taken off too") {
    const Bytes inner = client_frame(Family::kV6);
    for (const Mode& mode : kModes) {
        const Program program = decap_program(mode.program);
        CAPTURE(std::string(mode.program));
        const Frame v4 = link().ipv4("192.0.2.1", "192.0.2.11", {.options = Bytes(40, 1)});
        expect(mode, program, Frame(v4).inner(inner).bytes(), DECAP_IPIP, inner);
        const Frame v6 = outer(Family::kV6);
        // What Linux' own ip6_tunnel sends: destination options with the encapsulation limit.
        expect(mode, program, Frame(v6).extension(60).inner(inner).bytes(), DECAP_IPIP, inner);
        expect(mode, program, Frame(v6).extension(0, 1).extension(60, 2).inner(inner).bytes(), DECAP_IPIP,
               inner);
        // An atomic fragment (RFC 6946) is a whole packet.
        expect(mode, program, Frame(v6).fragment(0).inner(inner).bytes(), DECAP_IPIP, inner);
        expect_dropped(mode, program, Frame(v6).fragment(1).inner(inner).bytes(), DECAP_OUTER_FRAGMENT);
        expect_dropped(mode, program, Frame(v6).fragment(8 * 5).inner(inner).bytes(), DECAP_OUTER_FRAGMENT);
        // 40 + 216 bytes are the limit.
        expect(mode, program, Frame(v6).extension(60, 26).inner(inner).bytes(), DECAP_IPIP, inner);
        expect_dropped(mode, program, Frame(v6).extension(60, 27).inner(inner).bytes(), DECAP_OUTER_TOO_LONG);
        // A chain longer than the bound shows no protocol to judge by; the kernel does not know the packet
        // either.
        const Bytes chain =
            Frame(v6).extension(60).extension(60).extension(60).extension(60).inner(inner).bytes();
        expect(mode, program, chain, DECAP_IPIP, inner);
        const Bytes longer = Frame(v6)
                                 .extension(60)
                                 .extension(60)
                                 .extension(60)
                                 .extension(60)
                                 .extension(60)
                                 .inner(inner)
                                 .bytes();
        expect(mode, program, longer, DECAP_PASSED, longer);
    }
}

TEST_CASE("a congestion mark outside reaches an inner packet that can carry it, with a right checksum") {
    for (const Mode& mode : kModes) {
        const Program program = decap_program(mode.program);
        for (const int ecn : {1, 2, 3}) {
            CAPTURE(std::string(mode.program));
            CAPTURE(ecn);
            Bytes inner = client_frame(Family::kV4);
            inner[15] = static_cast<std::uint8_t>(0xb8 | ecn);
            fix_checksum(inner);
            Bytes marked = tunneled(kIpip44, inner);
            marked[15] |= 3;
            fix_checksum(marked);
            Bytes wanted = inner;
            wanted[15] |= 3;
            fix_checksum(wanted);
            expect(mode, program, marked, DECAP_IPIP, wanted);
            expect(mode, program, tunneled(kIpip44, inner), DECAP_IPIP, inner);

            Bytes inner6 = client_frame(Family::kV6);
            inner6[15] = static_cast<std::uint8_t>(ecn << 4);
            Bytes marked6 = tunneled(kIpip66, inner6);
            marked6[15] = 0x30;
            Bytes wanted6 = inner6;
            wanted6[15] = 0x30;
            expect(mode, program, marked6, DECAP_IPIP, wanted6);
        }
    }
}

TEST_CASE("XDP keeps VLAN tags: one, two, never more") {
    const Program program = decap_program("detour_decap_x");
    const auto tagged = [](int tags, const Bytes& frame) {
        Frame result = link();
        for (int i = 0; i < tags; ++i)
            result.vlan(static_cast<std::uint16_t>(10 + i), i == 0 ? 0x88a8 : 0x8100);
        return result.inner(frame).bytes();
    };
    for (const TunnelRow& row : kTunnelRows) {
        CAPTURE(std::string(row.name));
        for (const int tags : {1, 2}) {
            const Bytes wanted = tagged(tags, client_frame(row.inner));
            expect(kModes[0], program, tagged(tags, tunneled(row)), taken(row.tunnel), wanted);
        }
        const Bytes three = tagged(3, tunneled(row));
        expect(kModes[0], program, three, DECAP_PASSED, three);
    }
}
