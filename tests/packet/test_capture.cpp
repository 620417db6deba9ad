// The capture ring: what it keeps of packets before and after the stages, its filter, its bounds.
#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "dataplane/stages/capture.h"
#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using api::Reason;
using stages::CaptureFilter;
using stages::CaptureLane;

namespace {

struct Copy {
    stages::Captured packet;
    Bytes before;
    Bytes after;
};

/// The stages with a lane beside them, as a worker runs them.
struct Bench {
    explicit Bench(CaptureFilter filter, std::uint32_t workers = 1) : lane(filter, workers, 12345) {}

    Out send(const Bytes& frame) {
        std::vector<std::uint8_t> buffer(128 + frame.size());
        std::copy(frame.begin(), frame.end(), buffer.begin() + 128);
        auto batch = std::make_unique<core::Batch>();
        batch->count = 1;
        core::Packet& p = batch->packets[0];
        // What an older packet left there must not be taken for this one's.
        p.pool_id = 1;
        p.site = 1;
        p.backend = 1100;
        p.data = buffer.data() + 128;
        p.length = static_cast<std::uint16_t>(frame.size());
        p.headroom = 128;
        fast.worker->set_time(now);
        lane.begin(*batch);
        stages::run(*batch, {*fast.tables, fast.host, *fast.worker});
        lane.end(*batch, now);
        Out out{.verdict = p.verdict,
                .reason = p.reason,
                .bytes = {},
                .port = p.port,
                .backend = p.backend,
                .site = p.site};
        if (p.verdict == core::Verdict::kTransmit) out.bytes.assign(p.data, p.data + p.length);
        return out;
    }
    std::vector<Copy> take(std::size_t most = 1'000'000) {
        std::vector<Copy> out;
        lane.take([&](const stages::Captured& c) {
            if (out.size() == most) return false;
            out.push_back(
                {c, Bytes(c.before.begin(), c.before.end()), Bytes(c.after.begin(), c.after.end())});
            return true;
        });
        return out;
    }

    FastPath fast{make_plan()};
    CaptureLane lane;
    std::uint64_t now = 1'000'000'000'000ULL;
};

Bytes segment(std::uint16_t port, std::uint8_t flags, std::size_t payload = 0) {
    return Frame()
        .ether(kRouterMac, kHostMac)
        .ipv4("198.51.100.7", "203.0.113.10")
        .tcp({port, 443, flags, 1000, 7})
        .payload(payload)
        .bytes();
}
Bytes datagram(std::uint16_t port) {
    return Frame().ether(kRouterMac, kHostMac).ipv4("198.51.100.7", "203.0.113.10").udp(port, 53).bytes();
}

}  // namespace

TEST_CASE("a forwarded packet is kept as it came and as it left") {
    Bench bench({.snap = 2048});
    const Bytes frame = Frame()
                            .ether(kRouterMac, kHostMac)
                            .vlan(7)
                            .ipv4("198.51.100.7", "203.0.113.10")
                            .tcp({40000, 443, kSyn, 1, 0})
                            .payload(900)
                            .bytes();
    const Out out = bench.send(frame);
    const auto copies = bench.take();
    REQUIRE(copies.size() == 1);
    CHECK(copies[0].before == frame);
    CHECK(copies[0].after == out.bytes);
    CHECK(copies[0].packet.reason == Reason::kForwardedNew);
    CHECK(copies[0].packet.backend == out.backend);
    CHECK(copies[0].packet.site == out.site);
    CHECK(copies[0].packet.before_length == frame.size());
    CHECK(copies[0].packet.after_length == out.bytes.size());
    CHECK(copies[0].packet.time_ns == bench.now);
    CHECK(bench.take().empty());
}

TEST_CASE("frames are cut at the length asked for, and their own lengths are told") {
    Bench bench({.snap = 64});
    const Bytes frame = segment(40000, kAck, 500);
    const Out out = bench.send(frame);
    const auto copies = bench.take();
    REQUIRE(copies.size() == 1);
    CHECK(copies[0].before == Bytes(frame.begin(), frame.begin() + 64));
    CHECK(copies[0].after == Bytes(out.bytes.begin(), out.bytes.begin() + 64));
    CHECK(copies[0].packet.before_length == frame.size());
    CHECK(copies[0].packet.after_length == out.bytes.size());
}

TEST_CASE("an answer is written over its packet: the packet's head is kept all the same") {
    Bench bench({.snap = 2048});
    const Bytes frame = segment(40000, kAck, 1440);
    const Out out = bench.send(frame);
    REQUIRE(out.reason == Reason::kTooBigAnswered);
    const auto copies = bench.take();
    REQUIRE(copies.size() == 1);
    CHECK(copies[0].before == Bytes(frame.begin(), frame.begin() + 160));
    CHECK(copies[0].after == out.bytes);
}

TEST_CASE("what is dropped or left to the kernel has no after") {
    Bench bench({});
    const Bytes ssh = Frame()
                          .ether(kRouterMac, kHostMac)
                          .ipv4("198.51.100.7", "203.0.113.10")
                          .tcp({9, 22, kSyn, 1, 0})
                          .bytes();
    bench.send(ssh);
    bench.send(segment(40000, 0));
    const auto copies = bench.take();
    REQUIRE(copies.size() == 2);
    CHECK(copies[0].packet.reason == Reason::kNoService);
    CHECK(copies[1].packet.reason == Reason::kBadTcpFlags);
    for (const Copy& copy : copies) CHECK(copy.after.empty());
    CHECK(copies[0].before == ssh);
}

TEST_CASE("each filter alone, by what the packet itself had") {
    const auto seen = [](CaptureFilter filter) {
        Bench bench(filter);
        bench.send(segment(40000, 0));     // malformed: no pool, no site
        bench.send(segment(40001, kSyn));  // pool 0
        bench.send(datagram(40002));       // pool 1
        std::vector<Reason> reasons;
        for (const Copy& copy : bench.take()) reasons.push_back(copy.packet.reason);
        return reasons;
    };
    using Reasons = std::vector<Reason>;
    const std::vector<api::PlanPool> pools = make_plan().pools;
    CHECK(seen({}).size() == 3);
    CHECK(seen({.reason = Reason::kBadTcpFlags}) == Reasons{Reason::kBadTcpFlags});
    CHECK(seen({.reason = Reason::kNoSite}).empty());
    CHECK(seen({.pool = pools[0].id}).size() == 1);
    CHECK(seen({.pool = pools[1].id}).size() == 1);
    CHECK(seen({.pool = pools[1].id, .reason = Reason::kBadTcpFlags}).empty());
    CHECK(seen({.site = api::SiteId{1}}).size() + seen({.site = api::SiteId{2}}).size() == 2);
    CHECK(seen({.site = api::SiteId{9}}).empty());
}

TEST_CASE("one of N: about that many, also of traffic with a period") {
    for (const std::uint32_t sample : {2U, 10U, 64U}) {
        Bench bench({.sample = sample});
        std::size_t kept = 0;
        std::size_t even = 0;
        constexpr std::size_t kSent = 20'000;
        for (std::size_t i = 0; i < kSent; ++i) {
            bench.now += 1'000'000;
            bench.send(i % 2 == 0 ? segment(40000, kSyn) : datagram(40000));
            for (const Copy& copy : bench.take()) {
                ++kept;
                even += copy.packet.pool == make_plan().pools[0].id.value() ? 1 : 0;
            }
        }
        CAPTURE(sample);
        CHECK(kept > kSent / sample * 8 / 10);
        CHECK(kept < kSent / sample * 12 / 10);
        CHECK(even > kept * 3 / 10);
        CHECK(even < kept * 7 / 10);
        CHECK(bench.lane.sampled() == kept);
    }
}

TEST_CASE("a ring that nobody reads holds its bound; the rest is counted as missed, and packets go on") {
    Bench bench({});
    for (std::size_t i = 0; i < CaptureLane::kSlots + 10; ++i) {
        bench.now += 10'000'000;
        CHECK(bench.send(segment(static_cast<std::uint16_t>(1000 + i), kSyn)).reason ==
              Reason::kForwardedNew);
    }
    CHECK(bench.lane.missed() == 10);
    const auto copies = bench.take(CaptureLane::kSlots / 2);
    CHECK(copies.size() == CaptureLane::kSlots / 2);
    bench.send(segment(999, kSyn));
    const auto rest = bench.take();
    REQUIRE(rest.size() == CaptureLane::kSlots / 2 + 1);
    // In order: the oldest first, the newest last.
    CHECK(copies[0].before == segment(1000, kSyn));
    CHECK(rest.back().before == segment(999, kSyn));
}

TEST_CASE("a host's pace bounds what is copied, however fast it is read") {
    Bench bench({}, 2);
    std::size_t kept = 0;
    constexpr std::size_t kSent = 40'000;
    for (std::size_t i = 0; i < kSent; ++i) {
        bench.now += 50'000;  // 2 s in all, 20,000 a second
        bench.send(segment(40000, kSyn));
        kept += bench.take().size();
    }
    const std::size_t pace = CaptureLane::kPacesPerSecond / 2;
    CHECK(kept >= 2 * pace);
    CHECK(kept <= 2 * pace + CaptureLane::kSlots);
    CHECK(kept + bench.lane.missed() == kSent);
}
