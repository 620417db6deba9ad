#include "dataplane/io/worker.h"

#include <rte_pause.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>

#include "dataplane/io/frames.h"
#include "dataplane/stages/capture.h"
#include "dataplane/stages/pipeline.h"

namespace detour::io {
namespace {

constexpr unsigned kPollsBeforeSleep = 32;
constexpr auto kShortestSleep = std::chrono::microseconds(5);
constexpr std::size_t kIdleSweep = 64;
// Enough for pings and fragments, too little to starve the machine: 20 µs each.
constexpr std::uint64_t kInjectedPerSecond = 4000;
// All that the host itself receives by a port owned whole: 2 µs each, on a thread that is no worker.
constexpr std::uint64_t kTapFramesPerSecond = 100'000;
// What anybody may send to a VIP's closed ports: it must not take the place of routing protocols and ssh.
constexpr std::uint64_t kStraysPerSecond = 1000;
constexpr std::size_t kKernelBurst = 32;
// Whoever sends for the kernel; one, for its ring has one reader.
constexpr unsigned kKernelWorker = 0;
// Buckets of one step of the walk for stranded flows, about 3 µs and 20 µs: a table of four million flows is
// done in tens of milliseconds, and a busy worker's burst is hardly late.
constexpr std::size_t kBusyWalk = 256;
constexpr std::size_t kIdleWalk = 2048;
// Where the way back to the clients is learnt from: every frame of a quiet port, some of a busy one.
constexpr std::uint32_t kQuietBurst = 4;

std::uint64_t monotonic_ns() noexcept {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000ULL + static_cast<std::uint64_t>(t.tv_nsec);
}

}  // namespace

Worker::Worker(const WorkerSetup& setup)
    : index_(setup.index),
      workers_(setup.limits.workers),
      ports_(setup.ports),
      publication_(setup.publication),
      host_(setup.host),
      kernel_(setup.kernel),
      capture_(setup.capture),
      pool_(setup.pool),
      longest_sleep_(setup.idle_sleep),
      state_(setup.limits) {
    injector_budget_.set_rate(std::max<std::uint64_t>(1, kInjectedPerSecond / setup.limits.workers));
    stray_budget_.set_rate(std::max<std::uint64_t>(1, kStraysPerSecond / setup.limits.workers));
    tap_budget_.set_rate(std::max<std::uint64_t>(1, kTapFramesPerSecond / setup.limits.workers));
}

void Worker::run() noexcept {
    // The kernel would round short sleeps up by 50 µs.
    ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    publication_.online(index_);
    while (!stop_.load(std::memory_order_relaxed)) {
        const core::ForwardingTables& tables = publication_.read();
        acknowledged_.set(tables.generation.value());
        flows_v4_.set(state_.flows_v4.used());
        flows_v6_.set(state_.flows_v6.used());
        state_.set_time(monotonic_ns());
        unsigned received = 0;
        for (std::uint8_t port = 0; port < ports_.size(); ++port) received += poll_port(port, tables);
        if (index_ == kKernelWorker) received += send_for_kernel();
        const bool more = sweep_stranded(tables, received == 0 ? kIdleWalk : kBusyWalk);
        if (received == 0) {
            state_.sweep(tables, kIdleSweep);
            if (state_.fragments.waiting()) resume_fragments(tables);
            more ? publication_.pass(index_) : rest();
            continue;
        }
        if (++bursts_ % kBurstsPerSweep == 0) state_.sweep(tables, kBusySweep);
        idle_polls_ = 0;
        sleep_ = kShortestSleep;
        publication_.pass(index_);
    }
    publication_.offline(index_);
}

unsigned Worker::poll_port(std::uint8_t port, const core::ForwardingTables& tables) noexcept {
    unsigned received = 0;
    for (unsigned queue = index_; queue < ports_[port].queues(); queue += workers_) {
        received += poll(port, static_cast<std::uint16_t>(queue), tables);
    }
    return received;
}

std::uint16_t Worker::poll(std::uint8_t port, std::uint16_t queue,
                           const core::ForwardingTables& tables) noexcept {
    std::array<rte_mbuf*, api::kMaxBurst> mbufs;
    const std::uint16_t received = ports_[port].receive(queue, mbufs);
    if (received == 0) return 0;
    fill(batch_, {mbufs.data(), received}, port, [this](rte_mbuf* mbuf) {
        count(api::Reason::kMultiSegment, 1);
        to_free_.push(mbuf);
    });
    const bool learns = batch_.count != 0 && (batch_.count <= kQuietBurst || bursts_ % kBurstsPerSweep == 0);
    const auto sample = learns ? stages::WayBack::sample(batch_.packets[0]) : stages::WayBack::Sample{};
    run_stages(tables);
    if (learns) state_.way_back.learn(sample, batch_.packets[0]);
    dispatch();
    if (!state_.segments.empty()) send_segments(tables);
    if (state_.fragments.waiting()) resume_fragments(tables);
    return received;
}

void Worker::run_stages(const core::ForwardingTables& tables) noexcept {
    stages::run_captured(batch_, {tables, host_, state_}, capture_.load(std::memory_order_acquire), index_);
}

bool Worker::sweep_stranded(const core::ForwardingTables& tables, std::size_t buckets) noexcept {
    const stages::SweepResult result = stages::sweep_stranded({tables, host_, state_}, buckets);
    if (!state_.segments.empty()) send_segments(tables);
    return result == stages::SweepResult::kMore;
}

void Worker::send_segments(const core::ForwardingTables& tables) noexcept {
    for (const core::Segment& segment : state_.segments.all()) {
        if (!send_segment(segment, tables)) state_.swept.undelivered.add(1);
    }
    state_.segments.clear();
    for (std::size_t port = 0; port < ports_.size(); ++port) {
        if (outboxes_[port].count != 0) state_.swept.undelivered.add(flush(port));
    }
}

bool Worker::send_segment(const core::Segment& segment, const core::ForwardingTables& tables) noexcept {
    rte_mbuf* mbuf = rte_pktmbuf_alloc(pool_);
    if (mbuf == nullptr) return false;
    core::Packet packet;
    packet.data = rte_pktmbuf_mtod(mbuf, std::uint8_t*);
    packet.headroom = mbuf->data_off;
    const bool v6 = tables.has_vip(segment.vip) && tables.vip_addresses[segment.vip].v6 != 0;
    if (!core::make_frame(segment, tables, state_.way_back.to_clients(v6), packet)) {
        rte_pktmbuf_free(mbuf);
        return false;
    }
    apply(*mbuf, packet);
    Outbox& out = outboxes_[packet.port];
    out.push(mbuf);
    if (out.count == out.mbufs.size()) state_.swept.undelivered.add(flush(packet.port));
    return true;
}

void Worker::resume_fragments(const core::ForwardingTables& tables) noexcept {
    std::array<rte_mbuf*, core::FragmentCache::kSlots> released;
    std::size_t count_released = 0;
    state_.fragments.take_due(state_.now_ms(), [&](std::uint16_t slot, core::FragmentCache::Due due) {
        if (due == core::FragmentCache::Due::kReleased) {
            released[count_released++] = held_[slot];
        } else {
            rte_pktmbuf_free(held_[slot]);
            count(api::Reason::kFragment, 1);
        }
    });
    // One at a time: they are few, and may be of different ports.
    for (std::size_t i = 0; i < count_released; ++i) {
        fill(batch_, {&released[i], 1}, static_cast<std::uint8_t>(released[i]->port), [](rte_mbuf*) {});
        run_stages(tables);
        dispatch();
    }
}

void Worker::dispatch() noexcept {
    for (std::uint32_t i = 0; i < batch_.count; ++i) {
        const core::Packet& packet = batch_.packets[i];
        auto* mbuf = static_cast<rte_mbuf*>(packet.user);
        if (packet.verdict == core::Verdict::kTransmit) [[likely]] {
            apply(*mbuf, packet);
            outboxes_[packet.port].push(mbuf);
        } else if (packet.verdict == core::Verdict::kKernel) {
            (packet.reason == api::Reason::kNoService ? strays_ : to_kernel_).push(mbuf);
        } else if (packet.verdict == core::Verdict::kHold) {
            held_[packet.backend] = mbuf;
        } else {
            to_free_.push(mbuf);
        }
    }
    for (std::size_t port = 0; port < ports_.size(); ++port) {
        if (outboxes_[port].count == 0) continue;
        if (const unsigned lost = flush(port); lost != 0) [[unlikely]] {
            count(api::Reason::kTransmitFull, lost);
            full_[port].add(lost);
        }
    }
    if (to_kernel_.count != 0) flush_kernel(to_kernel_);
    if (strays_.count != 0) flush_kernel(strays_);
    if (to_free_.count != 0) rte_pktmbuf_free_bulk(to_free_.mbufs.data(), to_free_.count);
    to_free_.count = 0;
}

/// Returns how many the queue had no room for; they are freed. No retry: a full queue means that the link is
/// slower than the traffic, and waiting starves the rest.
unsigned Worker::flush(std::size_t port) noexcept {
    Outbox& out = outboxes_[port];
    const std::uint16_t sent = ports_[port].transmit(static_cast<std::uint16_t>(index_), out.span());
    const auto lost = static_cast<unsigned>(out.count - sent);
    if (lost != 0) [[unlikely]]
        rte_pktmbuf_free_bulk(out.mbufs.data() + sent, lost);
    out.count = 0;
    return lost;
}

unsigned Worker::send_for_kernel() noexcept {
    std::array<rte_mbuf*, kKernelBurst> mbufs;
    const std::uint16_t taken = kernel_.collect(mbufs);
    for (std::uint16_t i = 0; i < taken; ++i) outboxes_[mbufs[i]->port].push(mbufs[i]);
    for (std::size_t port = 0; taken != 0 && port < ports_.size(); ++port) {
        if (outboxes_[port].count != 0) kernel_.count_unsent(port, flush(port));
    }
    return taken;
}

void Worker::flush_kernel(Outbox& frames) noexcept {
    Outbox granted;
    for (rte_mbuf* mbuf : frames.span()) {
        const KernelPath::Way way = kernel_.way(static_cast<std::uint8_t>(mbuf->port));
        core::TokenBucket& own = way == KernelPath::Way::kTap ? tap_budget_ : injector_budget_;
        core::TokenBucket& budget = &frames == &strays_ ? stray_budget_ : own;
        const bool goes = way != KernelPath::Way::kNone && budget.take(state_.now_ns());
        (goes ? granted : to_free_).push(mbuf);
    }
    const std::uint16_t taken = granted.count == 0 ? std::uint16_t{0} : kernel_.hand_over(granted.span());
    for (std::uint16_t i = taken; i < granted.count; ++i) to_free_.push(granted.mbufs[i]);
    const auto refused = static_cast<unsigned>(frames.count - taken);
    if (refused != 0) count(api::Reason::kKernelFull, refused);
    frames.count = 0;
}

void Worker::count(api::Reason reason, std::uint64_t n) noexcept {
    state_.counters[static_cast<std::size_t>(reason)].add(n);
}

void Worker::rest() noexcept {
    if (longest_sleep_.count() == 0 || ++idle_polls_ < kPollsBeforeSleep) {
        publication_.pass(index_);
        rte_pause();
        return;
    }
    sleep_ = std::min<std::chrono::nanoseconds>(std::max<std::chrono::nanoseconds>(sleep_, kShortestSleep),
                                                longest_sleep_);
    const timespec t{0, static_cast<long>(sleep_.count())};
    publication_.offline(index_);
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &t, nullptr);
    publication_.online(index_);
    sleep_ *= 2;
}

}  // namespace detour::io
