// UDP flows: pinned by the first packet, moved when their site no longer keeps them.
#include <doctest/doctest.h>

#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using api::Reason;
using std::chrono::seconds;

namespace {

Out datagram(FastPath& fast, bool v6, std::uint16_t port) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac);
    v6 ? frame.ipv6("2001:db8:c::7", "2001:db8:f::10") : frame.ipv4("198.51.100.7", "203.0.113.10");
    return fast.send(frame.udp(port, 53).payload(30).bytes());
}

}  // namespace

TEST_CASE("a UDP flow is pinned; a drain leaves it, a dark site's flow moves and stays moved") {
    for (const auto stranded : {api::Stranded::kRehash, api::Stranded::kReset}) {
        for (const bool v6 : {false, true}) {
            FastPath fast(make_plan({.stranded = stranded}));
            const Out first = datagram(fast, v6, 7000);
            CHECK(first.reason == Reason::kForwardedNew);
            const api::SiteId site{first.site};
            fast.host.set_site(site, {api::kAdmitNone, api::kAdmitAll, true});
            const Out second = datagram(fast, v6, 7000);
            CHECK(second.reason == Reason::kForwardedPinned);
            CHECK(second.backend == first.backend);
            fast.host.set_site(site, {api::kAdmitNone, api::kAdmitNone, false});
            const Out third = datagram(fast, v6, 7000);
            CHECK(third.reason == Reason::kForwardedRehashed);
            CHECK(third.site != first.site);
            fast.host.set_site(site, {});
            CHECK(datagram(fast, v6, 7000).backend == third.backend);
        }
    }
}

TEST_CASE(
    "a UDP flow that speaks in both its first minutes is forgotten after 3 idle ones, one seen once after "
    "2") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan());
        std::uint64_t generation = 1;
        // A sweep is over when it has seen every entry of a generation.
        const auto live = [&] {
            api::ForwardingPlan plan = make_plan();
            plan.generation = api::Generation{++generation};
            fast.apply(plan);
            fast.sweep();
            return v6 ? fast.worker->flows_v6.used() : fast.worker->flows_v4.used();
        };
        CHECK(datagram(fast, v6, 7000).reason == Reason::kForwardedNew);
        CHECK(datagram(fast, v6, 7000).reason == Reason::kForwardedPinned);
        CHECK(datagram(fast, v6, 7001).reason == Reason::kForwardedNew);
        fast.advance(seconds(118));
        CHECK(live() == 2);
        fast.advance(seconds(6));
        CHECK_MESSAGE(live() == 1, "seen once: 2 minutes");
        CHECK(datagram(fast, v6, 7001).reason == Reason::kForwardedNew);
        fast.advance(seconds(52));
        CHECK_MESSAGE(live() == 2, "176 s: the first is still known");
        CHECK(datagram(fast, v6, 7000).reason == Reason::kForwardedPinned);
        fast.advance(seconds(176));
        CHECK_MESSAGE(live() == 1, "a packet began its time anew");
        fast.advance(seconds(8));
        CHECK_MESSAGE(live() == 0, "3 minutes idle");
        CHECK(datagram(fast, v6, 7000).reason == Reason::kForwardedNew);
    }
}

TEST_CASE("hash = source: all flows of a client share a backend, VIPs and ports don't matter") {
    FastPath fast(make_plan({.hash = api::HashKey::kSource, .sites = 3, .backends = 5}));
    for (const bool v6 : {false, true}) {
        const Out first = datagram(fast, v6, 1);
        for (std::uint16_t port = 2; port < 100; ++port)
            CHECK(datagram(fast, v6, port).backend == first.backend);
    }
}
