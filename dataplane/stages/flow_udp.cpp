#include "dataplane/stages/flow.h"
#include "dataplane/stages/new_flows.h"

namespace detour::stages {
namespace {

using api::Reason;
using core::FlowState;
using core::FlowValue;
using core::Packet;

/// UDP has no reset: a stranded flow moves, unless its pool says keep.
template <class Entry>
void pinned(Packet& p, Entry& entry, const Context& context) noexcept {
    const std::uint16_t tick = context.worker.tick();
    const FlowValue v = entry.value();
    const bool stay =
        keeps(v.backend(), api::PoolId{p.pool_id}, context) ||
        (context.tables.pools[p.pool].stranded == api::Stranded::kKeep &&
         context.tables.has_backend(v.backend()) && !ends(v.backend(), api::PoolId{p.pool_id}, context));
    if (stay) {
        send_to(p, v.backend(), context, Reason::kForwardedPinned);
    } else if (!choose(p, context, core::Admission::kNew, Reason::kForwardedRehashed)) {
        return;
    }
    const FlowValue now = v.with_backend(p.backend).with_state(FlowState::kUdp).with_tick(tick);
    if (now.word() != v.word()) entry.set_value(now);
}

template <class Keyed>
void remember(const Packet& p, Keyed& k, WorkerState& w) noexcept {
    if (!w.may_insert(core::MayEvict::kUnconfirmed)) return;
    const FlowValue v = FlowValue::make(p.backend, FlowState::kSeenOnce, 0, w.tick());
    w.flow_tally.count(k.flows.insert(k.key, p.flow_hash, v, w.tick(), core::MayEvict::kUnconfirmed),
                       w.tick());
}

/// RSS sends a fragment by its addresses alone, so to another worker than the flow's whole datagrams: that
/// one may know where the flow lives (core/flow_table.h says how a foreign entry is read).
template <class Keyed>
bool known_elsewhere(Packet& p, const Keyed& k, const Context& context) noexcept {
    for (const WorkerState* other : context.worker.others()) {
        const FlowValue v = Keyed::flows_of(*other).peek(k.key, p.flow_hash);
        if (v.state() == FlowState::kEmpty || !keeps(v.backend(), api::PoolId{p.pool_id}, context)) continue;
        send_to(p, v.backend(), context, Reason::kForwardedPinned);
        return true;
    }
    return false;
}

template <class Keyed>
void udp(Packet& p, bool fragment, const Context& context) noexcept {
    WorkerState& w = context.worker;
    Keyed k(p, w);
    if (auto* entry = k.flows.find(k.key, p.flow_hash)) return pinned(p, *entry, context);
    if (fragment && known_elsewhere(p, k, context)) return remember(p, k, w);
    if (!choose(p, context, core::Admission::kNew, Reason::kForwardedNew)) return;
    if (within_limits(p, context)) remember(p, k, w);
}

/// True when it was the packet of a live flow whose entry lies where it should; else left to udp().
template <class Keyed>
bool pinned_fast(Packet& p, const Context& context) noexcept {
    Keyed k(p, context.worker);
    auto* entry = k.flows.find_first(k.key, p.flow_hash);
    if (entry != nullptr)
        pinned(p, *entry, context);
    else
        k.flows.prefetch_second(k.key, p.flow_hash);
    return entry != nullptr;
}

}  // namespace

void flow_udp(core::Batch& batch, const Context& context) noexcept {
    if (batch.udp().empty()) return;
    batch.rest.clear();
    for (const std::uint8_t i : batch.udp()) {
        Packet& p = batch.packets[i];
        const bool done = p.v6 != 0 ? pinned_fast<KeyedV6>(p, context) : pinned_fast<KeyedV4>(p, context);
        batch.rest.add_if(i, done ? 0 : 1);
    }
    prefetch_choices(batch, context);
    for (const std::uint8_t i : batch.rest) {
        Packet& p = batch.packets[i];
        const bool fragment = batch.first_fragments.contains(i);
        p.v6 != 0 ? udp<KeyedV6>(p, fragment, context) : udp<KeyedV4>(p, fragment, context);
    }
}

}  // namespace detour::stages
