#include "dataplane/stages/stages.h"

namespace detour::stages {

void account(core::Batch& batch, const Context& context) noexcept {
    WorkerState& w = context.worker;
    SiteSignals* const sites = w.sites.data();
    BackendTally* const backends = w.backends.data();
    PoolTally* const pools = w.pools.data();
    // Neighbours mostly share their reason: one addition for a run of them.
    api::Reason reason = api::Reason::kForwardedPinned;
    std::uint64_t run = 0;
    for (const core::Packet& p : batch.all()) {
        if (p.verdict == core::Verdict::kHold) [[unlikely]]
            continue;  // counted when it goes
        if (p.reason != reason) {
            w.counters[static_cast<std::size_t>(reason)].add(run);
            reason = p.reason;
            run = 0;
        }
        ++run;
        if (!api::is_forwarded(p.reason)) continue;
        const PacketBytes::Step step(p.ip_length);
        sites[p.site].count(step);
        backends[p.backend].count(step);
        pools[p.pool_id].count(step);
        if (p.reason == api::Reason::kForwardedNew) [[unlikely]]
            pools[p.pool_id].new_flows.add(1);
    }
    w.counters[static_cast<std::size_t>(reason)].add(run);
}

}  // namespace detour::stages
