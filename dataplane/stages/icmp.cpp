// ICMP errors about a VIP's flow go to the backend of that flow, and a VIP answers echo requests; all other
// ICMP is the kernel's.
#include "dataplane/core/icmp.h"

#include "dataplane/core/answer.h"
#include "dataplane/stages/flow.h"

namespace detour::stages {
namespace {

using core::load;

/// The hash of the flow in the client's direction.
std::uint64_t hash_of(const core::QuotedFlow& q, const core::HashSeed& seed, bool v6) noexcept {
    const std::uint32_t ports =
        static_cast<std::uint32_t>(q.client_port) | static_cast<std::uint32_t>(q.vip_port) << 16U;
    if (v6) return core::hash_v6(seed, q.client, q.vip, ports, q.protocol);
    return core::hash_v4(seed, load<std::uint32_t>(q.client), load<std::uint32_t>(q.vip), ports, q.protocol);
}

core::FlowValue pin_of(const core::QuotedFlow& q, std::uint16_t vip, std::uint64_t hash, bool v6,
                       const WorkerState& w) noexcept {
    if (v6) return w.flows_v6.peek(core::FlowKeyV6::make(q.client, q.client_port, vip), hash);
    return w.flows_v4.peek(core::FlowKeyV4::make(load<std::uint32_t>(q.client), q.client_port, vip), hash);
}

/// RSS sends an error to any worker, for its outer header is not the flow's: when this one does not know the
/// flow, another may. Entries of others are read while their owners write them (core/flow_table.h).
core::FlowValue pin_anywhere(const core::QuotedFlow& q, std::uint16_t vip, std::uint64_t hash, bool v6,
                             const WorkerState& w) noexcept {
    core::FlowValue pin = pin_of(q, vip, hash, v6, w);
    for (const WorkerState* other : w.others()) {
        if (pin.state() != core::FlowState::kEmpty) break;
        pin = pin_of(q, vip, hash, v6, *other);
    }
    return pin;
}

void forward_error(core::Packet& p, const Context& context, const core::QuotedFlow& q,
                   const core::VipEntry& vip) noexcept {
    const bool v6 = p.v6 != 0;
    p.pool = vip.pool;
    p.pool_id = vip.pool_id;
    p.vip = vip.vip;
    p.flow_hash = hash_of(q, context.tables.seed, v6);
    if (!context.worker.icmp_forwarded.take(context.worker.now_ns()))
        return drop(p, api::Reason::kIcmpOverBudget);
    const core::FlowValue pin = pin_anywhere(q, p.vip, p.flow_hash, v6, context.worker);
    const bool known = pin.state() != core::FlowState::kEmpty && !core::was_reset(pin.state()) &&
                       context.tables.has_backend(pin.backend());
    if (known) return send_to(p, pin.backend(), context, api::Reason::kForwardedIcmp);
    // The flow came by another host: there it was placed by the same hash.
    (void)choose(p, q.client, context, core::Admission::kMid, api::Reason::kForwardedIcmp);
}

/// Whether it was an echo request to a VIP, whose host need not have the address.
bool echoed(core::Packet& p, const Context& context) noexcept {
    if (!core::is_echo_request(p) || !is_for_a_vip(p, context)) return false;
    WorkerState& w = context.worker;
    if (!w.echoes.take(w.now_ns())) {
        drop(p, api::Reason::kIcmpOverBudget);
    } else if (core::answer_echo(p)) {
        p.verdict = core::Verdict::kTransmit;
        p.reason = api::Reason::kEchoAnswered;
    } else {
        to_kernel(p, api::Reason::kIcmpToKernel);
    }
    return true;
}

void icmp_one(core::Packet& p, const Context& context) noexcept {
    if (echoed(p, context)) return;
    const auto quoted = core::quoted_flow(p);
    if (!quoted) return to_kernel(p, api::Reason::kIcmpToKernel);
    std::array<std::uint64_t, 2> address{};
    std::memcpy(address.data(), quoted->vip, p.v6 != 0 ? 16 : 4);
    const core::VipEntry* vip = context.tables.vips.find(address, p.v6, quoted->protocol, quoted->vip_port);
    if (vip == nullptr) return to_kernel(p, api::Reason::kIcmpToKernel);
    forward_error(p, context, *quoted, *vip);
}

}  // namespace

void icmp(core::Batch& batch, const Context& context) noexcept {
    for (const std::uint8_t i : batch.icmp) icmp_one(batch.packets[i], context);
}

}  // namespace detour::stages
