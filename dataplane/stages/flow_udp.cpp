#include "dataplane/stages/flow.h"

namespace detour::stages {
namespace {

using api::Reason;
using core::FlowState;
using core::FlowValue;
using core::Packet;

/// UDP has no reset: a stranded flow moves, unless its pool says keep.
template <class Entry>
void pinned(Packet& p, Entry& entry, const Context& context) noexcept {
    const core::PoolEntry& pool = context.tables.pools[p.pool];
    const std::uint16_t tick = context.worker.tick();
    const FlowValue v = entry.value();
    const bool stay = keeps(v.backend(), pool, context) ||
                      (pool.stranded == api::Stranded::kKeep && context.tables.has_backend(v.backend()));
    if (stay) {
        send_to(p, v.backend(), context, Reason::kForwardedPinned);
    } else if (!choose(p, context, core::Admission::kNew, Reason::kForwardedRehashed)) {
        return;
    }
    const FlowValue now = v.with_backend(p.backend).with_state(FlowState::kUdp).with_tick(tick);
    if (now.word() != v.word()) entry.set_value(now);
}

template <class Keyed>
void udp(Packet& p, const Context& context) noexcept {
    WorkerState& w = context.worker;
    Keyed k(p, w);
    if (auto* entry = k.flows.find(k.key, p.flow_hash)) return pinned(p, *entry, context);
    if (!choose(p, context, core::Admission::kNew, Reason::kForwardedNew)) return;
    const FlowValue v = FlowValue::make(p.backend, FlowState::kSeenOnce, 0, w.tick());
    w.evictions.add(k.flows.insert(k.key, p.flow_hash, v, w.tick()) ? 1 : 0);
}

}  // namespace

void flow_udp(core::Batch& batch, const Context& context) noexcept {
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        Packet& p = batch.packets[i];
        if (p.verdict != core::Verdict::kPending || p.protocol != 17) continue;
        if (p.v6 != 0) {
            udp<KeyedV6>(p, context);
        } else {
            udp<KeyedV4>(p, context);
        }
    }
}

}  // namespace detour::stages
