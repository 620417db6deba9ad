#include "dataplane/stages/new_flows.h"

#include "dataplane/core/answer.h"

namespace detour::stages {
namespace {

constexpr std::uint64_t kLevels = 16;
constexpr std::uint8_t kProtocolTcp = 6;

/// The bucket at this worker's part of the limit. Small limits have a burst that all levels fit in.
core::TokenBucket& at_rate(core::TokenBucket& bucket, const core::LimitValue& limit,
                           std::uint32_t workers) noexcept {
    const std::uint64_t rate = (std::uint64_t{limit.per_second} + workers - 1) / workers;
    if (bucket.rate() != rate || bucket.burst() == 0)
        bucket.set_rate(rate, std::max<std::uint64_t>(rate / 10, kLevels));
    return bucket;
}

void refuse(core::Packet& p, api::Refusal how, const Context& context) noexcept {
    WorkerState& w = context.worker;
    PoolTally& tally = w.pools[context.tables.pools[p.pool].id.value()];
    tally.shed.add(1);
    tally.new_flows.add(1);
    const bool answered = how == api::Refusal::kReset && p.protocol == kProtocolTcp;
    if (!answered || !w.resets.take(w.now_ns())) return drop(p, api::Reason::kShed);
    core::refuse_syn(p);
    p.verdict = core::Verdict::kTransmit;
    p.reason = api::Reason::kShedReset;
}

}  // namespace

bool take_flow_tokens(core::Packet& p, const Context& context) noexcept {
    WorkerState& w = context.worker;
    const core::PoolEntry& pool = context.tables.pools[p.pool];
    const core::LimitValue of_pool = context.host.limit(pool.id);
    const core::LimitValue of_site = context.host.limit(api::SiteId{p.site});
    core::TokenBucket& pool_tokens = at_rate(w.pool_flows[pool.id.value()], of_pool, w.workers());
    core::TokenBucket& site_tokens = at_rate(w.site_flows[p.site], of_site, w.workers());
    const std::uint64_t reserve =
        (site_tokens.burst() - std::min<std::uint64_t>(1, site_tokens.burst())) * pool.shed_level / kLevels;
    if (of_pool.limited && !pool_tokens.available(w.now_ns())) {
        refuse(p, of_pool.refusal, context);
        return false;
    }
    if (of_site.limited && !site_tokens.available(w.now_ns(), reserve)) {
        refuse(p, of_site.refusal, context);
        return false;
    }
    if (of_pool.limited) pool_tokens.spend();
    if (of_site.limited) site_tokens.spend();
    return true;
}

}  // namespace detour::stages
