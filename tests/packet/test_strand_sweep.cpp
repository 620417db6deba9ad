// The sweep: what it sends to clients of stranded flows, to whom, how fast, and what their answers mean.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>

#include "tests/support/fast_path.h"
#include "tests/support/random_seed.h"

using namespace detour;
using namespace detour::support;
using api::Reason;
using core::FlowState;
using stages::SweepResult;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr std::string_view kVip4 = "203.0.113.10";
constexpr std::string_view kVip6 = "2001:db8:f::10";

/// One client connection through `fast`; numbers are the client's.
struct Client {
    FastPath& fast;
    bool v6 = false;
    std::uint16_t port = 40000;
    std::uint32_t isn = 5000;
    std::string_view router = kRouterMac;

    [[nodiscard]] std::string_view address() const { return v6 ? "2001:db8:c::7" : "198.51.100.7"; }
    [[nodiscard]] std::string_view vip() const { return v6 ? kVip6 : kVip4; }
    Out segment(TcpFields fields, std::size_t payload = 0) const {
        Frame frame;
        frame.ether(router, kHostMac);
        v6 ? frame.ipv6(address(), vip()) : frame.ipv4(address(), vip());
        fields.source = port;
        fields.destination = 443;
        return fast.send(frame.tcp(fields).payload(payload).bytes());
    }
    Out ack(std::uint32_t acknowledged) const {
        return segment({.flags = kAck, .sequence = isn + 51, .acknowledgement = acknowledged});
    }
    Out rst(std::uint32_t sequence) const { return segment({.flags = kRst, .sequence = sequence}); }
    /// A confirmed flow whose last ACK is `acknowledged`; its backend.
    std::uint16_t connect(std::uint32_t acknowledged = 100) const {
        const Out first = segment({.flags = kSyn, .sequence = isn});
        segment({.flags = kAck, .sequence = isn + 1, .acknowledgement = acknowledged - 1});
        CHECK(segment({.flags = kAck | kPsh, .sequence = isn + 1, .acknowledgement = acknowledged}, 50)
                  .reason == Reason::kForwardedPinned);
        return first.backend;
    }
    /// What the VIP sends this client.
    [[nodiscard]] Bytes expected(std::uint8_t flags, std::uint32_t sequence) const {
        Frame want;
        want.ether(kHostMac, router);
        v6 ? want.ipv6(vip(), address()) : want.ipv4(vip(), address());
        return want.tcp({443, port, flags, sequence, 0}).bytes();
    }
    /// What a GUE tunnel carries of it to a backend: IP header and TCP.
    [[nodiscard]] Bytes inner(std::uint8_t flags, std::uint32_t sequence) const {
        Frame want;
        want.ether(kHostMac, kRouterMac);
        v6 ? want.ipv6(address(), vip()) : want.ipv4(address(), vip());
        const Bytes whole = want.tcp({port, 443, flags, sequence, 0}).bytes();
        return {whole.begin() + 14, whole.end()};
    }
};

void set_site(FastPath& fast, std::uint8_t site, bool keep, bool end = false) {
    fast.host.set_site(api::SiteId{site},
                       {api::kAdmitNone, keep ? api::kAdmitAll : api::kAdmitNone, keep, end});
}

void strand_all(FastPath& fast, bool end = false) {
    set_site(fast, 1, false, end);
    set_site(fast, 2, false, end);
}

void check_same(const Bytes& got, const Bytes& want) {
    INFO("got\n" << hex(got) << "\nexpected\n" << hex(want));
    CHECK(got == want);
}

/// Lets the sweep go on until it has nothing to do, a millisecond a step; what it sent.
std::vector<Made> finish(FastPath& fast, milliseconds most = seconds(60)) {
    std::vector<Made> all;
    for (milliseconds spent{0}; spent < most; spent += milliseconds(1)) {
        const SweepResult result = fast.sweep_stranded();
        for (Made& frame : fast.made()) all.push_back(std::move(frame));
        if (result == SweepResult::kNothing) return all;
        fast.advance(milliseconds(1));
    }
    FAIL("the sweep does not end");
    return all;
}

FlowState state_of(const FastPath& fast, const Client& c) {
    for (std::size_t i = 0; i < fast.worker->flows_v4.buckets(); ++i)
        for (auto& e : fast.worker->flows_v4.bucket(i).entries)
            if (e.value().state() != FlowState::kEmpty &&
                static_cast<std::uint16_t>(e.key_word(0) >> 16U) == __builtin_bswap16(c.port))
                return e.value().state();
    return FlowState::kEmpty;
}

}  // namespace

TEST_CASE("an idle client of a stranded site gets a RST with its last ACK and an ACK just below it") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan());
        const Client c{fast, v6};
        const std::uint16_t backend = c.connect(777);
        CHECK(finish(fast).empty());
        set_site(fast, fast.tables->backends[backend].site, true);
        CHECK(finish(fast).empty());  // drained, not stranded
        set_site(fast, fast.tables->backends[backend].site, false);
        const auto made = finish(fast);
        REQUIRE(made.size() == 2);
        CHECK(made[0].port == 0);
        check_same(made[0].bytes, c.expected(kRst, 777));
        check_same(made[1].bytes, c.expected(kAck, 776));
        CHECK(fast.worker->swept.resets.get() == 1);
    }
}

TEST_CASE("numbers wrap: an ACK of 0 is followed by one of 2^32 - 1") {
    FastPath fast(make_plan());
    const Client c{fast};
    c.connect(0xffffffffU);
    c.ack(0);
    strand_all(fast);
    const auto made = finish(fast);
    REQUIRE(made.size() == 2);
    check_same(made[0].bytes, c.expected(kRst, 0));
    check_same(made[1].bytes, c.expected(kAck, 0xffffffffU));
}

TEST_CASE("a client that was gone answers with a RST: it is not answered, and not told again") {
    FastPath fast(make_plan());
    const Client c{fast};
    c.connect();
    strand_all(fast);
    CHECK(finish(fast).size() == 2);
    CHECK(state_of(fast, c) == FlowState::kSwept);
    CHECK(c.rst(0).reason == Reason::kStranded);
    CHECK(fast.made().empty());
    CHECK(state_of(fast, c) == FlowState::kTombstone);
    CHECK(fast.worker->swept.answered.get() == 1);
    fast.advance(seconds(10));
    CHECK(finish(fast).empty());
}

TEST_CASE("a client whose last ACK was lost answers with its exact number and is reset from that") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan());
        const Client c{fast, v6};
        c.connect(100);
        strand_all(fast);
        CHECK(finish(fast).size() == 2);
        // Its duplicate or challenge ACK, with the options that it uses (timestamps, SACK).
        const Bytes options{1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8};
        const Out out = c.segment({.flags = kAck,
                                   .sequence = c.isn + 51,
                                   .acknowledgement = 5100,
                                   .window = 500,
                                   .options = options});
        CHECK(out.reason == Reason::kResetSent);
        check_same(out.bytes, c.expected(kRst, 5100));
        fast.advance(seconds(10));
        CHECK(finish(fast).empty());
    }
}

TEST_CASE("who does not answer is told once more after some seconds, then no more") {
    FastPath fast(make_plan());
    const Client c{fast};
    c.connect(100);
    strand_all(fast);
    CHECK(finish(fast).size() == 2);
    fast.advance(seconds(2));
    CHECK(finish(fast).empty());
    fast.advance(seconds(3));
    const auto again = finish(fast);
    REQUIRE(again.size() == 2);
    check_same(again[0].bytes, c.expected(kRst, 100));
    check_same(again[1].bytes, c.expected(kAck, 99));
    CHECK(fast.worker->swept.repeated.get() == 1);
    fast.advance(seconds(60));
    CHECK(finish(fast).empty());
}

TEST_CASE("a client that was swept is not taken back when its site returns, and may begin anew") {
    FastPath fast(make_plan());
    const Client c{fast};
    const std::uint16_t backend = c.connect(100);
    const std::uint8_t site = fast.tables->backends[backend].site;
    set_site(fast, site, false);
    CHECK(finish(fast).size() == 2);
    fast.host.set_site(api::SiteId{site}, {});
    CHECK(c.ack(100).reason == Reason::kResetSent);
    const Client again{fast, false, c.port, 90000};
    CHECK(again.connect() == backend);
}

TEST_CASE("a client that reconnects from the same port is left alone by the sweep") {
    FastPath fast(make_plan());
    const Client c{fast};
    const std::uint8_t site = fast.tables->backends[c.connect()].site;
    const Client again{fast, false, c.port, 90000};
    set_site(fast, site, true);
    CHECK(again.segment({.flags = kSyn, .sequence = again.isn}).site != site);
    set_site(fast, site, false);
    CHECK(finish(fast).empty());
}

TEST_CASE("only stranded TCP flows of pools that reset are swept") {
    struct Row {
        const char* name;
        api::Stranded stranded;
        std::size_t frames;
    };
    for (const Row& row : {Row{"reset", api::Stranded::kReset, 2}, Row{"rehash", api::Stranded::kRehash, 0},
                           Row{"keep", api::Stranded::kKeep, 0}}) {
        CAPTURE(row.name);
        FastPath fast(make_plan({.stranded = row.stranded}));
        const Client c{fast};
        const std::uint8_t site = fast.tables->backends[c.connect()].site;
        Frame udp;
        udp.ether(kRouterMac, kHostMac).ipv4("198.51.100.7", kVip4).udp(40000, 53).payload(20);
        fast.send(udp.bytes());
        fast.send(udp.bytes());
        set_site(fast, site == 1 ? 2 : 1, false);
        CHECK(finish(fast).empty());  // the other site's flows stay
        set_site(fast, site, false);
        CHECK(finish(fast).size() == row.frames);
    }
}

TEST_CASE(
    "a backend's and a pool's own switch strand theirs alone; a backend that left the plan is swept too") {
    FastPath fast(make_plan({.sites = 1, .backends = 4}));
    std::array<std::size_t, 4> of{};
    std::vector<std::uint16_t> backends;
    for (std::uint16_t i = 0; i < 60; ++i) {
        const Client c{fast, i % 2 == 0, static_cast<std::uint16_t>(1000 + i)};
        backends.push_back(c.connect());
        ++of[static_cast<std::size_t>(backends.back() - 100)];
    }
    fast.host.set_backend(api::BackendId{102}, {.up = false, .keep = false});
    CHECK(finish(fast).size() == 2 * of[2]);
    api::ForwardingPlan plan = make_plan({.sites = 1, .backends = 4});
    plan.generation = api::Generation{2};
    plan.pools[0].sites[0].backends.erase(plan.pools[0].sites[0].backends.begin());
    fast.apply(plan);
    CHECK(finish(fast).empty());
    fast.sweep();
    CHECK(finish(fast).size() == 2 * of[0]);
    fast.host.set_pool_site(api::PoolId{0}, api::SiteId{1}, {api::kAdmitNone, api::kAdmitNone, false});
    CHECK(finish(fast).size() == 2 * (of[1] + of[3]));
}

TEST_CASE(
    "random flows and switches: exactly those whose site, pool or backend does not keep, from their last "
    "ACK") {
    std::mt19937_64 random(random_seed());
    for (int round = 0; round < 20; ++round) {
        api::ForwardingPlan plan = make_plan({.sites = 4, .backends = 3});
        plan.resets_per_second = 1'000'000;
        FastPath fast(plan);
        struct Known {
            std::uint32_t ack;
            std::uint16_t backend;
        };
        std::map<std::uint16_t, Known> clients;  // by port
        for (std::uint16_t i = 0; i < 500; ++i) {
            const auto port = static_cast<std::uint16_t>(1000 + i);
            const Client c{fast, random() % 2 == 0, port};
            auto ack = static_cast<std::uint32_t>(random());
            const std::uint16_t backend = c.connect(ack);
            for (std::uint64_t more = random() % 3; more > 0; --more) {
                ack += static_cast<std::uint32_t>(random() % 100'000);
                c.ack(ack);
                c.ack(ack - static_cast<std::uint32_t>(random() % 1000));  // an old one, reordered
            }
            clients[port] = {ack, backend};
        }
        std::map<std::uint8_t, bool> site_keeps;
        std::map<std::uint16_t, bool> backend_keeps;
        for (std::uint8_t site = 1; site <= 4; ++site) {
            site_keeps[site] = random() % 3 != 0;
            const bool by_pool = random() % 2 == 0;
            const core::SwitchValue value{api::kAdmitNone, api::kAdmitNone, site_keeps[site]};
            by_pool ? fast.host.set_pool_site(api::PoolId{0}, api::SiteId{site}, value)
                    : fast.host.set_site(api::SiteId{site}, value);
            for (std::uint16_t b = 0; b < 3; ++b) {
                const auto id = static_cast<std::uint16_t>(site * 100 + b);
                backend_keeps[id] = random() % 4 != 0;
                fast.host.set_backend(api::BackendId{id}, {.up = true, .keep = backend_keeps[id]});
            }
        }
        std::map<std::uint16_t, std::uint32_t> resets, acks;
        for (const Made& frame : finish(fast)) {
            const std::uint8_t* tcp = frame.bytes.data() + frame.bytes.size() - 20;
            const auto port = static_cast<std::uint16_t>(tcp[2] << 8U | tcp[3]);
            const std::uint32_t sequence = static_cast<std::uint32_t>(tcp[4]) << 24U |
                                           static_cast<std::uint32_t>(tcp[5]) << 16U |
                                           static_cast<std::uint32_t>(tcp[6]) << 8U | tcp[7];
            CHECK((tcp[13] == kRst ? resets : acks).emplace(port, sequence).second);
        }
        std::map<std::uint16_t, std::uint32_t> want;
        for (const auto& [port, known] : clients) {
            const std::uint8_t site = fast.tables->backends[known.backend].site;
            if (!site_keeps[site] || !backend_keeps[known.backend]) want[port] = known.ack;
        }
        CHECK(resets == want);
        for (auto& [port, ack] : want) --ack;
        CHECK(acks == want);
    }
}

TEST_CASE("sweep and immediate resets share one pace, in every second; none is passed over") {
    api::ForwardingPlan plan = make_plan();
    plan.resets_per_second = 500;
    FastPath fast(plan);
    constexpr std::uint16_t kClients = 1500;
    for (std::uint16_t i = 0; i < kClients; ++i)
        Client{fast, i % 4 == 0, static_cast<std::uint16_t>(1000 + i)}.connect();
    fast.advance(seconds(3));
    strand_all(fast);
    std::vector<unsigned> resets;  // a millisecond each
    std::size_t swept = 0;
    std::uint16_t sender = 0;
    for (int ms = 0; ms < 4000 && swept + fast.count(Reason::kResetSent) < kClients; ++ms) {
        unsigned now = 0;
        (void)fast.sweep_stranded(64);
        for (const Made& frame : fast.made()) now += frame.bytes[frame.bytes.size() - 7] == kRst ? 1 : 0;
        swept += now;
        // Every third millisecond a client sends of itself.
        if (ms % 3 == 0 && sender < kClients) {
            const Client c{fast, sender % 4 == 0, static_cast<std::uint16_t>(1000 + sender)};
            now += c.ack(100).reason == Reason::kResetSent ? 1 : 0;
            sender = static_cast<std::uint16_t>(sender + 7);
        }
        resets.push_back(now);
        fast.advance(milliseconds(1));
    }
    CHECK(swept > 1000);
    CHECK(resets.size() > 2500);
    CHECK(resets.size() < 3500);
    for (std::size_t begin = 0; begin + 1000 <= resets.size(); begin += 50) {
        unsigned second = 0;
        for (std::size_t i = begin; i < begin + 1000; ++i) second += resets[i];
        CHECK(second <= 550);
    }
    finish(fast);
    CHECK(fast.worker->swept.resets.get() +
              fast.worker->counters[static_cast<std::size_t>(Reason::kResetSent)].get() >=
          kClients);
}

TEST_CASE("confirmed flows go before those seen once") {
    api::ForwardingPlan plan = make_plan();
    plan.resets_per_second = 100;
    FastPath fast(plan);
    for (std::uint16_t i = 0; i < 500; ++i)  // a flood of ACKs
        Client{fast, false, static_cast<std::uint16_t>(20000 + i)}.ack(1);
    const Client messenger{fast, false, 1000};
    messenger.connect(4242);
    fast.advance(seconds(3));
    strand_all(fast);
    while (fast.sweep_stranded() == SweepResult::kMore) {
    }
    const auto made = fast.made();
    REQUIRE(made.size() >= 2);
    check_same(made[0].bytes, messenger.expected(kRst, 4242));
}

TEST_CASE("flows are ended though their backends live: the client is asked, then both are reset exactly") {
    for (const bool v6 : {false, true}) {
        for (const auto stranded : {api::Stranded::kReset, api::Stranded::kKeep}) {
            FastPath fast(make_plan({.encap = api::Encap::kIpip, .stranded = stranded}));
            const Client c{fast, v6};
            const std::uint16_t backend = c.connect(100);
            set_site(fast, fast.tables->backends[backend].site, false, true);
            const auto asked = finish(fast);
            REQUIRE(asked.size() == 1);
            check_same(asked[0].bytes, c.expected(kAck, 99));
            const Out answer = c.ack(150);
            CHECK(answer.reason == Reason::kResetSent);
            check_same(answer.bytes, c.expected(kRst, 150));
            const auto made = fast.made();
            REQUIRE(made.size() == 1);
            CHECK(made[0].port == 1);
            const Bytes inner = c.inner(kRst, c.isn + 51);
            check_same(
                Bytes(made[0].bytes.end() - static_cast<std::ptrdiff_t>(inner.size()), made[0].bytes.end()),
                inner);
            const core::EncapHeader& header = fast.tables->headers[backend];
            CHECK(made[0].bytes.size() == header.length + inner.size());
            CHECK(std::equal(header.bytes.begin(), header.bytes.begin() + 14, made[0].bytes.begin()));
            CHECK(fast.worker->swept.asked.get() == 1);
            CHECK(fast.worker->swept.backends.get() == 1);
        }
    }
}

TEST_CASE("ended flows: a client that sends data has its backend reset from both numbers that may be exact") {
    FastPath fast(make_plan({.encap = api::Encap::kIpip}));
    const Client c{fast};
    const std::uint16_t backend = c.connect(100);
    set_site(fast, fast.tables->backends[backend].site, false, true);
    const Out out = c.segment({.flags = kAck | kPsh, .sequence = c.isn + 51, .acknowledgement = 100}, 30);
    CHECK(out.reason == Reason::kResetSent);
    const auto made = fast.made();
    REQUIRE(made.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
        const Bytes inner = c.inner(kRst, c.isn + 51 + static_cast<std::uint32_t>(i) * 30);
        check_same(
            Bytes(made[i].bytes.end() - static_cast<std::ptrdiff_t>(inner.size()), made[i].bytes.end()),
            inner);
    }
    // What the client's kernel sends when the backend still writes to it reaches the backend.
    const Out rst = c.rst(c.isn + 81);
    CHECK(rst.reason == Reason::kForwardedPinned);
    CHECK(rst.backend == backend);
}

TEST_CASE("ended flows: a question is paid once, an answer to it costs no more") {
    api::ForwardingPlan plan = make_plan();
    plan.resets_per_second = 1;
    FastPath fast(plan);
    const Client c{fast};
    const std::uint16_t backend = c.connect(100);
    fast.advance(seconds(3));
    set_site(fast, fast.tables->backends[backend].site, false, true);
    CHECK(fast.sweep_stranded() == SweepResult::kMore);
    CHECK(fast.made().size() == 1);
    CHECK(c.ack(100).reason == Reason::kResetSent);
    CHECK(c.ack(100).reason == Reason::kResetOverBudget);
}

TEST_CASE("UDP flows that are ended move, in pools that keep them too") {
    FastPath fast(make_plan({.stranded = api::Stranded::kKeep}));
    Frame udp;
    udp.ether(kRouterMac, kHostMac).ipv4("198.51.100.7", kVip4).udp(40000, 53).payload(20);
    const Out first = fast.send(udp.bytes());
    set_site(fast, first.site, false);
    CHECK(fast.send(udp.bytes()).backend == first.backend);
    set_site(fast, first.site, false, true);
    const Out moved = fast.send(udp.bytes());
    CHECK(moved.reason == Reason::kForwardedRehashed);
    CHECK(moved.site != first.site);
}

TEST_CASE("the way back is where most of a family's packets came from, VLAN tags and port included") {
    FastPath fast(make_plan());
    Client{fast, false, 1000, 5000, "02:00:00:00:00:99"}.connect();
    for (std::uint16_t i = 0; i < 10; ++i)
        Client{fast, false, static_cast<std::uint16_t>(2000 + i)}.connect();
    Client{fast, false, 1001, 5000, "02:00:00:00:00:99"}.connect();
    const core::LinkHeader& v4 = fast.worker->way_back.to_clients(false);
    REQUIRE(v4.length == 14);
    const Bytes want = Frame().ether(kHostMac, kRouterMac).ipv4("1.1.1.1", "2.2.2.2").tcp({}).bytes();
    CHECK(std::equal(v4.bytes.begin(), v4.bytes.begin() + 14, want.begin()));
    CHECK(fast.worker->way_back.to_clients(true).length == 0);
    for (int i = 0; i < 50; ++i)
        fast.send(Frame()
                      .ether(kRouterMac, kHostMac)
                      .vlan(7)
                      .vlan(9)
                      .ipv6("2001:db8:c::7", kVip6)
                      .tcp({4000, 443, kSyn})
                      .bytes());
    const core::LinkHeader& v6 = fast.worker->way_back.to_clients(true);
    REQUIRE(v6.length == 22);
    const Bytes tagged =
        Frame().ether(kHostMac, kRouterMac).vlan(7).vlan(9).ipv6("::1", "::2").tcp({}).bytes();
    CHECK(std::equal(v6.bytes.begin(), v6.bytes.end(), tagged.begin()));
    // Frames that are not forwarded, or from a group address, teach nothing.
    FastPath other(make_plan());
    other.send(
        Frame().ether(kRouterMac, kHostMac).ipv4("198.51.100.7", "192.0.2.77").tcp({1, 2, kSyn}).bytes());
    other.send(
        Frame().ether("03:00:00:00:00:01", kHostMac).ipv4("198.51.100.7", kVip4).tcp({1, 443, kSyn}).bytes());
    CHECK(other.worker->way_back.to_clients(false).length == 0);
}

TEST_CASE("segments without a way or a backend are counted, not sent") {
    FastPath fast(make_plan());
    const Client c{fast};
    c.connect();
    fast.worker->way_back = {};
    strand_all(fast);
    CHECK(finish(fast).empty());
    CHECK(fast.worker->swept.undelivered.get() == 2);
}

TEST_CASE("nothing is walked while nothing is stranded") {
    FastPath fast(make_plan());
    Client{fast}.connect();
    CHECK(fast.sweep_stranded(1) == SweepResult::kNothing);
    set_site(fast, 1, true);
    fast.host.set_site(api::SiteId{1}, {});
    CHECK(fast.sweep_stranded(1) == SweepResult::kNothing);
    CHECK(fast.worker->strand_sweep.phase == stages::SweepPhase::kIdle);
}
