#include "dataplane/core/encapsulate.h"

#include "dataplane/core/answer.h"
#include "dataplane/stages/stages.h"

namespace detour::stages {
namespace {

void too_big(core::Packet& p, const Context& context, std::uint16_t mtu) noexcept {
    WorkerState& w = context.worker;
    w.pools[context.tables.pools[p.pool].id.value()].too_big.add(1);
    if (!w.icmp.take(w.now_ns())) return drop(p, api::Reason::kTooBigOverBudget);
    if (!core::answer_too_big(p, mtu)) return drop(p, api::Reason::kNoHeadroom);
    p.verdict = core::Verdict::kTransmit;
    p.reason = api::Reason::kTooBigAnswered;
}

void encapsulate_one(core::Packet& p, const Context& context) noexcept {
    const core::BackendEntry& backend = context.tables.backends[p.backend];
    if ((backend.flags & core::kBackendHasSource) == 0) return drop(p, api::Reason::kNoTunnelSource);
    if ((backend.flags & core::kBackendResolved) == 0) return drop(p, api::Reason::kUnresolvedNextHop);
    if (p.ip_length > backend.max_inner) return too_big(p, context, backend.max_inner);
    if (!core::encapsulate(p, context.tables.headers[p.backend], backend)) {
        return drop(p, api::Reason::kNoHeadroom);
    }
    p.verdict = core::Verdict::kTransmit;
}

}  // namespace

void encapsulate(core::Batch& batch, const Context& context) noexcept {
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        const core::Packet& p = batch.packets[i];
        if (p.verdict == core::Verdict::kPending) __builtin_prefetch(&context.tables.headers[p.backend]);
    }
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        core::Packet& p = batch.packets[i];
        if (p.verdict == core::Verdict::kPending) encapsulate_one(p, context);
    }
}

}  // namespace detour::stages
