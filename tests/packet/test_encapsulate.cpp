// Every encapsulation and address-family pair: the whole frame that leaves is compared.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "tests/support/fast_path.h"
#include "tests/support/tunnelled.h"

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

/// What the flow's hash decides: read from the output, so that the rest can be compared whole.
struct Entropy {
    std::uint16_t port = 0;   ///< of GUE
    std::uint32_t label = 0;  ///< of outer IPv6
};

Bytes expected(const Row& row, const Bytes& inner, const std::string& backend, const Entropy& entropy,
               std::size_t link_header = 14) {
    return tunnelled({.encap = row.encap,
                      .outer_v6 = row.outer_v6,
                      .backend = backend,
                      .source_port = entropy.port,
                      .flow_label = entropy.label,
                      .inner_link = link_header},
                     inner);
}

Entropy entropy_of(const Row& row, const Bytes& out) {
    Entropy entropy;
    if (row.outer_v6) entropy.label = (out.at(15) & 0xfU) << 16U | out.at(16) * 256U | out.at(17);
    if (row.encap != Encap::kGue) return entropy;
    const std::size_t at = 14U + (row.outer_v6 ? 40U : 20U);
    entropy.port = static_cast<std::uint16_t>(out.at(at) << 8U | out.at(at + 1));
    return entropy;
}

void check_whole(const Row& row, const Out& out, const Bytes& inner, std::size_t link_header = 14) {
    REQUIRE(out.verdict == core::Verdict::kTransmit);
    CHECK(out.port == 1);
    const Entropy entropy = entropy_of(row, out.bytes);
    if (row.encap == Encap::kGue) CHECK(entropy.port >= 49152);
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

TEST_CASE("DSCP and ECN of the client's packet are the tunnel's too, each of the 256 values") {
    for (const Row& row : kRows) {
        CAPTURE(row.name);
        FastPath fast(make_plan({.encap = row.encap, .v6_backends = row.outer_v6}));
        for (unsigned value = 0; value < 256; ++value) {
            Bytes frame = client(row.inner_v6).tcp({40000, 443, kSyn}).bytes();
            set_class(frame, static_cast<std::uint8_t>(value), 0xabcde);
            check_whole(row, fast.send(frame), frame);
        }
    }
}

TEST_CASE("GUE's source port and the outer flow label spread flows and stay with a flow") {
    const Row rows[] = {{"gue", Encap::kGue, false, false}, {"ipip", Encap::kIpip, false, true}};
    for (const Row& row : rows) {
        FastPath fast(make_plan({.encap = row.encap, .v6_backends = row.outer_v6}));
        std::vector<std::uint32_t> seen;
        for (std::uint16_t port = 1; port <= 200; ++port) {
            const Out a = fast.send(client(false).tcp({port, 443, kSyn}).bytes());
            const Out b = fast.send(client(false).tcp({port, 443, kAck, 1001, 5}).payload(10).bytes());
            const Entropy one = entropy_of(row, a.bytes);
            CHECK(one.port == entropy_of(row, b.bytes).port);
            CHECK(one.label == entropy_of(row, b.bytes).label);
            seen.push_back(row.outer_v6 ? one.label : one.port);
        }
        std::sort(seen.begin(), seen.end());
        CHECK(std::unique(seen.begin(), seen.end()) - seen.begin() > 190);
    }
}
