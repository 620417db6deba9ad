#include "dataplane/stages/worker_state.h"

#include <algorithm>
#include <utility>

namespace detour::stages {
namespace {

/// SYN entries looked at in one step: as many as a cache line holds.
constexpr std::size_t kSynsPerStep = 4;
/// Backends whose count is published in one step: about what a bucket costs.
constexpr std::size_t kCountsPerStep = 16;
constexpr std::size_t kCountSteps = (api::kMaxBackends + kCountsPerStep) / kCountsPerStep;

template <class Key>
std::uint16_t vip_of(const core::FlowEntry<Key>& entry) noexcept {
    return static_cast<std::uint16_t>(entry.key_word(Key::kWords - 1));
}

template <class Table>
/// True when it met an entry whose backend has left the plan.
bool sweep_bucket(Table& flows, std::size_t index, const core::ForwardingTables& tables, std::uint16_t tick,
                  FlowCounts& live) noexcept {
    bool lost = false;
    for (auto& entry : flows.bucket(index).entries) {
        const core::FlowValue v = entry.value();
        if (v.state() == core::FlowState::kEmpty) continue;
        const bool expired = core::age_of(v.tick(), tick) > core::idle_limit(v.state());
        if (expired || !tables.has_vip(vip_of(entry))) {
            flows.erase(entry);
        } else if (v.backend() != core::kNoBackendId && !tables.has_backend(v.backend())) {
            // The flow stays known, so that its client is told, but no longer names the id.
            entry.set_value(v.with_backend(core::kNoBackendId));
            lost = true;
        } else if (!core::was_reset(v.state()) && v.backend() != core::kNoBackendId) {
            ++live.by_backend[v.backend()];
            if (core::is_confirmed(v.state())) ++live.by_idle[idle_class(core::age_of(v.tick(), tick))];
        }
    }
    return lost;
}

void sweep_syns(core::SynTable& syns, std::size_t step, const core::ForwardingTables& tables,
                std::uint16_t now) noexcept {
    for (std::size_t i = 0; i < kSynsPerStep; ++i) {
        core::SynEntry& s = syns.at((step * kSynsPerStep + i) & (syns.size() - 1));
        const bool old = static_cast<std::uint16_t>(now - s.time) > core::SynTable::kLifetime;
        if (s.time != 0 && (old || !tables.has_backend(s.backend))) s = {};
    }
}

}  // namespace

WorkerState::WorkerState(const WorkerLimits& limits)
    : flows_v4(2 * limits.flows_v4),
      flows_v6(2 * limits.flows_v6),
      syns_v4(limits.syns),
      syns_v6(limits.syns),
      pool_flows(api::kMaxPools),
      pools(api::kMaxPools),
      backends(api::kMaxBackends + 1),
      workers_(limits.workers == 0 ? 1 : limits.workers),
      counting_{.by_backend = std::vector<std::uint32_t>(api::kMaxBackends + 1)} {
    inserts_.set_rate(limits.inserts);
}

void WorkerState::set_time(std::uint64_t now_ns) noexcept {
    now_ns_ = now_ns;
    tick_ = core::tick_of(now_ns);
    syn_time_ = core::SynTable::time_of(now_ns);
}

void WorkerState::sweep_one(const core::ForwardingTables& tables, std::size_t position) noexcept {
    if (position < flows_v4.buckets()) {
        lost_backends_ |= sweep_bucket(flows_v4, position, tables, tick_, counting_);
        return;
    }
    position -= flows_v4.buckets();
    if (position < flows_v6.buckets()) {
        lost_backends_ |= sweep_bucket(flows_v6, position, tables, tick_, counting_);
        return;
    }
    position -= flows_v6.buckets();
    const std::size_t syn_steps = (syns_v4.size() + kSynsPerStep - 1) / kSynsPerStep;
    if (position >= syn_steps) return publish_counts(position - syn_steps);
    sweep_syns(syns_v4, position, tables, syn_time_);
    sweep_syns(syns_v6, position, tables, syn_time_);
}

void WorkerState::publish_counts(std::size_t step) noexcept {
    const std::size_t first = step * kCountsPerStep;
    const std::size_t end = std::min(first + kCountsPerStep, counting_.by_backend.size());
    for (std::size_t id = first; id < end; ++id)
        backends[id].flows.set(std::exchange(counting_.by_backend[id], 0));
    if (step != 0) return;
    for (std::size_t c = 0; c < counting_.by_idle.size(); ++c)
        flow_tally.idle[c].set(std::exchange(counting_.by_idle[c], 0));
}

/// From the first bucket on, so that what is behind it is easily told.
void WorkerState::begin_pass(std::uint64_t generation, std::size_t steps) noexcept {
    sweep_generation_ = generation;
    sweep_left_ = steps;
    sweep_position_ = 0;
    std::fill(counting_.by_backend.begin(), counting_.by_backend.end(), 0U);
    counting_.by_idle.fill(0);
}

void WorkerState::refill() noexcept {
    for (core::TokenBucket* bucket : {&resets, &icmp, &icmp_forwarded, &echoes, &inserts_}) bucket->refill();
    for (core::TokenBucket& bucket : site_flows) bucket.refill();
    for (core::TokenBucket& bucket : pool_flows) bucket.refill();
}

void WorkerState::sweep(const core::ForwardingTables& tables, std::size_t buckets) noexcept {
    const std::size_t steps = flows_v4.buckets() + flows_v6.buckets() +
                              (syns_v4.size() + kSynsPerStep - 1) / kSynsPerStep + kCountSteps;
    for (std::size_t i = 0; i < buckets; ++i) {
        // One that is under way is finished, however fast plans come.
        if (sweep_left_ == 0 && sweep_generation_ != tables.generation.value()) {
            begin_pass(tables.generation.value(), steps);
        }
        sweep_one(tables, sweep_position_);
        sweep_position_ = sweep_position_ + 1 == steps ? 0 : sweep_position_ + 1;
        if (sweep_left_ == 0 || --sweep_left_ != 0) continue;
        scanned_.set(sweep_generation_);
        // One walk for all that this plan took away.
        strand_sweep.lost_backends |= lost_backends_;
        lost_backends_ = false;
    }
    const std::size_t behind = sweep_left_ != 0 ? sweep_position_ : 0;
    flows_v4.swept(std::min(behind, flows_v4.buckets()));
    flows_v6.swept(behind - std::min(behind, flows_v4.buckets()));
}

}  // namespace detour::stages
