#include "tests/bench/rig.h"

#include <rte_cycles.h>
#include <rte_mbuf.h>
#include <time.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "dataplane/io/frames.h"
#include "dataplane/stages/pipeline.h"

namespace detour::bench {
namespace {

constexpr std::size_t kBurst = api::kMaxBurst;
constexpr std::uint64_t kBurstsPerTurn = 256;  // short: neighbours disturb both alike
constexpr std::size_t kWarmBursts = 2048;
constexpr std::size_t kOtherFamily = 1024;  // flows of the family that the scenario does not use

std::uint64_t now_ns(clockid_t clock) noexcept {
    timespec t{};
    ::clock_gettime(clock, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000ULL + static_cast<std::uint64_t>(t.tv_nsec);
}

std::span<rte_mbuf*> take(rte_mempool* pool, std::array<rte_mbuf*, kBurst>& mbufs) {
    if (rte_pktmbuf_alloc_bulk(pool, mbufs.data(), kBurst) != 0) throw std::runtime_error("no mbufs left");
    return mbufs;
}

std::unique_ptr<stages::WorkerState> make_worker(const Scenario& s) {
    return std::make_unique<stages::WorkerState>(stages::WorkerLimits{
        .flows_v4 = s.v6 ? kOtherFamily : s.table_flows, .flows_v6 = s.v6 ? s.table_flows : kOtherFamily});
}

// Multiples of ten in [from, to): where Traffic puts the established frames of a flood.
std::uint64_t tens(std::uint64_t from, std::uint64_t to) {
    return (to + 9) / 10 - (from + 9) / 10;
}

}  // namespace

Rig::Rig(const Scenario& scenario, Host& host, unsigned index, rte_mempool* pool)
    : scenario_(scenario),
      pool_(pool),
      host_(host),
      index_(index),
      worker_(make_worker(scenario)),
      traffic_(scenario),
      batch_(std::make_unique<core::Batch>()) {
    if (scenario.capture == Capture::kAll) {
        session_ = std::make_unique<stages::CaptureSession>(1, stages::CaptureFilter{}, index_ + 1,
                                                            std::numeric_limits<std::uint64_t>::max());
        capture_.store(session_.get());
    }
    know_flows();
    traffic_.become_measured(scenario.kind);
    // The known flows took the ports of pass 0, and the last burst of know_flows() some of pass 1.
    on_.pass = off_.pass = 2;
    // Untouched pages, of the SYN table too, are not what a packet costs.
    drive<Pipeline::kOn>(std::min<std::size_t>(traffic_.count() / kBurst + 1, kWarmBursts), on_);
}

void Rig::know_flows() {
    // Seen twice a flow is confirmed: see FlowState.
    for (int seen = 0; seen < 2; ++seen) {
        Cursor cursor;
        drive<Pipeline::kOn>((traffic_.count() + kBurst - 1) / kBurst, cursor);
    }
}

void Rig::start_anew() {
    worker_.reset();
    worker_ = make_worker(scenario_);
    know_flows();
}

// Not inlined: callgrind can be told to count this alone.
[[gnu::noinline]] void Rig::run_stages(const stages::Context& context) noexcept {
    if (scenario_.capture == Capture::kNotAsked) {
        stages::run(*batch_, context);
    } else {
        stages::run_captured(*batch_, context, capture_.load(std::memory_order_acquire), index_);
    }
    apply_verdicts();
}

void Rig::apply_verdicts() noexcept {
    for (std::uint32_t i = 0; i < batch_->count; ++i) {
        const core::Packet& packet = batch_->packets[i];
        auto* mbuf = static_cast<rte_mbuf*>(packet.user);
        if (packet.verdict == core::Verdict::kTransmit) [[likely]]
            io::apply(*mbuf, packet);
        else if (packet.verdict == core::Verdict::kHold)
            held_[packet.backend] = mbuf;
    }
}

void Rig::lap() noexcept {
    const std::uint64_t now = rte_rdtsc_precise();
    steps_[step_++].ticks[timed_] = static_cast<std::uint32_t>(now - lap_started_);
    lap_started_ = now;
}

// As run_stages() with nobody capturing, with a look at the clock after each step.
void Rig::time_stages(const stages::Context& context) noexcept {
    context.worker.use(context.tables);
    for (const stages::NamedStage& stage : stages::pipeline()) {
        stage.run(*batch_, context);
        lap();
    }
    apply_verdicts();
    lap();
}

// As a worker does: each alone. What is not released now is freed with its burst.
void Rig::resume_held(const stages::Context& context) noexcept {
    std::array<rte_mbuf*, core::FragmentCache::kSlots> released;
    std::size_t count = 0;
    worker_->fragments.take_due(worker_->now_ms(), [&](std::uint16_t slot, core::FragmentCache::Due due) {
        if (due == core::FragmentCache::Due::kReleased && held_[slot] != nullptr)
            released[count++] = held_[slot];
    });
    held_.fill(nullptr);
    for (std::size_t i = 0; i < count; ++i) {
        io::fill(*batch_, {&released[i], 1}, 0, [](rte_mbuf*) {});
        run_stages(context);
    }
}

// What a worker does between receive and transmit, with the worker's own code.
template <Pipeline kPipeline>
void Rig::run_burst(std::span<rte_mbuf*> mbufs) noexcept {
    constexpr bool kTimed = kPipeline == Pipeline::kTimed;
    if constexpr (kTimed) {
        step_ = 0;
        lap_started_ = rte_rdtsc_precise();
        lap();  // what looking at the clock takes
    }
    const core::ForwardingTables& tables = host_.publication.read();
    const stages::Context context{tables, host_.switches, *worker_};
    worker_->set_time(now_ns(CLOCK_MONOTONIC));
    io::fill(*batch_, mbufs, 0, [](rte_mbuf*) {});
    if constexpr (kTimed) lap();
    kTimed ? time_stages(context) : run_stages(context);
    if (worker_->fragments.waiting()) resume_held(context);
    if (++bursts_ % io::kBurstsPerSweep == 0) worker_->sweep(tables, io::kBusySweep);
    host_.publication.pass(index_);
    if constexpr (kTimed) {
        lap();
        ++timed_;
    }
}

template <Pipeline kPipeline>
void Rig::drive(std::uint64_t bursts, Cursor& cursor) {
    host_.publication.online(index_);
    std::array<rte_mbuf*, kBurst> storage;
    for (std::uint64_t b = 0; b < bursts; ++b) {
        const std::span<rte_mbuf*> mbufs = take(pool_, storage);
        for (rte_mbuf* mbuf : mbufs) {
            traffic_.copy(rte_pktmbuf_mtod(mbuf, std::uint8_t*), cursor);
            mbuf->data_len = traffic_.length();
            mbuf->pkt_len = traffic_.length();
        }
        if constexpr (kPipeline != Pipeline::kOff) run_burst<kPipeline>(mbufs);
        rte_pktmbuf_free_bulk(mbufs.data(), kBurst);
    }
    host_.publication.offline(index_);
}

template <Pipeline kPipeline>
void Rig::measure(std::uint64_t bursts, Cursor& cursor, Cost& cost) {
    const std::uint64_t instructions = instructions_.read();
    const std::uint64_t start = now_ns(CLOCK_THREAD_CPUTIME_ID);
    drive<kPipeline>(bursts, cursor);
    cost.cpu_ns += now_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    cost.instructions += instructions_.read() - instructions;
    cost.packets += bursts * kBurst;
    if (session_) session_->lane(index_).take([](const stages::Captured&) { return true; });
}

Rig::Round Rig::round(double seconds, std::uint64_t packets) {
    if (scenario_.kind == Kind::kNewFlow) {
        // As many inserts as half the known flows: the table fills from one half to three quarters.
        start_anew();
        packets = packets != 0 ? packets : scenario_.flows / 2;
    }
    const Counts before = counts();
    const std::size_t first = on_.next;
    const auto limit = static_cast<std::uint64_t>(seconds * 1e9);
    Round round;
    while (packets != 0 ? round.on.packets < packets : round.on.cpu_ns < limit) {
        const std::uint64_t left =
            packets != 0 ? (packets - round.on.packets + kBurst - 1) / kBurst : kBurstsPerTurn;
        const std::uint64_t bursts = std::min(left, kBurstsPerTurn);
        measure<Pipeline::kOn>(bursts, on_, round.on);
        measure<Pipeline::kOff>(bursts, off_, round.off);
    }
    note(round.on.packets, first, before);
    return round;
}

std::vector<Rig::Step> Rig::profile(double seconds, std::uint64_t packets) {
    constexpr std::uint64_t kLeastPacketNs = 10;
    if (scenario_.kind == Kind::kNewFlow) {
        start_anew();
        packets = packets != 0 ? packets : scenario_.flows / 2;
    }
    const auto limit = static_cast<std::uint64_t>(seconds * 1e9);
    const std::uint64_t most = (packets != 0 ? packets : limit / kLeastPacketNs) / kBurst + kBurstsPerTurn;
    steps_ = {{"clock", {}}, {"fill", {}}};
    for (const stages::NamedStage& stage : stages::pipeline()) steps_.push_back({stage.name, {}});
    steps_.insert(steps_.end(), {{"apply", {}}, {"sweep", {}}});
    for (Step& step : steps_) step.ticks.resize(most);
    timed_ = 0;
    Cost cost;
    while (timed_ + kBurstsPerTurn <= most && cost.cpu_ns < limit)
        measure<Pipeline::kTimed>(kBurstsPerTurn, on_, cost);
    for (Step& step : steps_) step.ticks.resize(timed_);
    return std::exchange(steps_, {});
}

Rig::Counts Rig::counts() const noexcept {
    const auto of = [this](api::Reason reason) {
        return worker_->counters[static_cast<std::size_t>(reason)].get();
    };
    std::uint64_t forwarded = 0;
    for (const api::ReasonInfo& info : api::kReasons)
        forwarded += api::is_forwarded(info.reason) ? of(info.reason) : 0;
    return {.pinned = of(api::Reason::kForwardedPinned),
            .fresh = of(api::Reason::kForwardedNew),
            .mid = of(api::Reason::kForwardedMid),
            .malformed = of(api::Reason::kBadIpChecksum) + of(api::Reason::kBadSource),
            .errors = of(api::Reason::kForwardedIcmp),
            .later_fragments = of(api::Reason::kForwardedFragment),
            .forwarded = forwarded,
            .evictions =
                worker_->flow_tally.evicted_confirmed.get() + worker_->flow_tally.evicted_unconfirmed.get()};
}

void Rig::note(std::uint64_t packets, std::size_t first, const Counts& before) {
    const Counts now = counts();
    const std::uint64_t pinned = now.pinned - before.pinned;
    std::uint64_t established = 0;
    std::uint64_t others = 0;  // packets of new flows that were forwarded as such
    if (scenario_.kind == Kind::kEstablished) {
        established = packets;
    } else if (scenario_.kind == Kind::kFlood) {
        established = tens(first, first + packets);
        others = now.fresh - before.fresh;
    } else if (scenario_.kind == Kind::kMalformed) {
        others = now.malformed - before.malformed;
    } else if (scenario_.kind == Kind::kIcmpError) {
        others = now.errors - before.errors;
    } else if (scenario_.kind == Kind::kFragments) {
        established = packets / 2;
        others = now.later_fragments - before.later_fragments;
    } else {
        others = scenario_.kind == Kind::kSyn ? now.fresh - before.fresh : now.mid - before.mid;
    }
    const std::uint64_t found = std::min(pinned, established);
    outcome_.packets += packets;
    outcome_.established += established;
    outcome_.established_missed += established - found;
    outcome_.missed += packets - found - std::min(others, packets - established);
    outcome_.evictions += now.evictions - before.evictions;
    outcome_.lost += packets - std::min(packets, now.forwarded - before.forwarded);
}

double Rig::occupancy() const noexcept {
    const auto share = [](const auto& table) {
        return static_cast<double>(table.used()) / static_cast<double>(table.capacity());
    };
    return scenario_.v6 ? share(worker_->flows_v6) : share(worker_->flows_v4);
}

double pool_cost(rte_mempool* pool, std::uint64_t packets) {
    const std::uint64_t bursts = std::max<std::uint64_t>(packets / kBurst, 1);
    std::array<rte_mbuf*, kBurst> storage;
    const std::uint64_t start = now_ns(CLOCK_THREAD_CPUTIME_ID);
    for (std::uint64_t b = 0; b < bursts; ++b) {
        const std::span<rte_mbuf*> mbufs = take(pool, storage);
        rte_pktmbuf_free_bulk(mbufs.data(), kBurst);
    }
    return static_cast<double>(now_ns(CLOCK_THREAD_CPUTIME_ID) - start) /
           static_cast<double>(bursts * kBurst);
}

}  // namespace detour::bench
