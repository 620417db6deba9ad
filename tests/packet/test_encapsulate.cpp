// Every encapsulation and address-family pair: the whole frame that leaves is compared.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using api::Encap;

namespace {

constexpr std::string_view kClient4 = "198.51.100.7";
constexpr std::string_view kVip4 = "203.0.113.10";
constexpr std::string_view kClient6 = "2001:db8:c::7";
constexpr std::string_view kVip6 = "2001:db8:f::10";

struct Row {
    const char* name;
    Encap encap;
    bool inner_v6;
    bool outer_v6;
};

const Row kRows[] = {
    {"ipip 4in4", Encap::kIpip, false, false}, {"ipip 6in4", Encap::kIpip, true, false},
    {"ipip 4in6", Encap::kIpip, false, true},  {"ipip 6in6", Encap::kIpip, true, true},
    {"gue 4in4", Encap::kGue, false, false},   {"gue 6in4", Encap::kGue, true, false},
    {"gue 4in6", Encap::kGue, false, true},    {"gue 6in6", Encap::kGue, true, true},
    {"gre 4in4", Encap::kGre, false, false},   {"gre 6in4", Encap::kGre, true, false},
    {"gre 4in6", Encap::kGre, false, true},    {"gre 6in6", Encap::kGre, true, true},
};

Frame client(bool v6) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac);
    return v6 ? frame.ipv6(kClient6, kVip6) : frame.ipv4(kClient4, kVip4);
}

Bytes expected(const Row& row, const Bytes& inner, const std::string& backend, std::uint16_t entropy,
               std::size_t link_header = 14) {
    Frame frame;
    frame.ether(kOutMac, kNextHopMac);
    if (row.outer_v6) {
        frame.ipv6("2001:db8::1", backend);
    } else {
        frame.ipv4("192.0.2.1", backend);
    }
    if (row.encap == Encap::kGue) frame.udp(entropy, 6080, true);
    if (row.encap == Encap::kGre) frame.gre();
    return frame.inner(inner, link_header).bytes();
}

/// GUE's source port is the flow's own: any in the dynamic range. Read it so that the rest can be compared
/// whole.
std::uint16_t entropy_of(const Row& row, const Bytes& out) {
    if (row.encap != Encap::kGue) return 0;
    const std::size_t at = 14U + (row.outer_v6 ? 40U : 20U);
    return static_cast<std::uint16_t>(out.at(at) << 8U | out.at(at + 1));
}

void check_whole(const Row& row, const Out& out, const Bytes& inner, std::size_t link_header = 14) {
    REQUIRE(out.verdict == core::Verdict::kTransmit);
    CHECK(out.port == 1);
    const std::uint16_t entropy = entropy_of(row, out.bytes);
    if (row.encap == Encap::kGue) CHECK(entropy >= 49152);
    const std::size_t index = out.backend % 100U;
    const Bytes want =
        expected(row, inner, backend_address(out.site, index, row.outer_v6), entropy, link_header);
    INFO("got\n" << hex(out.bytes) << "\nexpected\n" << hex(want));
    CHECK(out.bytes == want);
}

}  // namespace

TEST_CASE("each encapsulation and family pair: the whole frame is right") {
    for (const Row& row : kRows) {
        CAPTURE(row.name);
        FastPath fast(make_plan({.encap = row.encap, .v6_backends = row.outer_v6}));
        for (std::uint16_t port = 40000; port < 40032; ++port) {
            const Bytes frame = client(row.inner_v6).tcp({port, 443, kSyn}).bytes();
            const Out out = fast.send(frame);
            CHECK(out.reason == api::Reason::kForwardedNew);
            check_whole(row, out, frame);
        }
    }
}

TEST_CASE("UDP, payloads, options and extension headers travel unchanged") {
    for (const Row& row : kRows) {
        CAPTURE(row.name);
        FastPath fast(make_plan({.encap = row.encap, .v6_backends = row.outer_v6}));
        Bytes frame = client(row.inner_v6).udp(5353, 53).payload(300).bytes();
        check_whole(row, fast.send(frame), frame);
        frame = client(row.inner_v6).tcp({1234, 443, kSyn, 7, 0, 512, Bytes{2, 4, 5, 0xb4}}).bytes();
        check_whole(row, fast.send(frame), frame);
        Frame options;
        options.ether(kRouterMac, kHostMac);
        if (row.inner_v6) {
            options.ipv6(kClient6, kVip6).extension(0).extension(60, 2);
        } else {
            options.ipv4(kClient4, kVip4, {.id = 7, .df = false, .ttl = 3, .options = Bytes{1, 1, 1, 0}});
        }
        frame = options.tcp({999, 443, kSyn}).bytes();
        check_whole(row, fast.send(frame), frame);
    }
}

TEST_CASE("VLAN tags and Ethernet padding don't enter the tunnel") {
    for (const Row& row : kRows) {
        CAPTURE(row.name);
        FastPath fast(make_plan({.encap = row.encap, .v6_backends = row.outer_v6}));
        Frame tagged;
        tagged.ether(kRouterMac, kHostMac).vlan(100, 0x88a8).vlan(7);
        row.inner_v6 ? tagged.ipv6(kClient6, kVip6) : tagged.ipv4(kClient4, kVip4);
        const Bytes frame = tagged.tcp({40000, 443, kSyn}).bytes();
        check_whole(row, fast.send(frame), frame, 22);

        const Bytes plain = client(row.inner_v6).tcp({40001, 443, kSyn}).bytes();
        Bytes padded = plain;
        padded.resize(plain.size() + 6, 0xee);
        check_whole(row, fast.send(padded), plain);
    }
}

TEST_CASE("headroom: exactly enough is enough, one byte less is counted") {
    for (const Row& row : kRows) {
        CAPTURE(row.name);
        FastPath fast(make_plan({.encap = row.encap, .v6_backends = row.outer_v6}));
        const Bytes frame = client(row.inner_v6).tcp({40000, 443, kSyn}).bytes();
        const std::uint8_t length = fast.tables->headers[101].length;
        const auto needed = static_cast<std::uint16_t>(length - 14);
        check_whole(row, fast.send(frame, needed), frame);
        const Out out = fast.send(frame, static_cast<std::uint16_t>(needed - 1));
        CHECK(out.verdict == core::Verdict::kDrop);
        CHECK(out.reason == api::Reason::kNoHeadroom);
    }
}

TEST_CASE("an unresolved next hop and a missing tunnel source are counted under their own reasons") {
    api::ForwardingPlan plan = make_plan();
    plan.next_hops[0].resolved = false;
    FastPath unresolved(plan);
    const Bytes frame = client(false).tcp({40000, 443, kSyn}).bytes();
    CHECK(unresolved.send(frame).reason == api::Reason::kUnresolvedNextHop);
    CHECK(unresolved.count(api::Reason::kUnresolvedNextHop) == 1);

    plan = make_plan({.v6_backends = true});
    plan.source_v6.reset();
    FastPath sourceless(plan);
    CHECK(sourceless.send(frame).reason == api::Reason::kNoTunnelSource);
}

TEST_CASE("GUE's source port spreads flows and stays with a flow") {
    FastPath fast(make_plan());
    std::vector<std::uint16_t> seen;
    for (std::uint16_t port = 1; port <= 200; ++port) {
        const Out a = fast.send(client(false).tcp({port, 443, kSyn}).bytes());
        const Out b = fast.send(client(false).tcp({port, 443, kAck, 1001, 5}).payload(10).bytes());
        const Row row{"gue", Encap::kGue, false, false};
        CHECK(entropy_of(row, a.bytes) == entropy_of(row, b.bytes));
        seen.push_back(entropy_of(row, a.bytes));
    }
    std::sort(seen.begin(), seen.end());
    CHECK(std::unique(seen.begin(), seen.end()) - seen.begin() > 190);
}
