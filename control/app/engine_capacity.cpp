// Capacity: what the pools offer, what each site may get from this host, and what follows from the two.
//
// The decision is failover::allocate(). Its shares become each part's spill bound; its budgets become limits
// in the fast path, which hold whatever really arrives, and which shed the least important pools first.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "control/app/engine_impl.h"
#include "control/failover/shares.h"

namespace detour::app {

using failover::Load;
using health::nanoseconds;

namespace {

/// Flows are counted every 100 ms; an average of about 3 s takes the noise out and still sees a surge.
constexpr double kSmooth = 3.0;
constexpr std::chrono::seconds kReallocateEvery{1};
constexpr std::chrono::milliseconds kReallocateSoon{100};
/// A spill bound moves by at least this much, or not at all: noise should move nobody.
constexpr double kSpillStep = 0.02;
/// Part of a pool's new flows that is worth an alarm.
constexpr double kShedWorthTelling = 0.005;

double decayed(double before, double now, double seconds) {
    const double keep = std::exp(-seconds / kSmooth);
    return before * keep + now * (1 - keep);
}

}  // namespace

bool Engine::Impl::knows_capacity() const {
    return std::any_of(config_.sites.begin(), config_.sites.end(), [](const config::Site& site) {
        return site.capacity.new_flows > 0 || site.capacity.gbps > 0;
    });
}

/// Rates from the counters of the fast path, which only grow while one instance runs.
void Engine::Impl::measure(const Signals& signals) {
    const bool again = counted_instance_ == instance_ && now_.monotonic > counted_at_;
    const double seconds = std::chrono::duration<double>(now_.monotonic - counted_at_).count();
    for (PoolState& pool : fleet_.pools) {
        const auto found = std::find_if(signals.pools.begin(), signals.pools.end(),
                                        [&](const PoolSignal& signal) { return signal.pool == pool.id; });
        if (found == signals.pools.end()) continue;
        const auto before = counted_.find(pool.id);
        if (again && before != counted_.end() && found->new_flows >= before->second.new_flows &&
            found->bytes >= before->second.bytes) {
            const double flows = static_cast<double>(found->new_flows - before->second.new_flows) / seconds;
            const double gbits = static_cast<double>(found->bytes - before->second.bytes) * 8e-9 / seconds;
            pool.offered = {decayed(pool.offered.new_flows, flows, seconds),
                            decayed(pool.offered.gbps, gbits, seconds)};
        }
        counted_[pool.id] = *found;
    }
    counted_at_ = now_.monotonic;
    counted_instance_ = instance_;
}

/// What this host may spend at the site: its share of the capacity that is healthy there.
Load Engine::Impl::budget_of(const SiteState& site) const {
    const config::Site* described = config_.find_site(site.name);
    if (described == nullptr) return {};
    std::uint64_t whole = 0;
    std::uint64_t healthy = 0;
    for (const Index index : site.targets) {
        const Target& target = fleet_.targets[index];
        const health::State state = target.state.state();
        const bool up = state == health::State::kUp || (state == health::State::kUnknown && !target.fresh);
        whole += target.weight;
        healthy += up ? target.weight : 0;
    }
    const double part = whole == 0 ? 1.0 : static_cast<double>(healthy) / static_cast<double>(whole);
    // Nobody healthy: the site is dark, or used because nothing is left. Then its size is a guess: the whole.
    const double scale = config_.pop.share * (healthy == 0 ? 1.0 : part);
    return {static_cast<double>(described->capacity.new_flows) * scale, described->capacity.gbps * scale};
}

failover::CapacityPool Engine::Impl::capacity_pool(const PoolState& pool) const {
    failover::CapacityPool result;
    result.priority = pool.priority;
    result.offered = pool.offered;
    for (const Index index : pool.parts) {
        const Part& part = fleet_.parts[index];
        const SiteState& site = fleet_.sites[part.site];
        const auto tier = static_cast<unsigned>(tiers_[part.site]);
        const double own = std::min(failover::part_of(part.admission.gate().admit),
                                    failover::part_of(site_gate(site).admit));
        const double admit = part.available > 0 ? std::min(own, part.bounds.lasting()) : 0;
        result.parts.push_back({part.site, {part.weight, tier, admit}});
    }
    return result;
}

void Engine::Impl::reallocate() {
    allocated_at_ = now_.monotonic;
    const bool limited = std::any_of(limits_.begin(), limits_.end(),
                                     [](const auto& entry) { return entry.second.per_second.has_value(); });
    if (!knows_capacity() && !limited) return;
    std::vector<failover::CapacityPool> pools;
    std::vector<Load> budgets;
    for (const SiteState& site : fleet_.sites) budgets.push_back(budget_of(site));
    for (const PoolState& pool : fleet_.pools) pools.push_back(capacity_pool(pool));
    const failover::Allocation result = failover::allocate(pools, budgets);
    const auto factors = failover::spill(pools, budgets, result);
    for (Index i = 0; i < fleet_.pools.size(); ++i) {
        spill(fleet_.pools[i], factors[i]);
        report_shed(fleet_.pools[i], result.pools[i].shed);
    }
    for (Index i = 0; i < fleet_.sites.size(); ++i) {
        SiteState& site = fleet_.sites[i];
        site.load = result.load[i];
        site.budget = budgets[i];
        report_full(site, result.full[i]);
        limit(site.id, budgets[i].new_flows);
    }
}

void Engine::Impl::spill(const PoolState& pool, const std::vector<double>& factors) {
    for (std::size_t i = 0; i < pool.parts.size(); ++i) {
        Part& part = fleet_.parts[pool.parts[i]];
        const bool same = std::abs(factors[i] - part.bounds.spill) < kSpillStep;
        if (factors[i] == part.bounds.spill || (same && factors[i] < 1)) continue;
        part.bounds.spill = factors[i];
        dirty_gates_.insert(pool.parts[i]);
    }
}

void Engine::Impl::report_shed(PoolState& pool, double shed) {
    pool.shed = shed;
    const bool tell = shed > (pool.sheds_since ? 0 : kShedWorthTelling);
    if (tell == pool.sheds_since.has_value()) return;
    pool.sheds_since = tell ? std::optional(now_.monotonic) : std::nullopt;
    event(EventKind::kAlarm, tell ? fmt::format("sheds {:.0f} % of its new flows: no site has room for them",
                                                std::max(1.0, 100 * shed))
                                  : "has room for all its new flows again")
        .pool = pool.name;
}

void Engine::Impl::report_full(SiteState& site, bool full) {
    if (full == site.full) return;
    site.full = full;
    site.dirty = true;
    event(EventKind::kAlarm, site,
          full ? fmt::format("full: this host may spend {:.0f} new flows a second and {:.3g} Gbit/s there",
                             site.budget.new_flows, site.budget.gbps)
               : "has room again");
}

/// By pool what no site has room for under these drains, sites on their ramps counted by their part.
std::vector<double> Engine::Impl::shed_under(const Coverage& drains) const {
    std::vector<failover::CapacityPool> pools;
    std::vector<Load> budgets;
    for (const SiteState& site : fleet_.sites)
        budgets.push_back(failover::on_ramp(budget_of(site), failover::part_of(site.admission.ramped())));
    for (const PoolState& pool : fleet_.pools) {
        pools.push_back(capacity_pool(pool));
        for (std::size_t i = 0; i < pool.parts.size(); ++i) {
            const Index part = pool.parts[i];
            const api::Admit left =
                std::min(drains.sites[fleet_.parts[part].site].left, drains.parts[part].left);
            double& admit = pools.back().parts[i].share.admit;
            admit = std::min(admit, failover::part_of(left));
        }
    }
    std::vector<double> shed;
    for (const auto& pool : failover::allocate(pools, budgets).pools) shed.push_back(pool.shed);
    return shed;
}

/// Pools that would lose more of their new flows than now, in words.
std::vector<std::string> Engine::Impl::beyond_capacity(const Coverage& after) const {
    std::vector<std::string> broken;
    if (!knows_capacity()) return broken;
    const Coverage now = coverage(intents_.drains);
    const std::vector<double> without = shed_under(now);
    const std::vector<double> with = shed_under(after);
    for (Index i = 0; i < fleet_.pools.size(); ++i) {
        const PoolState& pool = fleet_.pools[i];
        auto words = failover::beyond_capacity(pool.name, rail_sites(pool, now, after),
                                               std::max(pool.shed, without[i]), with[i]);
        if (!words.empty()) broken.push_back(std::move(words));
    }
    return broken;
}

/// New flows of all pools to one site, a second; 0: no limit. Within the site's limit the fast path serves
/// the most important pools first.
void Engine::Impl::limit(api::SiteId site, double new_flows) {
    if (!board_.connected()) return;
    std::optional<std::uint32_t> wanted;
    if (new_flows > 0) wanted = static_cast<std::uint32_t>(std::max(1.0, std::min(new_flows, 4e9)));
    const auto found = limits_.find(site);
    if (found == limits_.end() && !wanted) return;
    api::FlowLimit value = found == limits_.end() ? api::FlowLimit{} : found->second;
    const api::Refusal refusal = config_.failover.shed;
    if (value.per_second == wanted && value.refusal == refusal) return;
    value.site = site;
    value.per_second = wanted;
    value.refusal = refusal;
    value.sequence = api::Sequence{value.sequence.value() + 1};
    limits_[site] = value;
    out_.limits.push_back(value);
}

/// Those in force. Our own sequences stay as a floor, as those of switches do.
void Engine::Impl::adopt_limits(const std::vector<api::FlowLimit>& limits) {
    for (auto& [site, value] : limits_) value.per_second.reset();
    for (const api::FlowLimit& value : limits) {
        if (!value.site) continue;
        const api::Sequence floor = limits_[*value.site].sequence;
        limits_[*value.site] = value;
        limits_[*value.site].sequence = std::max(value.sequence, floor);
    }
}

/// Since room was last given out.
bool Engine::Impl::sites_changed() {
    std::vector<api::Admit> admits;
    for (const SiteState& site : fleet_.sites) {
        const api::Admit admit = site_gate(site).admit;
        admits.push_back(admit == api::kAdmitNone ? api::kAdmitNone : api::kAdmitAll);
    }
    if (admits == allocated_to_) return false;
    allocated_to_ = std::move(admits);
    return true;
}

/// At once when a site goes or comes, so that the survivors' limits go out with its switch; within 100 ms
/// (with the next signals) when backends or pools change; else once a second.
void Engine::Impl::reallocate_if_due(bool sites_changed) {
    if (on_hold()) return;
    const nanoseconds since = now_.monotonic - allocated_at_;
    const bool soon = reallocate_soon_ && since >= kReallocateSoon;
    if (!sites_changed && !soon && since < kReallocateEvery) return;
    reallocate_soon_ = false;
    reallocate();
}

}  // namespace detour::app
