// Captures from their start to their end, and traces, as the control channel asks for them.
#include "dataplane/io/introspection.h"

#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "dataplane.pb.h"
#include "tests/unit/dataplane/io/fake_fast_path.h"

namespace detour::io {
namespace {

using api::ErrorCode;

std::uint64_t fake_now = 0;

struct Bench {
    Bench() { fake_now = 1'000'000'000'000ULL; }

    api::Result<wire::CaptureReply> start(const wire::StartCapture& request = {}) {
        wire::CaptureReply reply;
        if (auto done = introspection.start(request, reply); !done) return tl::unexpected(done.error());
        return reply;
    }
    api::Result<wire::CaptureReply> read(std::uint64_t id, bool end = false) {
        wire::ReadCapture request;
        request.set_capture(id);
        request.set_end(end);
        wire::CaptureReply reply;
        if (auto done = introspection.read(request, reply); !done) return tl::unexpected(done.error());
        return reply;
    }
    /// What a worker does with one packet, a drop.
    void pass_packet() {
        stages::CaptureSession* session = path.capture().load();
        if (session == nullptr || session->over(fake_now)) return;
        core::Batch batch;
        batch.count = 1;
        batch.packets[0].data = frame.data();
        batch.packets[0].length = static_cast<std::uint16_t>(frame.size());
        session->lane(0).begin(batch);
        batch.packets[0].verdict = verdict;
        batch.packets[0].reason = api::Reason::kNoSite;
        batch.packets[0].pool_id = 3;
        session->lane(0).end(batch, fake_now);
    }

    FakeFastPath path;
    Introspection introspection{path, [] { return fake_now; }};
    core::Verdict verdict = core::Verdict::kDrop;
    std::vector<std::uint8_t> frame = std::vector<std::uint8_t>(60, 7);
};

TEST_CASE("a capture gives what passed, oldest first, and ends when told") {
    Bench bench;
    bench.pass_packet();
    const auto started = bench.start();
    REQUIRE(started);
    CHECK(bench.read(started->capture())->packets_size() == 0);
    bench.pass_packet();
    bench.pass_packet();
    const auto page = bench.read(started->capture());
    REQUIRE(page);
    REQUIRE(page->packets_size() == 2);
    const wire::CapturedPacket& packet = page->packets(0);
    CHECK(packet.before() == std::string(bench.frame.begin(), bench.frame.end()));
    CHECK(packet.reason() == static_cast<std::uint32_t>(api::Reason::kNoSite));
    CHECK(packet.pool() == 3);
    CHECK(!packet.has_backend());
    CHECK(packet.after().empty());
    CHECK(page->sampled() == 2);
    bench.pass_packet();
    CHECK(bench.read(started->capture(), true)->packets_size() == 1);
    CHECK(bench.path.capture().load() == nullptr);
    CHECK(bench.path.waits == 1);
    CHECK(bench.read(started->capture()).error().code == ErrorCode::kNotFound);
}

TEST_CASE("one capture at a time; the next has another number") {
    Bench bench;
    const auto first = bench.start();
    CHECK(bench.start().error().code == ErrorCode::kRefused);
    CHECK(bench.read(first->capture(), true));
    const auto second = bench.start();
    REQUIRE(second);
    CHECK(second->capture() != first->capture());
    CHECK(bench.read(first->capture()).error().code == ErrorCode::kNotFound);
}

TEST_CASE("a capture that nobody reads copies nothing more, and gives its memory and its place back") {
    const auto patience =
        static_cast<std::uint64_t>(std::chrono::nanoseconds(Introspection::kPatience).count());
    Bench bench;
    const auto started = bench.start();
    fake_now += patience;
    bench.pass_packet();
    CHECK(bench.read(started->capture())->packets_size() == 1);  // and it lives on from here
    fake_now += patience;
    bench.introspection.expire();
    CHECK(bench.path.capture().load() != nullptr);
    fake_now += 1;
    bench.pass_packet();
    bench.introspection.expire();
    CHECK(bench.path.capture().load() == nullptr);
    CHECK(bench.read(started->capture()).error().code == ErrorCode::kNotFound);
    CHECK(bench.start());
    fake_now += patience + 1;
    CHECK_MESSAGE(bench.start(), "the next one need not wait for a tick");
}

TEST_CASE("a capture under way ends before its memory goes") {
    FakeFastPath path;
    {
        Introspection introspection(path, [] { return fake_now; });
        wire::CaptureReply reply;
        REQUIRE(introspection.start({}, reply).has_value());
        CHECK(path.capture().load() != nullptr);
    }
    CHECK(path.capture().load() == nullptr);
    CHECK(path.waits == 1);
}

TEST_CASE("a page is bounded; what did not fit comes with the next") {
    Bench bench;
    wire::StartCapture request;
    request.set_snap(2048);
    const auto started = bench.start(request);
    bench.frame.resize(2048);
    bench.verdict = core::Verdict::kTransmit;
    std::size_t sent = 0;
    for (; sent < stages::CaptureLane::kSlots; ++sent) bench.pass_packet();
    std::size_t got = 0;
    for (int reads = 0; reads < 3; ++reads) {
        const auto page = bench.read(started->capture());
        CHECK(page->ByteSizeLong() < 600U << 10U);
        got += static_cast<std::size_t>(page->packets_size());
    }
    CHECK(got == sent);
    CHECK(bench.read(started->capture())->missed() == 0);
}

TEST_CASE("filters that make no sense are refused by name") {
    struct Row {
        void (*set)(wire::StartCapture&);
        const char* what;
    };
    const std::array<Row, 6> rows{{
        {[](wire::StartCapture& c) { c.set_pool(api::kMaxPools); }, "pool 4096"},
        {[](wire::StartCapture& c) { c.set_site(api::kMaxSites); }, "site 255"},
        {[](wire::StartCapture& c) { c.set_reason(api::kReasonCount); }, "reason"},
        {[](wire::StartCapture& c) { c.set_sample(1'000'001); }, "1/1000001"},
        {[](wire::StartCapture& c) { c.set_snap(63); }, "63 bytes"},
        {[](wire::StartCapture& c) { c.set_snap(2049); }, "2049 bytes"},
    }};
    for (const Row& row : rows) {
        Bench bench;
        wire::StartCapture request;
        row.set(request);
        const auto refused = bench.start(request);
        REQUIRE(!refused);
        CHECK(refused.error().code == ErrorCode::kInvalidArgument);
        CHECK(refused.error().what.find(row.what) != std::string::npos);
        CHECK(bench.path.capture().load() == nullptr);
    }
}

TEST_CASE("a packet of no length, or of too much, is no packet to trace") {
    Bench bench;
    for (const std::size_t size : {std::size_t{0}, std::size_t{9979}}) {
        wire::Trace request;
        request.set_packet(std::string(size, 'E'));
        wire::TraceReply reply;
        const auto done = bench.introspection.trace(request, reply);
        REQUIRE(!done);
        CHECK(done.error().code == ErrorCode::kInvalidArgument);
    }
    wire::Trace request;
    request.set_packet("E");
    wire::TraceReply reply;
    REQUIRE(bench.introspection.trace(request, reply));
    CHECK(reply.reason() == static_cast<std::uint32_t>(api::Reason::kTruncatedIp));
}

}  // namespace
}  // namespace detour::io
