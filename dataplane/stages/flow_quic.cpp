#include "dataplane/core/quic.h"
#include "dataplane/stages/flow.h"

namespace detour::stages {
namespace {

using api::Reason;
using core::FlowState;
using core::FlowValue;
using core::Packet;

constexpr std::size_t kUdpHeader = 8;

std::span<const std::uint8_t> datagram_of(const Packet& p) noexcept {
    const std::size_t start = p.l4 + kUdpHeader;
    return {p.data + start, p.length - start};
}

/// To the backend that the connection id names, whatever the client's address; and the flow's entry, if the
/// table has room for one, says so from then on: for ICMP errors, and for packets whose id says nothing.
template <class Keyed>
void follow(Packet& p, std::uint16_t backend, const Context& context) noexcept {
    WorkerState& w = context.worker;
    Keyed k(p, w);
    auto* entry = k.flows.find(k.key, p.flow_hash);
    const bool known = entry != nullptr && entry->value().backend() == backend;
    send_to(p, backend, context, known ? Reason::kForwardedPinned : Reason::kForwardedCid);
    if (entry != nullptr) {
        const FlowValue old = entry->value();
        const FlowValue now = old.with_backend(backend).with_state(FlowState::kUdp).with_tick(w.tick());
        if (now.word() != old.word()) entry->set_value(now);
    } else if (w.may_insert(core::MayEvict::kUnconfirmed)) {
        const FlowValue v = FlowValue::make(backend, FlowState::kSeenOnce, 0, w.tick());
        w.flow_tally.count(k.flows.insert(k.key, p.flow_hash, v, w.tick(), core::MayEvict::kUnconfirmed),
                           w.tick());
    }
}

/// True when the packet's connection id names a backend that keeps its flows.
bool followed(Packet& p, const Context& context) noexcept {
    if (context.tables.quic[p.pool].empty()) return false;
    const auto cid = core::server_chosen_cid(datagram_of(p));
    const std::uint16_t backend = core::named_backend(context.tables, context.host, p.pool, cid);
    if (backend == core::kNoBackendId) return false;
    p.v6 != 0 ? follow<KeyedV6>(p, backend, context) : follow<KeyedV4>(p, backend, context);
    return true;
}

}  // namespace

void flow_quic(core::Batch& batch, const Context& context) noexcept {
    if (context.tables.quic.empty() || batch.udp().empty()) return;
    core::PacketList others;
    for (const std::uint8_t i : batch.udp()) others.add_if(i, followed(batch.packets[i], context) ? 0 : 1);
    batch.udp() = others;
}

}  // namespace detour::stages
