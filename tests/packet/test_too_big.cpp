// Packets larger than their tunnel: answered with ICMP, counted per pool, limited in rate.
#include <doctest/doctest.h>

#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using api::Encap;
using api::Reason;

namespace {

struct Row {
    const char* name;
    Encap encap;
    bool outer_v6;
    std::uint16_t max_inner;  ///< at a link MTU of 1500
};
const Row kRows[] = {
    {"ipip over v4", Encap::kIpip, false, 1480}, {"gue over v4", Encap::kGue, false, 1472},
    {"gre over v4", Encap::kGre, false, 1476},   {"ipip over v6", Encap::kIpip, true, 1460},
    {"gue over v6", Encap::kGue, true, 1452},    {"gre over v6", Encap::kGre, true, 1456},
};

Bytes sized(bool v6, std::size_t ip_length) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac).vlan(9);
    v6 ? frame.ipv6("2001:db8:c::7", "2001:db8:f::10") : frame.ipv4("198.51.100.7", "203.0.113.10");
    return frame.tcp({40000, 443, kAck, 1, 1}).payload(ip_length - (v6 ? 60 : 40)).bytes();
}

Bytes answer(bool v6, const Bytes& original, std::uint16_t mtu) {
    const std::size_t ip_length = original.size() - 18;
    const std::size_t quoted = std::min<std::size_t>(ip_length, v6 ? 1232 : 548);
    Frame frame;
    frame.ether(kHostMac, kRouterMac).vlan(9);
    if (v6) {
        frame.ipv6("2001:db8:f::10", "2001:db8:c::7").icmp(2, 0, mtu);
    } else {
        frame.ipv4("203.0.113.10", "198.51.100.7").icmp(3, 4, mtu);
    }
    return frame
        .raw(Bytes(original.begin() + 18, original.begin() + 18 + static_cast<std::ptrdiff_t>(quoted)))
        .bytes();
}

}  // namespace

TEST_CASE("the largest that fits goes through, one byte more is answered with the tunnel's MTU") {
    for (const Row& row : kRows) {
        for (const bool v6 : {false, true}) {
            CAPTURE(row.name);
            CAPTURE(v6);
            FastPath fast(make_plan({.encap = row.encap, .v6_backends = row.outer_v6}));
            CHECK(fast.send(sized(v6, row.max_inner)).bytes.size() == 1514);
            const Bytes big = sized(v6, row.max_inner + 1U);
            const Out out = fast.send(big);
            CHECK(out.reason == Reason::kTooBigAnswered);
            CHECK(out.port == 0);
            const Bytes want = answer(v6, big, row.max_inner);
            INFO("got\n" << hex(out.bytes) << "\nexpected\n" << hex(want));
            CHECK(out.bytes == want);
            CHECK(fast.worker->pools[0].too_big.get() == 1);
        }
    }
}

TEST_CASE("answers are limited in rate; beyond it packets are dropped and counted") {
    api::ForwardingPlan plan = make_plan();
    plan.icmp_per_second = 100;
    FastPath fast(plan);
    fast.advance(std::chrono::seconds(2));
    unsigned answered = 0;
    for (int i = 0; i < 1000; ++i)
        answered += fast.send(sized(false, 1473)).reason == Reason::kTooBigAnswered ? 1 : 0;
    CHECK(answered == 10);  // a tenth of a second's worth
    CHECK(fast.count(Reason::kTooBigOverBudget) == 990);
    CHECK(fast.worker->pools[0].too_big.get() == 1000);
    fast.advance(std::chrono::milliseconds(50));
    for (int i = 0; i < 100; ++i)
        answered += fast.send(sized(false, 1473)).reason == Reason::kTooBigAnswered ? 1 : 0;
    CHECK(answered == 15);
}
