// Overload: limits of new flows by pool and site, their order, and a bounded rate of new entries.
#include <doctest/doctest.h>

#include <map>

#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using api::Reason;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

Bytes tcp(std::uint16_t port, std::uint8_t flags, std::uint32_t sequence = 1, bool v6 = false,
          std::uint16_t vip_port = 443) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac);
    v6 ? frame.ipv6("2001:db8:c::7", "2001:db8:f::10") : frame.ipv4("198.51.100.7", "203.0.113.10");
    return frame.tcp({port, vip_port, flags, sequence, 100}).bytes();
}

Bytes udp(std::uint16_t port) {
    return Frame()
        .ether(kRouterMac, kHostMac)
        .ipv4("198.51.100.7", "203.0.113.10")
        .udp(port, 53)
        .payload(9)
        .bytes();
}

void limit_site(FastPath& fast, std::uint8_t site, std::uint32_t rate,
                api::Refusal how = api::Refusal::kDrop) {
    fast.host.set_limit(api::SiteId{site}, {true, rate, how});
}

void limit_pool(FastPath& fast, std::uint16_t pool, std::uint32_t rate,
                api::Refusal how = api::Refusal::kDrop) {
    fast.host.set_limit(api::PoolId{pool}, {true, rate, how});
}

}  // namespace

TEST_CASE(
    "a pool's limit: new flows beyond it are dropped and counted, UDP too; flows that are there are not") {
    FastPath fast(make_plan());
    fast.send(tcp(9, kSyn));
    fast.send(tcp(9, kAck, 2));
    limit_pool(fast, 0, 0);
    limit_pool(fast, 1, 0);
    const Out refused = fast.send(tcp(10, kSyn));
    CHECK(refused.verdict == core::Verdict::kDrop);
    CHECK(refused.reason == Reason::kShed);
    CHECK(fast.send(tcp(10, kSyn, 1, true)).reason == Reason::kShed);
    CHECK(fast.send(udp(10)).reason == Reason::kShed);
    CHECK(fast.worker->pools[0].shed.get() == 2);
    CHECK(fast.worker->pools[1].shed.get() == 1);
    CHECK(fast.send(tcp(9, kAck, 2)).reason == Reason::kForwardedPinned);
    CHECK(fast.send(tcp(11, kAck, 2)).reason == Reason::kForwardedMid);  // of another host: not new
    fast.host.set_limit(api::PoolId{0}, {});
    CHECK(fast.send(tcp(10, kSyn)).reason == Reason::kForwardedNew);
    CHECK(fast.send(udp(10)).reason == Reason::kShed);
}

TEST_CASE("a limit lets its rate through, and a SYN that was let through may be repeated") {
    FastPath fast(make_plan());
    limit_pool(fast, 0, 200);
    unsigned through = 0;
    std::uint16_t port = 1;
    Out last;
    for (int ms = 0; ms < 3000; ++ms) {
        fast.advance(milliseconds(1));
        const Out out = fast.send(tcp(++port, kSyn));
        through += out.reason == Reason::kForwardedNew ? 1 : 0;
        if (out.reason == Reason::kForwardedNew) {
            CHECK(fast.send(tcp(port, kSyn)).reason == Reason::kForwardedNew);
            last = out;
        }
    }
    CHECK(through >= 600);
    CHECK(through <= 600 + 20);
    CHECK(fast.worker->pools[0].shed.get() == 3000 - through);
}

TEST_CASE("refused by a reset: the SYN is acknowledged and refused, within the budget of resets") {
    for (const bool v6 : {false, true}) {
        api::ForwardingPlan plan = make_plan();
        plan.resets_per_second = 100;
        FastPath fast(plan);
        limit_site(fast, 1, 0, api::Refusal::kReset);
        limit_site(fast, 2, 0, api::Refusal::kReset);
        const Out out = fast.send(tcp(40000, kSyn, 0xffffffffU, v6));
        CHECK(out.reason == Reason::kShedReset);
        Frame want;
        want.ether(kHostMac, kRouterMac);
        v6 ? want.ipv6("2001:db8:f::10", "2001:db8:c::7") : want.ipv4("203.0.113.10", "198.51.100.7");
        const Bytes bytes = want.tcp({443, 40000, kRst | kAck, 0, 0}).bytes();
        INFO("got\n" << hex(out.bytes) << "\nexpected\n" << hex(bytes));
        CHECK(out.bytes == bytes);
        CHECK(out.port == 0);
        CHECK(fast.send(tcp(40001, kSyn, 1, v6)).reason == Reason::kShedReset);
        CHECK(fast.send(tcp(40002, kSyn, 1, v6)).reason == Reason::kShed);
        CHECK(fast.send(udp(3)).reason == Reason::kShed);
        CHECK(fast.worker->pools[0].shed.get() == 3);
    }
}

TEST_CASE("a site's tokens go to the important pools first, and what they leave to the next") {
    api::ForwardingPlan plan = make_plan({.sites = 1});
    plan.pools[0].priority = 1;
    plan.pools[1].priority = 500;
    // A third one between them.
    api::PlanPool middle = plan.pools[0];
    middle.id = api::PoolId{2};
    middle.name = "mail";
    middle.priority = 100;
    middle.vips = {{api::VipId{9}, *api::Vip::parse("203.0.113.10:25/tcp")}};
    for (auto& backend : middle.sites[0].backends)
        backend.id = api::BackendId{static_cast<std::uint16_t>(backend.id.value() + 5000)};
    plan.pools.push_back(middle);
    FastPath fast(plan);
    limit_site(fast, 1, 1000);
    // Offered 600 a second each: the first has all it wants, the second what is left, the third nothing.
    std::map<int, unsigned> through;
    std::uint16_t port = 0;
    for (int ms = 0; ms < 8000; ++ms) {
        fast.advance(milliseconds(1));
        if (ms % 10 >= 6) continue;
        ++port;
        const std::uint32_t isn = static_cast<std::uint32_t>(ms) + 1;
        const bool third = fast.send(udp(port)).reason == Reason::kForwardedNew;
        const bool second = fast.send(tcp(port, kSyn, isn, false, 25)).reason == Reason::kForwardedNew;
        const bool first = fast.send(tcp(port, kSyn, isn)).reason == Reason::kForwardedNew;
        if (ms < 1000) continue;  // the bucket's own burst
        through[1] += first ? 1 : 0;
        through[2] += second ? 1 : 0;
        through[3] += third ? 1 : 0;
    }
    CHECK(through[1] == 4200);
    CHECK(through[2] > 2700);
    CHECK(through[2] < 2900);
    CHECK(through[3] < 50);
    CHECK(fast.worker->pools[0].shed.get() == 0);
}

TEST_CASE("small limits serve every level when they can") {
    api::ForwardingPlan plan = make_plan({.sites = 1});
    plan.pools[0].priority = 1;
    plan.pools[1].priority = 2;
    FastPath fast(plan);
    limit_site(fast, 1, 2);
    unsigned through = 0;
    for (std::uint16_t i = 1; i <= 60; ++i) {
        fast.advance(seconds(1));
        through += fast.send(udp(i)).reason == Reason::kForwardedNew ? 1 : 0;
    }
    CHECK(through >= 50);
}

TEST_CASE("a flood of SYNs makes no entry and hurts no established flow") {
    FastPath fast(make_plan(), 256, 1000);
    std::vector<std::uint16_t> backends;
    for (std::uint16_t i = 0; i < 100; ++i) {
        backends.push_back(fast.send(tcp(i + 1, kSyn)).backend);
        fast.send(tcp(i + 1, kAck, 2));
        fast.send(tcp(i + 1, kAck, 2));
        fast.advance(milliseconds(10));
    }
    const std::size_t used = fast.worker->flows_v4.used();
    for (std::uint32_t i = 0; i < 100'000; ++i) {
        fast.send(tcp(static_cast<std::uint16_t>(1000 + i % 60000), kSyn, i));
        if (i % 1000 == 0) fast.advance(milliseconds(1));
    }
    CHECK(fast.worker->flows_v4.used() == used);
    for (std::uint16_t i = 0; i < 100; ++i) {
        // Its SYN again, spoofed: the flow stays.
        fast.send(tcp(i + 1, kSyn, 999));
        const Out out = fast.send(tcp(i + 1, kAck, 2));
        CHECK(out.reason == Reason::kForwardedPinned);
        CHECK(out.backend == backends[i]);
    }
}

TEST_CASE("beyond the rate of new entries flows go by their hash; entries that are there are unharmed") {
    FastPath fast(make_plan(), 4096, 100);
    fast.send(tcp(1, kSyn));
    fast.send(tcp(1, kAck, 2));
    fast.send(tcp(1, kAck, 2));
    fast.advance(seconds(1));
    unsigned forwarded = 0;
    for (std::uint16_t i = 0; i < 2000; ++i)
        forwarded +=
            fast.send(tcp(static_cast<std::uint16_t>(1000 + i), kAck, 7)).reason == Reason::kForwardedMid ? 1
                                                                                                          : 0;
    CHECK(forwarded == 2000);
    // Half of a tenth of a second's: the other half is for handshakes.
    CHECK(fast.worker->flows_v4.used() == 1 + 5);
    CHECK(fast.worker->not_inserted.get() == 1995);
    CHECK(fast.send(udp(5)).reason == Reason::kForwardedNew);
    CHECK(fast.worker->flows_v4.used() == 1 + 5);
    for (std::uint16_t port = 10; port < 15; ++port) {
        fast.send(tcp(port, kSyn));
        CHECK(fast.send(tcp(port, kAck, 2)).reason == Reason::kForwardedHandshake);
    }
    CHECK(fast.worker->flows_v4.used() == 11);
    // Beyond it the handshake's ACK still goes where its SYN went.
    const Out syn = fast.send(tcp(2, kSyn));
    const Out ack = fast.send(tcp(2, kAck, 2));
    CHECK(ack.reason == Reason::kForwardedHandshake);
    CHECK(ack.backend == syn.backend);
    CHECK(fast.send(tcp(2, kAck, 2)).backend == syn.backend);
    CHECK(fast.worker->flows_v4.used() == 11);
    CHECK(fast.send(tcp(1, kAck, 2)).reason == Reason::kForwardedPinned);
    fast.advance(seconds(1));
    fast.send(tcp(2, kAck, 2));
    CHECK(fast.worker->flows_v4.used() == 12);
}

TEST_CASE(
    "a handshake that could not be remembered stays where its SYN went, whatever its hash says by now") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan(), 4096, 100);
        const auto from = [v6](std::uint16_t port, std::uint8_t flags, std::uint32_t ack = 0) {
            Frame frame;
            frame.ether(kRouterMac, kHostMac);
            v6 ? frame.ipv6("2001:db8:c::7", "2001:db8:f::10") : frame.ipv4("198.51.100.7", "203.0.113.10");
            return frame.tcp({port, 443, flags, flags == kSyn ? 5U : 6U, ack}).bytes();
        };
        // Site 1 is full: new flows go to site 2, mid-flow packets by their hash to either.
        fast.host.set_site(api::SiteId{1}, {api::kAdmitNone, api::kAdmitAll, true});
        for (std::uint16_t port = 1; port < 40; ++port) {
            fast.send(from(port, kSyn));
            fast.send(from(port, kAck, 2));
        }
        const std::size_t used = v6 ? fast.worker->flows_v6.used() : fast.worker->flows_v4.used();
        CHECK(used == 10);
        for (std::uint16_t port = 1; port < 40; ++port) {
            const Out data = fast.send(from(port, kAck, 3));
            CHECK(data.site == 2);
            CHECK(data.reason == (port <= 10 ? Reason::kForwardedPinned : Reason::kForwardedHandshake));
        }
        // Each handshake is counted when it is remembered, and once.
        CHECK(fast.worker->sites[2].handshakes.get() == 10);
        fast.advance(seconds(1));
        for (int i = 0; i < 3; ++i)
            for (std::uint16_t port = 11; port < 21; ++port) fast.send(from(port, kAck, 4));
        CHECK(fast.worker->sites[2].handshakes.get() == 20);
        CHECK(fast.send(from(15, kAck, 5)).reason == Reason::kForwardedPinned);
    }
}

namespace {

/// Makes the flow of this port a confirmed one: its handshake was seen, and a packet after it.
void confirm(FastPath& fast, std::uint16_t port) {
    fast.send(tcp(port, kSyn));
    fast.send(tcp(port, kAck, 2));
    fast.send(tcp(port, kAck, 2));
}

}  // namespace

TEST_CASE("flows that lose their place are counted by kind, with how long they had been idle") {
    FastPath fast(make_plan(), 2);  // one bucket of four entries
    REQUIRE(fast.worker->flows_v4.capacity() == 4);
    const stages::FlowTally& tally = fast.worker->flow_tally;
    for (std::uint16_t port = 1; port <= 4; ++port) confirm(fast, port);
    CHECK(tally.evicted_confirmed.get() == 0);
    fast.advance(seconds(600));

    // No handshake was seen, so a confirmed flow does not give way; the packet goes on.
    CHECK(fast.send(tcp(5, kAck, 7)).reason == Reason::kForwardedMid);
    CHECK(fast.send(udp(5)).reason == Reason::kForwardedNew);
    CHECK(tally.no_place.get() == 2);
    CHECK(tally.evicted_confirmed.get() == 0);

    // A real client's does. It was seen once yet, so the next one takes the same place.
    fast.send(tcp(6, kSyn));
    fast.send(tcp(6, kAck, 2));
    CHECK(tally.evicted_confirmed.get() == 1);
    CHECK(tally.evicted_idle_s.get() == 600);
    CHECK(fast.send(tcp(7, kAck, 7)).reason == Reason::kForwardedMid);
    CHECK(tally.evicted_unconfirmed.get() == 1);
    CHECK(tally.evicted_confirmed.get() == 1);
    CHECK(tally.no_place.get() == 2);
}

TEST_CASE("the sweep tells how long confirmed flows have been idle, for each class of times") {
    FastPath fast(make_plan());
    const auto idle = [&] {
        fast.worker->set_time(fast.now());
        fast.worker->sweep(*fast.tables, 100'000);  // several passes: the last one was whole at this moment
        std::vector<std::uint64_t> out;
        for (const stages::Tally& c : fast.worker->flow_tally.idle) out.push_back(c.get());
        return out;
    };
    using Counts = std::vector<std::uint64_t>;
    confirm(fast, 1);
    fast.send(tcp(2, kSyn));
    fast.send(tcp(2, kAck, 2));  // seen once
    CHECK(idle() == Counts{1, 0, 0, 0, 0});
    fast.advance(seconds(8));
    CHECK(idle() == Counts{1, 0, 0, 0, 0});
    fast.advance(seconds(2));
    CHECK(idle() == Counts{0, 1, 0, 0, 0});
    confirm(fast, 3);
    CHECK(idle() == Counts{1, 1, 0, 0, 0});
    fast.advance(seconds(50));
    CHECK(idle() == Counts{0, 1, 1, 0, 0});
    fast.advance(seconds(540));
    CHECK(idle() == Counts{0, 0, 1, 1, 0});
    fast.advance(seconds(3000));
    CHECK(idle() == Counts{0, 0, 0, 1, 1});
    fast.send(tcp(1, kAck, 2));
    CHECK(idle() == Counts{1, 0, 0, 1, 0});
    fast.advance(seconds(3700));
    CHECK(idle() == Counts{0, 0, 0, 0, 1});  // the other one is forgotten
    fast.advance(seconds(3502));
    CHECK(idle() == Counts{0, 0, 0, 0, 0});
}
