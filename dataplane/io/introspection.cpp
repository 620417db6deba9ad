#include "dataplane/io/introspection.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <time.h>

#include <algorithm>
#include <new>

#include "dataplane.pb.h"
#include "dataplane/stages/known_ids.h"

namespace detour::io {
namespace {

using api::ErrorCode;

constexpr std::uint32_t kDefaultSnap = 192;
constexpr std::uint32_t kLeastSnap = 64;
constexpr std::uint32_t kMostSnap = 2048;
constexpr std::uint32_t kMostSample = 1'000'000;
/// Of one reply; the rest waits for the next.
constexpr std::size_t kReplyBytes = 512U << 10U;
constexpr std::size_t kShownFrame = 256;
constexpr auto kStarting = "starting a capture";

std::uint64_t clock_ns(clockid_t clock) {
    timespec t{};
    ::clock_gettime(clock, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000ULL + static_cast<std::uint64_t>(t.tv_nsec);
}

api::Result<stages::CaptureFilter> filter_of(const wire::StartCapture& request) {
    const auto wrong = [](std::string what) {
        return api::fail(ErrorCode::kInvalidArgument, kStarting, std::move(what));
    };
    stages::CaptureFilter filter;
    if (request.pool() >= api::kMaxPools) return wrong(fmt::format("there is no pool {}", request.pool()));
    if (request.site() >= api::kMaxSites) return wrong(fmt::format("there is no site {}", request.site()));
    if (request.reason() >= api::kReasonCount)
        return wrong(fmt::format("there is no reason {}", request.reason()));
    if (request.sample() > kMostSample)
        return wrong(fmt::format("a sample of 1/{} is below 1/{}", request.sample(), kMostSample));
    const std::uint32_t snap = request.snap() == 0 ? kDefaultSnap : request.snap();
    if (snap < kLeastSnap || snap > kMostSnap)
        return wrong(
            fmt::format("{} bytes of each frame are not from {} to {}", snap, kLeastSnap, kMostSnap));
    if (request.has_pool()) filter.pool = api::PoolId{static_cast<std::uint16_t>(request.pool())};
    if (request.has_site()) filter.site = api::SiteId{static_cast<std::uint8_t>(request.site())};
    if (request.has_reason()) filter.reason = static_cast<api::Reason>(request.reason());
    filter.sample = std::max<std::uint32_t>(request.sample(), 1);
    filter.snap = static_cast<std::uint16_t>(snap);
    return filter;
}

void fill(wire::CapturedPacket& row, const stages::Captured& packet) {
    row.set_port(packet.port);
    row.set_reason(static_cast<std::uint32_t>(packet.reason));
    if (stages::knows_pool(packet.reason)) row.set_pool(packet.pool);
    if (stages::knows_backend(packet.reason)) {
        row.set_site(packet.site);
        row.set_backend(packet.backend);
    }
    row.set_before(packet.before.data(), packet.before.size());
    row.set_after(packet.after.data(), packet.after.size());
    row.set_before_length(packet.before_length);
    row.set_after_length(packet.after_length);
    row.set_sent_port(packet.sent_port);
}

/// What the lanes hold, as much as one reply may.
void take_packets(stages::CaptureSession& session, wire::CaptureReply& reply) {
    // The workers' clock told as the calendar's.
    const std::uint64_t calendar = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
    std::size_t bytes = 0;
    for (unsigned worker = 0; worker < session.lanes(); ++worker) {
        stages::CaptureLane& lane = session.lane(worker);
        lane.take([&](const stages::Captured& packet) {
            bytes += packet.before.size() + packet.after.size();
            if (bytes > kReplyBytes) return false;
            wire::CapturedPacket& row = *reply.add_packets();
            fill(row, packet);
            row.set_worker(worker);
            row.set_time_ns(packet.time_ns + calendar);
            return true;
        });
        reply.set_sampled(reply.sampled() + lane.sampled());
        reply.set_missed(reply.missed() + lane.missed());
    }
}

}  // namespace

std::uint64_t Introspection::monotonic_ns() {
    return clock_ns(CLOCK_MONOTONIC);
}

Introspection::~Introspection() {
    const std::lock_guard lock(mutex_);
    if (session_) end();
    for (auto& session : lingering_) (void)session.release();
}

std::uint64_t Introspection::deadline() const {
    return now_() + static_cast<std::uint64_t>(std::chrono::nanoseconds(kPatience).count());
}

api::Result<void> Introspection::trace(const wire::Trace& request, wire::TraceReply& reply) {
    const std::string& bytes = request.packet();
    if (bytes.empty() || bytes.size() > stages::Tracer::kMaxPacket) {
        return api::fail(
            ErrorCode::kInvalidArgument, "tracing a packet",
            fmt::format("it has {} bytes, expected 1 to {}", bytes.size(), stages::Tracer::kMaxPacket));
    }
    if (!tracer_) {
        try {
            tracer_ = std::make_unique<stages::Tracer>(fast_path_.worker_states());
        } catch (const std::bad_alloc&) {
            return api::fail(ErrorCode::kLimit, "tracing a packet", "there is no memory for it");
        }
    }
    const stages::Traced traced =
        tracer_->trace({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()},
                       fast_path_.tables(), fast_path_.host(), now_());
    if (traced.reason) reply.set_reason(static_cast<std::uint32_t>(*traced.reason));
    if (traced.pool) reply.set_pool(traced.pool->value());
    if (traced.site) reply.set_site(traced.site->value());
    if (traced.backend) reply.set_backend(traced.backend->value());
    reply.set_known(static_cast<std::uint32_t>(traced.known));
    reply.set_worker(traced.worker);
    reply.set_frame(traced.frame.data(), std::min(traced.frame.size(), kShownFrame));
    reply.set_length(static_cast<std::uint32_t>(traced.frame.size()));
    reply.set_port(traced.port);
    return {};
}

api::Result<void> Introspection::start(const wire::StartCapture& request, wire::CaptureReply& reply) {
    auto filter = filter_of(request);
    if (!filter) return tl::unexpected(filter.error());
    expire();
    const std::lock_guard lock(mutex_);
    if (session_) {
        return api::fail(
            ErrorCode::kRefused, kStarting,
            fmt::format("another one is under way; it ends {} s after its reader", kPatience.count()));
    }
    try {
        session_ =
            std::make_unique<stages::CaptureSession>(last_id_ + 1, *filter, fast_path_.workers(), deadline());
    } catch (const std::bad_alloc&) {
        return api::fail(ErrorCode::kLimit, kStarting, "there is no memory for it");
    }
    reply.set_capture(++last_id_);
    spdlog::info("capture {} begins", last_id_);
    fast_path_.capture().store(session_.get(), std::memory_order_release);
    return {};
}

api::Result<void> Introspection::read(const wire::ReadCapture& request, wire::CaptureReply& reply) {
    const std::lock_guard lock(mutex_);
    if (!session_ || session_->id() != request.capture()) {
        return api::fail(ErrorCode::kNotFound, "reading a capture",
                         fmt::format("it has ended; nobody read it for {} s, or the fast path was restarted",
                                     kPatience.count()));
    }
    session_->extend(deadline());
    take_packets(*session_, reply);
    reply.set_capture(session_->id());
    if (request.end()) end();
    return {};
}

void Introspection::expire() {
    const std::lock_guard lock(mutex_);
    if (session_ && session_->over(now_())) end();
}

/// With mutex_ held.
void Introspection::end() {
    fast_path_.capture().store(nullptr, std::memory_order_release);
    spdlog::info("capture {} ends", session_->id());
    lingering_.push_back(std::move(session_));
    // A worker that does not pass in time may still write there: then its memory waits for the next end.
    if (fast_path_.wait_until_passed()) lingering_.clear();
}

}  // namespace detour::io
