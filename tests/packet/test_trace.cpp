// A trace says what becomes of a packet, and leaves no trace: each row is traced first and then really sent.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <memory>
#include <random>

#include "dataplane/stages/trace.h"
#include "tests/support/fast_path.h"
#include "tests/support/quic_packets.h"
#include "tests/support/random_seed.h"
#include "tests/support/random_switches.h"

using namespace detour;
using namespace detour::support;
using api::Reason;
using stages::Known;

namespace {

constexpr std::size_t kEthernet = 14;

Frame from_client(bool v6) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac);
    return v6 ? frame.ipv6("2001:db8:c::7", "2001:db8:f::10") : frame.ipv4("198.51.100.7", "203.0.113.10");
}

/// A fast path and the tracer that looks into it.
struct Bench {
    explicit Bench(const api::ForwardingPlan& plan) : fast(plan), tracer({fast.worker.get()}) {}

    stages::Traced trace(const Bytes& frame) {
        const std::span<const std::uint8_t> bytes(frame);
        return tracer.trace(bytes.subspan(kEthernet), *fast.tables, fast.host, fast.now());
    }
    /// Traces `frame`, sends it, and compares; the trace must have changed nothing.
    Reason both(const Bytes& frame, Known known = Known::kNothing) {
        const std::uint64_t before = digest();
        const stages::Traced traced = trace(frame);
        const Bytes traced_frame(traced.frame.begin(), traced.frame.end());
        CHECK_MESSAGE(digest() == before, "the trace changed the worker");
        CHECK(traced.known == known);
        const Out out = fast.send(frame);
        REQUIRE(traced.reason.has_value());
        CHECK_MESSAGE(*traced.reason == out.reason, api::info(*traced.reason).name, " and ",
                      api::info(out.reason).name);
        if (traced.backend) CHECK(traced.backend->value() == out.backend);
        if (api::is_forwarded(out.reason)) {
            CHECK(traced.site->value() == out.site);
            CHECK(traced_frame == out.bytes);
            CHECK(traced.port == out.port);
        } else if (out.verdict == core::Verdict::kTransmit) {
            // An answer goes back to where its packet came from; a described one came from nowhere.
            CHECK(Bytes(traced_frame.begin() + 12, traced_frame.end()) ==
                  Bytes(out.bytes.begin() + 12, out.bytes.end()));
        } else {
            CHECK(traced_frame.empty());
        }
        return out.reason;
    }
    /// What a trace must not touch.
    [[nodiscard]] std::uint64_t digest() const {
        std::uint64_t sum = fast.worker->flows_v4.used() * 31 + fast.worker->flows_v6.used();
        for (const auto& counter : fast.worker->counters) sum = sum * 31 + counter.get();
        for (const auto& pool : fast.worker->pools) sum = sum * 31 + pool.packets.get();
        return sum;
    }

    FastPath fast;
    stages::Tracer tracer;
};

}  // namespace

TEST_CASE("a TCP connection's packets, traced before each is sent") {
    for (const bool v6 : {false, true}) {
        Bench bench(make_plan());
        const auto tcp = [&](std::uint8_t flags, std::uint32_t sequence) {
            return from_client(v6).tcp({40000, 443, flags, sequence, 7}).bytes();
        };
        CHECK(bench.both(tcp(kAck, 5)) == Reason::kForwardedMid);
        CHECK(bench.both(tcp(kSyn, 1000), Known::kFlow) == Reason::kForwardedNew);
        CHECK(bench.both(tcp(kAck, 1001), Known::kFlow) == Reason::kForwardedHandshake);
        CHECK(bench.both(tcp(kAck | kPsh, 1001), Known::kFlow) == Reason::kForwardedPinned);
        CHECK(bench.both(tcp(kFin | kAck, 1001), Known::kFlow) == Reason::kForwardedPinned);
    }
}

TEST_CASE("a handshake's ACK is traced by its SYN, which is all that is known") {
    for (const bool v6 : {false, true}) {
        Bench bench(make_plan());
        CHECK(bench.both(from_client(v6).tcp({40001, 443, kSyn, 1000, 0}).bytes()) == Reason::kForwardedNew);
        CHECK(bench.both(from_client(v6).tcp({40001, 443, kAck, 1001, 7}).bytes(), Known::kSyn) ==
              Reason::kForwardedHandshake);
    }
}

TEST_CASE("UDP: the first datagram, and those that follow its entry though its site is drained since") {
    for (const bool v6 : {false, true}) {
        Bench bench(make_plan());
        const Bytes datagram = from_client(v6).udp(40000, 53).payload(20).bytes();
        CHECK(bench.both(datagram) == Reason::kForwardedNew);
        const std::uint8_t site = bench.fast.send(datagram).site;
        bench.fast.host.set_site(api::SiteId{site}, {api::kAdmitNone, api::kAdmitAll, true});
        CHECK(bench.both(datagram, Known::kFlow) == Reason::kForwardedPinned);
    }
}

TEST_CASE("QUIC: by its connection id") {
    Bench bench(make_plan({.hash = api::HashKey::kQuicCid}));
    const Bytes packet = from_client(false).udp(40000, 53).raw(quic_short(server_cid(1201), 20)).bytes();
    CHECK(bench.both(packet) == Reason::kForwardedCid);
    CHECK(bench.both(packet, Known::kFlow) == Reason::kForwardedPinned);
}

TEST_CASE("a trace spends no budget: the hundredth says what the first said") {
    Bench bench(make_plan());
    bench.fast.host.set_limit(api::PoolId{0}, {true, 10, api::Refusal::kDrop});
    const Bytes syn = from_client(false).tcp({40000, 443, kSyn, 1, 0}).bytes();
    for (int i = 0; i < 100; ++i) CHECK(bench.trace(syn).reason == Reason::kForwardedNew);
}

TEST_CASE("what is not ours, malformed, too big or stranded") {
    for (const bool v6 : {false, true}) {
        Bench bench(make_plan());
        CHECK(bench.both(from_client(v6).tcp({40000, 22, kSyn, 1, 0}).bytes()) == Reason::kNoService);
        CHECK(bench.both(from_client(v6).icmp(v6 ? 128 : 8, 0, 1).bytes()) == Reason::kEchoAnswered);
        CHECK(bench.both(from_client(v6).tcp({40000, 443, 0, 1, 0}).bytes()) == Reason::kBadTcpFlags);
        const Bytes big = from_client(v6).tcp({40000, 443, kAck, 5, 7}).payload(1440).bytes();
        CHECK(bench.both(big) == Reason::kTooBigAnswered);
        const Bytes segment = from_client(v6).tcp({40001, 443, kAck, 5, 7}).bytes();
        CHECK(bench.both(segment) == Reason::kForwardedMid);
        for (const std::uint8_t site : {std::uint8_t{1}, std::uint8_t{2}})
            bench.fast.host.set_site(api::SiteId{site}, {api::kAdmitNone, api::kAdmitNone, false});
        CHECK(bench.both(segment, Known::kFlow) == Reason::kResetSent);
        CHECK(bench.both(segment, Known::kFlow) == Reason::kResetSent);
        CHECK(bench.both(from_client(v6).tcp({40002, 443, kSyn, 1, 0}).bytes()) == Reason::kNoSite);
    }
}

TEST_CASE("an ICMP error is traced to its flow's backend, which a worker's table names") {
    Bench bench(make_plan());
    const Bytes client = from_client(false).tcp({40000, 443, kAck, 5, 7}).bytes();
    CHECK(bench.both(client) == Reason::kForwardedMid);
    const Bytes answer = Frame()
                             .ether(kRouterMac, kHostMac)
                             .ipv4("203.0.113.10", "198.51.100.7")
                             .tcp({443, 40000, kAck, 9, 9})
                             .bytes();
    const Bytes error = Frame()
                            .ether(kRouterMac, kHostMac)
                            .ipv4("192.0.2.99", "203.0.113.10")
                            .icmp(3, 4, 1400)
                            .inner(answer)
                            .bytes();
    CHECK(bench.both(error) == Reason::kForwardedIcmp);
}

TEST_CASE("a later fragment would wait, and nothing of it stays behind") {
    Bench bench(make_plan());
    const Bytes later =
        Frame()
            .ether(kRouterMac, kHostMac)
            .ipv4("198.51.100.7", "203.0.113.10", {.id = 7, .df = false, .protocol = 17, .fragment = 185})
            .payload(64)
            .bytes();
    for (int i = 0; i < 200; ++i) CHECK(!bench.trace(later).reason.has_value());
    CHECK(!bench.fast.worker->fragments.waiting());
}

TEST_CASE("anything at all may be traced, cut off anywhere") {
    Bench bench(make_plan());
    std::mt19937_64 random(random_seed());
    const std::array<Bytes, 3> whole{from_client(false).tcp({1, 443, kSyn, 1, 0}).payload(40).bytes(),
                                     from_client(true).extension(0, 1).udp(1, 53).payload(40).bytes(),
                                     Bytes(9000, 0x45)};
    for (const Bytes& frame : whole) {
        for (std::size_t size = 0; size <= std::min<std::size_t>(frame.size() - kEthernet, 120); ++size) {
            Bytes cut(frame.begin() + kEthernet,
                      frame.begin() + static_cast<std::ptrdiff_t>(kEthernet + size));
            if (!cut.empty() && random() % 2 == 0)
                cut[random() % cut.size()] ^= static_cast<std::uint8_t>(random());
            (void)bench.tracer.trace(cut, *bench.fast.tables, bench.fast.host, bench.fast.now());
        }
    }
    const Bytes huge(20'000, 0x45);
    (void)bench.tracer.trace(huge, *bench.fast.tables, bench.fast.host, bench.fast.now());
}

TEST_CASE("random packets under random switches: the trace is what happens") {
    std::mt19937_64 random(random_seed());
    const std::array<std::uint8_t, 6> flags{kSyn, kAck, kAck | kPsh, kAck | kFin, kRst, kAck};
    for (int round = 0; round < 40; ++round) {
        const auto stranded = static_cast<api::Stranded>(random() % 3);
        const api::ForwardingPlan plan =
            make_plan({.stranded = stranded, .sites = 1 + random() % 6, .backends = 1 + random() % 4});
        Bench bench(plan);
        for (int i = 0; i < 300; ++i) {
            if (i % 50 == 0) (void)throw_switches(random, plan, bench.fast.host);
            // Few clients, so that most packets meet what earlier ones left; budgets have time to fill.
            bench.fast.advance(std::chrono::milliseconds(20));
            const auto port = static_cast<std::uint16_t>(40000 + random() % 24);
            const bool v6 = random() % 2 == 0;
            const Bytes frame = random() % 4 == 0 ? from_client(v6).udp(port, 53).bytes()
                                                  : from_client(v6)
                                                        .tcp({port, 443, flags[random() % flags.size()],
                                                              static_cast<std::uint32_t>(random() % 4), 7})
                                                        .bytes();
            const stages::Traced traced = bench.trace(frame);
            const Bytes traced_frame(traced.frame.begin(), traced.frame.end());
            const Out out = bench.fast.send(frame);
            REQUIRE(traced.reason == out.reason);
            if (api::is_forwarded(out.reason)) REQUIRE(traced_frame == out.bytes);
        }
    }
}
