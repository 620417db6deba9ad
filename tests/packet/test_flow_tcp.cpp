// TCP flows: what is remembered, what a SYN may and may not do, what happens to the stranded.
#include <doctest/doctest.h>

#include <array>
#include <bit>

#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using api::Reason;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

/// One client connection; numbers are the client's.
struct Client {
    FastPath& fast;
    bool v6 = false;
    std::uint16_t port = 40000;
    std::uint32_t isn = 5000;

    Out segment(std::uint8_t flags, std::uint32_t sequence, std::uint32_t ack,
                std::size_t payload = 0) const {
        Frame frame;
        frame.ether(kRouterMac, kHostMac);
        v6 ? frame.ipv6("2001:db8:c::7", "2001:db8:f::10") : frame.ipv4("198.51.100.7", "203.0.113.10");
        return fast.send(frame.tcp({port, 443, flags, sequence, ack}).payload(payload).bytes());
    }
    Out syn() const { return segment(kSyn, isn, 0); }
    Out ack(std::uint32_t acknowledged = 100) const { return segment(kAck, isn + 1, acknowledged); }
    Out data(std::uint32_t acknowledged = 100) const {
        return segment(kAck | kPsh, isn + 1, acknowledged, 50);
    }
    /// Up to a confirmed flow; the backend it is pinned to.
    std::uint16_t connect() const {
        const Out first = syn();
        CHECK(first.reason == Reason::kForwardedNew);
        const Out second = ack();
        CHECK(second.reason == Reason::kForwardedHandshake);
        CHECK(second.backend == first.backend);
        CHECK(data().reason == Reason::kForwardedPinned);
        return first.backend;
    }
};

api::SiteId site_of(const FastPath& fast, std::uint16_t backend) {
    return api::SiteId{fast.tables->backends[backend].site};
}

void darken(FastPath& fast, api::SiteId site, bool keep) {
    fast.host.set_site(site, {api::kAdmitNone, keep ? api::kAdmitAll : api::kAdmitNone, keep});
}

}  // namespace

TEST_CASE("a connection keeps its backend, and signals count it once") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan());
        const Client c{fast, v6};
        const std::uint16_t backend = c.connect();
        const auto& signals = fast.worker->sites[site_of(fast, backend).value()];
        CHECK(signals.syns.get() == 1);
        CHECK(signals.handshakes.get() == 1);
        CHECK(c.ack().reason == Reason::kForwardedPinned);
        CHECK(signals.handshakes.get() == 1);
        CHECK(fast.worker->backends[backend].syns.get() == 1);
        CHECK(fast.worker->backends[backend].handshakes.get() == 1);
        const std::uint64_t advanced = signals.ack_advanced.get();
        CHECK(c.data(200).backend == backend);
        CHECK(signals.ack_advanced.get() == advanced + 1);
        CHECK(c.data(200).backend == backend);
        CHECK(c.data(150).backend == backend);
        CHECK(signals.ack_advanced.get() == advanced + 1);
        CHECK((v6 ? fast.worker->flows_v6.used() : fast.worker->flows_v4.used()) == 1);
    }
}

TEST_CASE("a site's signals tell clients that only knock from those that complete, by their prefix") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan());
        const Client c{fast, v6};
        const stages::PrefixTallies& counts = fast.worker->prefixes[c.syn().site];
        const auto sum = [](const auto& tallies) {
            std::uint32_t result = 0;
            for (const auto& tally : tallies) result += tally.get();
            return result;
        };
        CHECK(sum(counts.syns) == 1);
        CHECK(sum(counts.handshakes) == 0);
        (void)c.ack();
        CHECK(sum(counts.handshakes) == 1);
        for (std::size_t i = 0; i < counts.syns.size(); ++i)
            CHECK(counts.syns[i].get() == counts.handshakes[i].get());
    }
}

TEST_CASE("SYNs that give way to a flood while they are young are counted for their site") {
    FastPath fast(make_plan());
    const std::size_t room = fast.worker->syns_v4.size();
    // Each place is taken twice, and half of that is an hour old: nobody waits for those.
    const auto knock = [&](std::size_t count, std::uint16_t third) {
        for (std::size_t i = 0; i < count; ++i) {
            Frame frame;
            frame.ether(kRouterMac, kHostMac);
            frame.ipv4("198." + std::to_string(third) + "." + std::to_string(i / 60000 % 250) + ".7",
                       "203.0.113.10");
            (void)fast.send(
                frame.tcp({static_cast<std::uint16_t>(1024 + i % 60000), 443, kSyn, 1, 0}).bytes());
        }
    };
    const auto forgotten = [&] {
        std::uint64_t count = 0;
        for (const auto& site : fast.worker->sites) count += site.syns_forgotten.get();
        return count;
    };
    knock(room / 8, 18);
    CHECK(forgotten() < room / 100);
    knock(room, 19);
    fast.advance(seconds(2));
    const std::uint64_t before = forgotten();
    CHECK(before > 0);
    knock(room / 2, 20);
    CHECK(forgotten() - before < room / 20);  // the old ones gave way
    fast.advance(milliseconds(320));
    knock(room * 2, 21);
    CHECK(forgotten() - before > room);
    std::uint64_t ages = 0;
    for (const auto& site : fast.worker->sites) ages += site.forgotten_ms.get();
    CHECK(ages / forgotten() < 320 + 32);
}

TEST_CASE("a handshake counts for its site although its flow is not kept there") {
    FastPath fast(make_plan({.stranded = api::Stranded::kRehash}));
    const Client c{fast};
    const Out first = c.syn();
    darken(fast, api::SiteId{first.site}, false);
    const Out second = c.ack();
    CHECK(second.site != first.site);
    CHECK(fast.worker->sites[first.site].handshakes.get() == 1);
    CHECK(fast.worker->backends[first.backend].handshakes.get() == 1);
}

TEST_CASE("a SYN makes no flow entry; a repeated one is counted apart and goes to the same backend") {
    FastPath fast(make_plan());
    const Client c{fast};
    const Out first = c.syn();
    CHECK(fast.worker->flows_v4.used() == 0);
    fast.advance(seconds(1));
    CHECK(c.syn().backend == first.backend);
    const auto& signals = fast.worker->sites[first.site];
    CHECK(signals.syns.get() == 1);
    CHECK(signals.syns_repeated.get() == 1);
}

TEST_CASE("a drain between SYN and ACK breaks no handshake") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan());
        const Client c{fast, v6};
        const Out first = c.syn();
        darken(fast, api::SiteId{first.site}, true);
        const Out second = c.ack();
        CHECK(second.reason == Reason::kForwardedHandshake);
        CHECK(second.backend == first.backend);
        CHECK(c.data().backend == first.backend);
        const Client other{fast, v6, 40001};
        CHECK(other.syn().site != first.site);
    }
}

TEST_CASE("a SYN repeated to a dark site goes to a live one, and so does its ACK") {
    FastPath fast(make_plan());
    const Client c{fast};
    const Out first = c.syn();
    darken(fast, api::SiteId{first.site}, true);
    const Out again = c.syn();
    CHECK(again.site != first.site);
    CHECK(c.ack().backend == again.backend);
}

TEST_CASE("a SYN repeated to a site that keeps a trickle goes elsewhere, unless it is of the trickle") {
    FastPath fast(make_plan());
    std::size_t moved = 0;
    std::size_t stayed = 0;
    for (std::uint16_t port = 20000; port < 24000; ++port) {
        const Client c{fast, false, port};
        const Out first = c.syn();
        fast.host.set_site(api::SiteId{first.site}, {api::Admit{656}, api::kAdmitAll, true});
        const Out again = c.syn();
        ++(again.site == first.site ? stayed : moved);
        CHECK(c.ack().backend == again.backend);
        fast.host.set_site(api::SiteId{first.site}, {});
    }
    CHECK(moved > 3900);
    CHECK(stayed > 10);  // 1 %
}

TEST_CASE("data before the handshake's ACK is answered from the SYN table too; numbers far off are not") {
    FastPath fast(make_plan());
    const Client c{fast};
    const Out first = c.syn();
    const Out far = c.segment(kAck, c.isn + 1 + (1U << 16U), 1);
    CHECK(far.reason == Reason::kForwardedMid);
    FastPath other(make_plan());
    const Client d{other};
    d.syn();
    const Out near = d.segment(kAck | kPsh, d.isn + 1 + 1460, 1, 100);
    CHECK(near.reason == Reason::kForwardedHandshake);
    CHECK(near.backend == first.backend);
}

TEST_CASE("a reused 5-tuple: neither the SYN nor its ACK follows the old pin") {
    FastPath fast(make_plan());
    const Client c{fast};
    const std::uint16_t old = c.connect();
    darken(fast, site_of(fast, old), true);
    const Client again{fast, false, c.port, 90000};
    const Out syn = again.syn();
    CHECK(syn.site != site_of(fast, old).value());
    const Out ack = again.ack();
    CHECK(ack.reason == Reason::kForwardedHandshake);
    CHECK(ack.backend == syn.backend);
    CHECK(again.data().backend == syn.backend);
}

TEST_CASE("a spoofed SYN can't unpin a live flow, and the flow's own segments don't follow it") {
    FastPath fast(make_plan());
    const Client c{fast};
    const std::uint16_t backend = c.connect();
    darken(fast, site_of(fast, backend), true);
    for (std::uint32_t isn = 1; isn < 200; ++isn) {
        const Client spoofer{fast, false, c.port, isn * 7919};
        CHECK(spoofer.syn().backend != backend);
        CHECK(c.data().backend == backend);
        CHECK(c.segment(kAck, c.isn + 1 + 1460, 100, 10).backend == backend);
    }
    fast.advance(seconds(120));
    CHECK(c.data().backend == backend);
}

TEST_CASE("a SYN is remembered for 63 s, not longer") {
    FastPath fast(make_plan());
    const Client c{fast};
    c.syn();
    fast.advance(seconds(62));
    CHECK(c.ack().reason == Reason::kForwardedHandshake);
    const Client d{fast, false, 40001};
    d.syn();
    fast.advance(seconds(65));
    CHECK(d.ack().reason == Reason::kForwardedMid);
}

TEST_CASE("mid-flow packets of unknown flows are placed by admit_mid and stay") {
    FastPath fast(make_plan());
    const Client c{fast};
    const Out first = c.data();
    CHECK(first.reason == Reason::kForwardedMid);
    // Drained: no new flow, but a flow that this worker does not know is still served where it was.
    FastPath drained(make_plan());
    darken(drained, api::SiteId{first.site}, true);
    const Client d{drained};
    CHECK(d.data().backend == first.backend);
    CHECK(d.data().reason == Reason::kForwardedPinned);
    // Ramping up: admit_mid stays at the ramp's start, so such a flow is not for this site yet.
    FastPath ramping(make_plan());
    ramping.host.set_site(api::SiteId{first.site}, {api::kAdmitAll, api::kAdmitNone, true});
    CHECK(Client{ramping}.data().site != first.site);
}

TEST_CASE("RST and FIN of unknown flows pass without leaving an entry") {
    FastPath fast(make_plan());
    const Client c{fast};
    CHECK(c.segment(kRst, 1, 0).reason == Reason::kForwardedMid);
    CHECK(c.segment(kFin | kAck, 1, 1).reason == Reason::kForwardedMid);
    CHECK(fast.worker->flows_v4.used() == 0);
}

TEST_CASE("stranded = reset: the next segment is answered with a RST that its sender accepts") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan());
        const Client c{fast, v6};
        const std::uint16_t backend = c.connect();
        darken(fast, site_of(fast, backend), true);
        CHECK(c.data().backend == backend);  // kept: a hiccup resets nobody
        darken(fast, site_of(fast, backend), false);
        const Out out = c.data(777);
        CHECK(out.reason == Reason::kResetSent);
        CHECK(out.port == 0);
        Frame want;
        want.ether(kHostMac, kRouterMac);
        v6 ? want.ipv6("2001:db8:f::10", "2001:db8:c::7") : want.ipv4("203.0.113.10", "198.51.100.7");
        const Bytes bytes = want.tcp({443, c.port, kRst, 777, 0}).bytes();
        INFO("got\n" << hex(out.bytes) << "\nexpected\n" << hex(bytes));
        CHECK(out.bytes == bytes);
        // Again for the retransmission; a RST is never answered; a new connection on the same port works.
        CHECK(c.data(777).reason == Reason::kResetSent);
        CHECK(c.segment(kRst, c.isn + 51, 0).reason == Reason::kStranded);
        const Client again{fast, v6, c.port, 70000};
        CHECK(again.syn().site != site_of(fast, backend).value());
        CHECK(again.ack().reason == Reason::kForwardedHandshake);
        CHECK(again.data().reason == Reason::kForwardedPinned);
    }
}

TEST_CASE("a client that was reset is not taken back when its site returns") {
    FastPath fast(make_plan());
    const Client c{fast};
    const std::uint16_t backend = c.connect();
    darken(fast, site_of(fast, backend), false);
    CHECK(c.data().reason == Reason::kResetSent);
    fast.host.set_site(site_of(fast, backend), {});
    CHECK(c.data(900).reason == Reason::kResetSent);
}

TEST_CASE("a RST that answers a challenge ACK follows the SYN, with and without a tombstone") {
    FastPath fast(make_plan());
    const Client c{fast};
    const std::uint16_t backend = c.connect();
    darken(fast, site_of(fast, backend), false);
    CHECK(c.data().reason == Reason::kResetSent);
    fast.host.set_site(site_of(fast, backend), {});
    const Client again{fast, false, c.port, 70000};
    CHECK(again.syn().backend == backend);  // which still has the old connection, half open
    const Out reset = again.segment(kRst, 123456, 0);
    CHECK(reset.reason == Reason::kForwardedHandshake);
    CHECK(reset.backend == backend);
    CHECK(again.syn().backend == backend);
    CHECK(again.ack().reason == Reason::kForwardedHandshake);
    const Client fresh{fast, false, 40009, 70000};
    const Out syn = fresh.syn();
    CHECK(fresh.segment(kRst, 5, 0).backend == syn.backend);
    CHECK(fresh.ack().reason == Reason::kForwardedHandshake);
}

TEST_CASE("resets stay within their budget; beyond it the client retries") {
    api::ForwardingPlan plan = make_plan();
    plan.resets_per_second = 100;
    FastPath fast(plan);
    std::vector<Client> clients;
    for (std::uint16_t i = 0; i < 200; ++i)
        clients.push_back({fast, false, static_cast<std::uint16_t>(1000 + i)});
    for (const Client& c : clients) c.connect();
    fast.advance(seconds(10));
    darken(fast, api::SiteId{1}, false);
    darken(fast, api::SiteId{2}, false);
    unsigned sent = 0;
    for (const Client& c : clients) sent += c.data().reason == Reason::kResetSent ? 1 : 0;
    CHECK(sent == 2);
    CHECK(fast.count(Reason::kResetOverBudget) == 198);
    fast.advance(milliseconds(100));
    CHECK(clients[199].data().reason == Reason::kResetSent);
}

TEST_CASE("stranded = rehash and keep") {
    FastPath rehash(make_plan({.stranded = api::Stranded::kRehash}));
    const Client c{rehash};
    std::uint16_t backend = c.connect();
    darken(rehash, site_of(rehash, backend), false);
    const Out moved = c.data();
    CHECK(moved.reason == Reason::kForwardedRehashed);
    CHECK(moved.site != site_of(rehash, backend).value());
    CHECK(c.data().reason == Reason::kForwardedPinned);
    CHECK(c.data().backend == moved.backend);

    FastPath keep(make_plan({.stranded = api::Stranded::kKeep}));
    const Client d{keep};
    backend = d.connect();
    darken(keep, site_of(keep, backend), false);
    CHECK(d.data().backend == backend);
    CHECK(d.data().reason == Reason::kForwardedPinned);
}

TEST_CASE("one dead backend: new flows pass it over, its pinned ones are stranded, the site's others stay") {
    FastPath fast(make_plan({.sites = 1, .backends = 4}));
    std::vector<std::pair<Client, std::uint16_t>> clients;
    for (std::uint16_t i = 0; i < 100; ++i) {
        const Client c{fast, false, static_cast<std::uint16_t>(1000 + i)};
        clients.emplace_back(c, c.connect());
    }
    const std::uint16_t dead = clients[0].second;
    fast.host.set_backend(api::BackendId{dead}, {.up = false, .keep = true});
    for (std::uint16_t i = 0; i < 300; ++i)
        CHECK(Client{fast, true, static_cast<std::uint16_t>(5000 + i)}.syn().backend != dead);
    for (const auto& [client, backend] : clients) CHECK(client.data().backend == backend);
    fast.host.set_backend(api::BackendId{dead}, {.up = false, .keep = false});
    for (const auto& [client, backend] : clients) {
        const Out out = client.data();
        CHECK(out.reason == (backend == dead ? Reason::kResetSent : Reason::kForwardedPinned));
    }
}

TEST_CASE("a backend removed and another added never inherits its pinned flows") {
    FastPath fast(make_plan({.sites = 1, .backends = 2}));
    const Client c{fast};
    const std::uint16_t backend = c.connect();
    api::ForwardingPlan plan = make_plan({.sites = 1, .backends = 2});
    plan.generation = api::Generation{2};
    auto& backends = plan.pools[0].sites[0].backends;
    std::erase_if(backends, [&](const api::PlanBackend& b) { return b.id.value() == backend; });
    fast.apply(plan);
    CHECK(fast.worker->scanned() < 2);
    fast.sweep();
    CHECK(fast.worker->scanned() == 2);
    // The id comes back as another machine; the entry no longer names it.
    plan.generation = api::Generation{3};
    backends.push_back(
        {api::BackendId{backend}, *api::IpAddress::parse("10.1.0.99"), api::Weight{100}, api::NextHopId{0}});
    fast.apply(plan);
    CHECK(c.data().reason == Reason::kResetSent);
}

TEST_CASE("flows that begin and move while the sweep passes leave no name of a removed backend behind it") {
    FastPath fast(make_plan({.sites = 1, .backends = 4}), 512);
    const auto names = [&](std::uint16_t backend) {
        std::size_t count = 0;
        for (std::size_t b = 0; b < fast.worker->flows_v4.buckets(); ++b)
            for (const auto& entry : fast.worker->flows_v4.bucket(b).entries)
                count +=
                    entry.value().state() != core::FlowState::kEmpty && entry.value().backend() == backend
                        ? 1
                        : 0;
        return count;
    };
    std::uint16_t port = 1;
    while (fast.worker->flows_v4.used() < fast.worker->flows_v4.capacity() * 8 / 10)
        (void)Client{fast, false, port++}.connect();
    // Handshakes in flight, whose SYNs went to the backend that goes.
    std::vector<Client> in_flight;
    for (std::uint16_t i = 0; i < 60; ++i) {
        const Client c{fast, false, static_cast<std::uint16_t>(30000 + i)};
        if (c.syn().backend == 100) in_flight.push_back(c);
    }
    REQUIRE(in_flight.size() > 5);
    REQUIRE(names(100) > 50);
    api::ForwardingPlan plan = make_plan({.sites = 1, .backends = 4});
    plan.generation = api::Generation{2};
    std::erase_if(plan.pools[0].sites[0].backends, [](const auto& b) { return b.id.value() == 100; });
    fast.apply(plan);
    std::size_t step = 0;
    for (; fast.worker->scanned() < 2; ++step) {
        REQUIRE(step < 100'000);
        fast.worker->sweep(*fast.tables, 1);
        if (step % 2 == 0 && step < 250) (void)Client{fast, false, port++}.connect();
        if (step % 8 == 0 && !in_flight.empty()) {
            in_flight.back().data();
            in_flight.pop_back();
        }
    }
    CHECK(in_flight.empty());
    CHECK(names(100) == 0);
}

TEST_CASE("plans that come faster than the sweep passes don't keep it from ending") {
    FastPath fast(make_plan({.sites = 1, .backends = 2}));
    api::ForwardingPlan plan = make_plan({.sites = 1, .backends = 2});
    const std::size_t pass = fast.worker->flows_v4.buckets() + fast.worker->flows_v6.buckets() +
                             fast.worker->syns_v4.size() / 4 + api::kMaxBackends / 16 + 1;
    for (std::uint64_t generation = 2; generation < 8; ++generation) {
        plan.generation = api::Generation{generation};
        fast.apply(plan);
        fast.worker->sweep(*fast.tables, pass / 2);
        // Half a pass for the first, then as many as were finished: each for the plan it began with.
        CHECK(fast.worker->scanned() <= generation);
    }
    CHECK(fast.worker->scanned() >= 4);
    fast.worker->sweep(*fast.tables, 2 * pass);
    CHECK(fast.worker->scanned() == 7);
}

TEST_CASE(
    "no plan's site admits: counted as no_site; a site without a live backend: the next; none: no_backend") {
    FastPath fast(make_plan());
    darken(fast, api::SiteId{1}, true);
    darken(fast, api::SiteId{2}, true);
    CHECK(Client{fast}.syn().reason == Reason::kNoSite);
    fast.host.set_site(api::SiteId{1}, {});
    fast.host.set_site(api::SiteId{2}, {});
    for (const std::uint16_t b : std::array<std::uint16_t, 2>{100, 101})
        fast.host.set_backend(api::BackendId{b}, {.up = false, .keep = true});
    for (std::uint16_t port = 1; port < 100; ++port) CHECK(Client{fast, false, port}.syn().site == 2);
    for (const std::uint16_t b : std::array<std::uint16_t, 2>{200, 201})
        fast.host.set_backend(api::BackendId{b}, {.up = false, .keep = true});
    CHECK(Client{fast}.syn().reason == Reason::kNoBackend);
}

TEST_CASE("on_empty = reset: a SYN that nobody takes is refused within the budget, all else as before") {
    FastPath fast(make_plan({.on_empty = api::Refusal::kReset}));
    const Client before{fast, false, 999};
    (void)before.connect();
    darken(fast, api::SiteId{1}, true);
    darken(fast, api::SiteId{2}, true);
    for (const bool v6 : {false, true}) {
        const Client c{fast, v6};
        const Out out = c.syn();
        CHECK(out.reason == Reason::kEmptyReset);
        CHECK(out.verdict == core::Verdict::kTransmit);
        CHECK(c.data().reason == Reason::kForwardedMid);  // admit_mid is another switch
    }
    // Sites that take no new flows keep what they have.
    CHECK(before.data().reason == Reason::kForwardedPinned);
    std::size_t refused = 0;
    std::size_t dropped = 0;
    for (std::uint16_t port = 1; port < 3000; ++port) {
        const Out out = Client{fast, false, port}.syn();
        refused += out.reason == Reason::kEmptyReset ? 1 : 0;
        dropped += out.reason == Reason::kNoSite ? 1 : 0;
    }
    CHECK(refused + dropped == 2999);
    CHECK(refused < 100);  // a fiftieth of a second's worth at once
    fast.host.set_site(api::SiteId{1}, {});
    CHECK(Client{fast}.syn().reason == Reason::kForwardedNew);
}

TEST_CASE("the sweep counts each backend's live flows; those that were reset or ended are not among them") {
    FastPath fast(make_plan());
    std::array<std::uint64_t, 300> pinned{};
    std::vector<std::pair<Client, std::uint16_t>> clients;
    for (std::uint16_t i = 0; i < 60; ++i) {
        const Client c{fast, i % 3 == 0, static_cast<std::uint16_t>(1000 + i)};
        clients.emplace_back(c, c.connect());
        ++pinned[clients.back().second];
    }
    const auto counts_match = [&] {
        api::ForwardingPlan plan = make_plan();
        plan.generation = api::Generation{fast.tables->generation.value() + 1};
        fast.apply(plan);
        fast.sweep();
        for (std::size_t id = 0; id < pinned.size(); ++id)
            CHECK(fast.worker->backends[id].flows.get() == pinned[id]);
    };
    counts_match();
    counts_match();  // a second pass counts anew
    const auto& [gone, its_backend] = clients[7];
    fast.host.set_backend(api::BackendId{its_backend}, {.up = false, .keep = false});
    CHECK(gone.data().reason == Reason::kResetSent);
    --pinned[its_backend];
    counts_match();
}

TEST_CASE("idle flows are forgotten by the sweep, live ones are not") {
    FastPath fast(make_plan());
    const Client idle{fast, false, 1};
    const Client live{fast, false, 2};
    const Client closed{fast, false, 3};
    idle.connect();
    live.connect();
    closed.connect();
    closed.segment(kFin | kAck, closed.isn + 1, 100);
    fast.advance(seconds(70));
    api::ForwardingPlan plan = make_plan();
    plan.generation = api::Generation{2};
    fast.apply(plan);
    fast.sweep();
    CHECK(fast.worker->flows_v4.used() == 2);
    fast.advance(std::chrono::hours(2));
    live.data();
    plan.generation = api::Generation{3};
    fast.apply(plan);
    fast.sweep();
    CHECK(fast.worker->flows_v4.used() == 1);
}

TEST_CASE("a TCP flow seen once is forgotten after 2 minutes, a confirmed one is not") {
    FastPath fast(make_plan());
    const Client once{fast, false, 1};
    const Client twice{fast, false, 2};
    CHECK(once.data().reason == Reason::kForwardedMid);
    CHECK(twice.data().reason == Reason::kForwardedMid);
    CHECK(twice.data(150).reason == Reason::kForwardedPinned);
    std::uint64_t generation = 1;
    const auto live = [&] {
        api::ForwardingPlan plan = make_plan();
        plan.generation = api::Generation{++generation};
        fast.apply(plan);
        fast.sweep();
        return fast.worker->flows_v4.used();
    };
    fast.advance(seconds(118));
    CHECK(live() == 2);
    fast.advance(seconds(6));
    CHECK(live() == 1);
    CHECK(twice.data(200).reason == Reason::kForwardedPinned);
    CHECK(once.data(200).reason == Reason::kForwardedMid);
}
