// ICMP errors about a VIP's flow go to the backend of that flow; all other ICMP is the kernel's.
#include "dataplane/core/icmp.h"

#include "dataplane/stages/flow.h"

namespace detour::stages {
namespace {

using core::load;

struct Hashes {
    std::uint64_t flow = 0;
    std::uint64_t choice = 0;
};

/// The hashes of the flow in the client's direction, as classify makes them.
Hashes hashes_of(const core::QuotedFlow& q, const core::HashSeed& seed, api::HashKey key, bool v6) noexcept {
    const std::uint32_t ports =
        static_cast<std::uint32_t>(q.client_port) | static_cast<std::uint32_t>(q.vip_port) << 16U;
    Hashes h;
    if (v6) {
        static constexpr std::array<std::uint8_t, 16> kAny{};
        h.flow = core::hash_v6(seed, q.client, q.vip, ports, q.protocol);
        h.choice = key == api::HashKey::kSource ? core::hash_v6(seed, q.client, kAny.data(), 0, 0) : h.flow;
    } else {
        const auto client = load<std::uint32_t>(q.client);
        h.flow = core::hash_v4(seed, client, load<std::uint32_t>(q.vip), ports, q.protocol);
        h.choice = key == api::HashKey::kSource ? core::hash_v4(seed, client, 0, 0, 0) : h.flow;
    }
    return h;
}

core::FlowValue pin_of(const core::QuotedFlow& q, std::uint16_t vip, std::uint64_t hash, bool v6,
                       const WorkerState& w) noexcept {
    if (v6) return w.flows_v6.peek(core::FlowKeyV6::make(q.client, q.client_port, vip), hash);
    return w.flows_v4.peek(core::FlowKeyV4::make(load<std::uint32_t>(q.client), q.client_port, vip), hash);
}

void forward_error(core::Packet& p, const Context& context, const core::QuotedFlow& q,
                   const core::VipSlot& vip) noexcept {
    const bool v6 = p.v6 != 0;
    p.pool = vip.pool;
    p.vip = vip.vip;
    const core::PoolEntry& pool = context.tables.pools[p.pool];
    const Hashes h = hashes_of(q, context.tables.seed, pool.hash, v6);
    p.flow_hash = h.flow;
    p.choice_hash = h.choice;
    if (!context.worker.icmp_forwarded.take(context.worker.now_ns()))
        return drop(p, api::Reason::kIcmpOverBudget);
    const core::FlowValue pin = pin_of(q, p.vip, h.flow, v6, context.worker);
    const bool known = pin.state() != core::FlowState::kEmpty && pin.state() != core::FlowState::kTombstone &&
                       context.tables.has_backend(pin.backend());
    if (known) return send_to(p, pin.backend(), context, api::Reason::kForwardedIcmp);
    // The flow came by another worker or host: there it was placed by the same hash.
    (void)choose(p, context, core::Admission::kMid, api::Reason::kForwardedIcmp);
}

void icmp_one(core::Packet& p, const Context& context) noexcept {
    const auto quoted = core::quoted_flow(p);
    if (!quoted) return to_kernel(p, api::Reason::kIcmpToKernel);
    std::array<std::uint64_t, 2> address{};
    std::memcpy(address.data(), quoted->vip, p.v6 != 0 ? 16 : 4);
    const core::VipSlot* vip = context.tables.vips.find(address, p.v6, quoted->protocol, quoted->vip_port);
    if (vip == nullptr) return to_kernel(p, api::Reason::kIcmpToKernel);
    forward_error(p, context, *quoted, *vip);
}

}  // namespace

void icmp(core::Batch& batch, const Context& context) noexcept {
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        core::Packet& p = batch.packets[i];
        const bool is_icmp = p.protocol == (p.v6 != 0 ? 58 : 1);
        if (p.verdict == core::Verdict::kPending && is_icmp) icmp_one(p, context);
    }
}

}  // namespace detour::stages
