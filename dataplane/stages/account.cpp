#include "dataplane/stages/stages.h"

namespace detour::stages {
namespace {

void forwarded(const core::Packet& p, const Context& context) noexcept {
    WorkerState& w = context.worker;
    const core::BackendEntry& backend = context.tables.backends[p.backend];
    w.sites[backend.site].packets.add(1);
    w.sites[backend.site].bytes.add(p.ip_length);
    w.backends[p.backend].packets.add(1);
    w.backends[p.backend].bytes.add(p.ip_length);
    PoolTally& pool = w.pools[context.tables.pools[p.pool].id.value()];
    pool.packets.add(1);
    pool.bytes.add(p.ip_length);
}

}  // namespace

void account(core::Batch& batch, const Context& context) noexcept {
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        const core::Packet& p = batch.packets[i];
        context.worker.counters[static_cast<std::size_t>(p.reason)].add(1);
        if (api::info(p.reason).outcome == api::Outcome::kForwarded) forwarded(p, context);
    }
}

}  // namespace detour::stages
