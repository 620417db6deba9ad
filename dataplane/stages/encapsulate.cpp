#include "dataplane/core/encapsulate.h"

#include "dataplane/core/answer.h"
#include "dataplane/stages/stages.h"

namespace detour::stages {
namespace {

void too_big(core::Packet& p, const Context& context, std::uint16_t mtu) noexcept {
    WorkerState& w = context.worker;
    w.pools[p.pool_id].too_big.add(1);
    // Neither is ever answered with an error (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
    if (p.reason == api::Reason::kForwardedIcmp || p.reason == api::Reason::kForwardedFragment)
        return drop(p, api::Reason::kTooBigUnanswered);
    if (!w.icmp.take(w.now_ns())) return drop(p, api::Reason::kTooBigOverBudget);
    if (!core::answer_too_big(p, mtu)) return drop(p, api::Reason::kNoHeadroom);
    p.verdict = core::Verdict::kTransmit;
    p.reason = api::Reason::kTooBigAnswered;
}

/// Not inlined: the loop stays small.
[[gnu::noinline]] void refuse(core::Packet& p, const core::BackendEntry& backend,
                              const Context& context) noexcept {
    if ((backend.flags & core::kBackendHasSource) == 0) return drop(p, api::Reason::kNoTunnelSource);
    if ((backend.flags & core::kBackendResolved) == 0) return drop(p, api::Reason::kUnresolvedNextHop);
    if (p.ip_length > backend.max_inner) return too_big(p, context, backend.max_inner);
    drop(p, api::Reason::kNoHeadroom);
}

}  // namespace

void encapsulate(core::Batch& batch, const Context& context) noexcept {
    const core::BackendEntry* const backends = context.tables.backends.data();
    const core::EncapHeader* const headers = context.tables.headers.data();
    for (core::Packet& p : batch.all()) {
        if (p.verdict != core::Verdict::kPending) continue;
        const core::BackendEntry& backend = backends[p.backend];
        if (p.ip_length <= backend.max_inner && core::encapsulate(p, headers[p.backend], backend))
            [[likely]] {
            p.verdict = core::Verdict::kTransmit;
        } else {
            refuse(p, backend, context);
        }
    }
}

}  // namespace detour::stages
