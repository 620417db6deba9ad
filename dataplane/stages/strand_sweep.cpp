#include "dataplane/stages/strand_sweep.h"

#include "dataplane/stages/flow.h"

namespace detour::stages {
namespace {

using core::FlowState;
using core::FlowValue;

/// A RST and the ACK below it.
constexpr std::size_t kSegmentsEach = 2;
constexpr std::uint64_t kAnswerTimeNs = 4'000'000'000ULL;
constexpr std::uint16_t kAnswerTicks = 1;
constexpr std::uint8_t kProtocolTcp = 6;

enum class Duty : std::uint8_t { kNone, kReset, kAsk };

Duty duty_for(FlowValue v, const core::VipAddress& vip, const Context& context) noexcept {
    const core::PoolEntry& pool = context.tables.pools[vip.pool];
    if (vip.protocol != kProtocolTcp || keeps(v.backend(), pool.id, context)) return Duty::kNone;
    if (pool.stranded == api::Stranded::kRehash) return Duty::kNone;
    if (ends(v.backend(), pool.id, context)) return Duty::kAsk;
    return pool.stranded == api::Stranded::kReset ? Duty::kReset : Duty::kNone;
}

bool in_phase(FlowValue v, SweepPhase phase, std::uint16_t tick) noexcept {
    switch (phase) {
        case SweepPhase::kConfirmed:
            return v.state() == FlowState::kEstablished;
        case SweepPhase::kOthers:
            return v.state() == FlowState::kEstablished || v.state() == FlowState::kSeenOnce;
        case SweepPhase::kAgain:
            return v.state() == FlowState::kSwept && core::age_of(v.tick(), tick) >= kAnswerTicks;
        case SweepPhase::kIdle:
        case SweepPhase::kWait:
            break;
    }
    return false;
}

core::Segment to_client(const core::FlowEntry<core::FlowKeyV4>& entry) noexcept {
    const std::uint64_t key = entry.key_word(0);
    core::Segment s;
    core::store(s.client.data(), static_cast<std::uint32_t>(key >> 32U));
    s.client_port = static_cast<std::uint16_t>(key >> 16U);
    s.vip = static_cast<std::uint16_t>(key);
    return s;
}

core::Segment to_client(const core::FlowEntry<core::FlowKeyV6>& entry) noexcept {
    core::Segment s;
    core::store(s.client.data(), entry.key_word(0));
    core::store(s.client.data() + 8, entry.key_word(1));
    s.client_port = static_cast<std::uint16_t>(entry.key_word(2) >> 16U);
    s.vip = static_cast<std::uint16_t>(entry.key_word(2));
    return s;
}

void tell(core::Segment s, std::uint32_t ack, Duty duty, core::SegmentQueue& queue) noexcept {
    if (duty == Duty::kReset) {
        s.sequence = ack;
        s.flags = core::kTcpRst;
        queue.push(s);
    }
    s.sequence = ack - 1;
    s.flags = core::kTcpAck;
    queue.push(s);
}

/// False: no token or no room, the walk has to stop here.
template <class Entry>
bool visit(Entry& entry, const Context& context) noexcept {
    WorkerState& w = context.worker;
    const SweepPhase phase = w.strand_sweep.phase;
    const FlowValue v = entry.value();
    // A SYN with this key has come since: the client has begun anew.
    if (!in_phase(v, phase, w.tick()) || v.syn_pending()) return true;
    const core::Segment segment = to_client(entry);
    if (!context.tables.has_vip(segment.vip)) return true;
    const bool again = phase == SweepPhase::kAgain;
    const Duty duty = again ? Duty::kReset : duty_for(v, context.tables.vip_addresses[segment.vip], context);
    if (duty == Duty::kNone) return true;
    if (w.segments.room() < kSegmentsEach || !w.resets.take(w.now_ns())) return false;
    tell(segment, v.ack(), duty, w.segments);
    (again ? w.swept.repeated : duty == Duty::kAsk ? w.swept.asked : w.swept.resets).add(1);
    entry.set_value(v.with_state(again ? FlowState::kTombstone : FlowState::kSwept).with_tick(w.tick()));
    return true;
}

template <class Table>
bool visit_bucket(Table& flows, std::size_t index, const Context& context) noexcept {
    for (auto& entry : flows.bucket(index).entries) {
        if (!visit(entry, context)) return false;
    }
    return true;
}

std::size_t all_buckets(const WorkerState& w) noexcept {
    return w.flows_v4.buckets() + w.flows_v6.buckets();
}

void begin(WorkerState& w, SweepPhase phase) noexcept {
    w.strand_sweep.phase = phase;
    w.strand_sweep.left = all_buckets(w);
}

void next_phase(WorkerState& w) noexcept {
    switch (w.strand_sweep.phase) {
        case SweepPhase::kConfirmed:
            return begin(w, SweepPhase::kOthers);
        case SweepPhase::kOthers:
            w.strand_sweep.phase = SweepPhase::kWait;
            w.strand_sweep.again_at = w.now_ns() + kAnswerTimeNs;
            return;
        case SweepPhase::kWait:
            return begin(w, SweepPhase::kAgain);
        case SweepPhase::kAgain:
        case SweepPhase::kIdle:
            w.strand_sweep.phase = SweepPhase::kIdle;
            return;
    }
}

/// False: it stopped at a bucket that is not done.
bool walk(const Context& context, std::size_t buckets) noexcept {
    WorkerState& w = context.worker;
    StrandSweep& s = w.strand_sweep;
    const std::size_t all = all_buckets(w);
    for (std::size_t i = 0; i < buckets && s.left > 0; ++i) {
        const std::size_t v4 = w.flows_v4.buckets();
        const bool done = s.position < v4 ? visit_bucket(w.flows_v4, s.position, context)
                                          : visit_bucket(w.flows_v6, s.position - v4, context);
        if (!done) return false;
        s.position = s.position + 1 == all ? 0 : s.position + 1;
        --s.left;
    }
    return true;
}

}  // namespace

SweepResult sweep_stranded(const Context& context, std::size_t buckets) noexcept {
    WorkerState& w = context.worker;
    StrandSweep& s = w.strand_sweep;
    const std::uint32_t now = context.host.strandings();
    if (now != s.seen || s.lost_backends) {
        s.seen = now;
        s.lost_backends = false;
        begin(w, SweepPhase::kConfirmed);
    }
    if (s.phase == SweepPhase::kIdle) return SweepResult::kNothing;
    if (s.phase == SweepPhase::kWait) {
        if (w.now_ns() < s.again_at) return SweepResult::kNothing;
        next_phase(w);
    }
    w.use(context.tables);  // a worker that receives nothing has not done so
    const bool walked = walk(context, buckets);
    if (s.left == 0) next_phase(w);
    const bool more = s.phase != SweepPhase::kIdle && s.phase != SweepPhase::kWait;
    if (walked) return more ? SweepResult::kMore : SweepResult::kNothing;
    return w.segments.room() < kSegmentsEach ? SweepResult::kMore : SweepResult::kBlocked;
}

void reset_backend(const core::Packet& p, std::uint16_t backend, const Context& context) noexcept {
    WorkerState& w = context.worker;
    core::Segment s;
    if (p.v6 != 0) {
        std::memcpy(s.client.data(), p.data + p.l3 + 8, 16);
    } else {
        std::memcpy(s.client.data(), p.data + p.l3 + 12, 4);
    }
    s.client_port = p.source_port;
    s.vip = p.vip;
    s.backend = backend;
    s.flags = core::kTcpRst;
    s.sequence = core::sequence_of(p);
    const std::size_t header = static_cast<std::size_t>(p.data[p.l4 + 12] >> 4U) * 4;
    const auto data = static_cast<std::uint32_t>(p.ip_length - (p.l4 - p.l3) - header);
    if (w.segments.room() < kSegmentsEach) return;
    w.segments.push(s);
    // The backend may have the data already and wait for what follows it; it takes whichever is exact.
    if (data != 0) {
        s.sequence += data;
        w.segments.push(s);
    }
    w.swept.backends.add(1);
}

}  // namespace detour::stages
