#include "control/plan/plan.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dataplane/api/limits.h"
#include "dataplane/api/wire.h"

namespace detour::plan {

namespace {

constexpr auto kById = [](const auto& a, const auto& b) { return a.id < b.id; };

/// Next hops of one plan, numbered in their own order.
class HopNumbers {
  public:
    HopNumbers(const config::Config& config, const NextHops& known) : known_(known) {
        std::set<NextHop> different;
        for (const config::Pool& pool : config.pools) {
            for (const config::Backend& backend : pool.backends) different.insert(find(backend.address));
        }
        hops_.assign(different.begin(), different.end());
    }
    [[nodiscard]] std::size_t size() const { return hops_.size(); }
    [[nodiscard]] api::NextHopId of(const api::IpAddress& address) const {
        const auto at = std::lower_bound(hops_.begin(), hops_.end(), find(address));
        return api::NextHopId{static_cast<std::uint16_t>(at - hops_.begin())};
    }
    [[nodiscard]] std::vector<api::PlanNextHop> all() const {
        std::vector<api::PlanNextHop> result;
        for (const NextHop& hop : hops_) {
            const api::NextHopId id{static_cast<std::uint16_t>(result.size())};
            result.push_back({id, hop.port, hop.source, hop.destination, hop.mtu, hop.resolved, hop.vlan});
        }
        return result;
    }

  private:
    [[nodiscard]] const NextHop& find(const api::IpAddress& address) const {
        static const NextHop kNoRoute;
        const auto found = known_.find(address);
        return found == known_.end() ? kNoRoute : found->second;
    }
    const NextHops& known_;
    std::vector<NextHop> hops_;
};

api::Tier tier_of(config::SiteTier tier) {
    return api::Tier{static_cast<std::uint8_t>(tier)};
}

api::Weight site_weight(const config::Pool& pool, std::string_view site) {
    const auto found = std::find_if(pool.site_weights.begin(), pool.site_weights.end(),
                                    [&](const config::PoolSite& weight) { return weight.site == site; });
    return api::Weight{found == pool.site_weights.end() ? 100U : found->weight};
}

using SiteIndex = std::unordered_map<std::string_view, const config::Site*>;

api::PlanPool make_pool(const config::Pool& pool, const Ids& ids, const SiteIndex& sites,
                        const HopNumbers& hops) {
    api::PlanPool result;
    result.id = ids.pool(pool.name);
    result.name = pool.name;
    result.encap = pool.encap;
    result.hash = pool.hash;
    result.stranded = pool.stranded;
    result.on_empty = pool.on_empty;
    result.max_backends = pool.max_backends;
    result.priority = pool.priority;
    for (const api::Vip& vip : pool.vips) result.vips.push_back({ids.vip(vip), vip});

    std::map<api::SiteId, api::PlanPoolSite> parts;
    for (const config::Backend& backend : pool.backends) {
        const config::Site& site = *sites.at(backend.site);
        api::PlanPoolSite& part = parts[ids.site(site.key)];
        part.site = ids.site(site.key);
        part.weight = site_weight(pool, site.name);
        part.tier = tier_of(site.tier);
        part.backends.push_back({ids.backend(result.id, backend.address), backend.address,
                                 api::Weight{backend.weight}, hops.of(backend.address), backend.server_ids});
    }
    for (auto& [id, part] : parts) result.sites.push_back(std::move(part));
    return result;
}

}  // namespace

void normalize(api::ForwardingPlan& plan) {
    std::sort(plan.sites.begin(), plan.sites.end(), kById);
    std::sort(plan.next_hops.begin(), plan.next_hops.end(), kById);
    std::sort(plan.pools.begin(), plan.pools.end(), kById);
    for (api::PlanPool& pool : plan.pools) {
        std::sort(pool.vips.begin(), pool.vips.end(), kById);
        std::sort(pool.sites.begin(), pool.sites.end(),
                  [](const auto& a, const auto& b) { return a.site < b.site; });
        for (api::PlanPoolSite& site : pool.sites) {
            std::sort(site.backends.begin(), site.backends.end(), kById);
        }
    }
}

api::Result<api::ForwardingPlan> make_plan(const config::Config& config, const Ids& ids,
                                           const NextHops& next_hops, api::Generation generation) {
    const HopNumbers hops(config, next_hops);
    if (hops.size() > api::kMaxNextHops) {
        return api::fail(api::ErrorCode::kLimit, "making the plan",
                         std::to_string(hops.size()) + " different next hops are above " +
                             std::to_string(api::kMaxNextHops));
    }
    api::ForwardingPlan plan;
    plan.generation = generation;
    plan.seed = api::FleetSeed::from_text(config.pop.fleet_seed);
    plan.source_v4 = config.dataplane.source_v4;
    plan.source_v6 = config.dataplane.source_v6;
    plan.resets_per_second = config.dataplane.resets_per_second;
    plan.icmp_per_second = config.dataplane.icmp_per_second;
    plan.next_hops = hops.all();

    SiteIndex sites;
    for (const config::Site& site : config.sites) {
        sites.emplace(site.name, &site);
        plan.sites.push_back({ids.site(site.key), site.name, site.key, api::Sequence{0}});
    }
    for (const config::Pool& pool : config.pools) {
        plan.pools.push_back(make_pool(pool, ids, sites, hops));
    }
    normalize(plan);
    if (const auto checked = api::check(plan); !checked) return tl::unexpected(checked.error());
    return plan;
}

bool same_content(const api::ForwardingPlan& a, const api::ForwardingPlan& b) {
    const auto same_site = [](const api::PlanSite& x, const api::PlanSite& y) {
        return x.id == y.id && x.name == y.name && x.key == y.key;
    };
    return a.seed == b.seed && a.source_v4 == b.source_v4 && a.source_v6 == b.source_v6 &&
           a.resets_per_second == b.resets_per_second && a.icmp_per_second == b.icmp_per_second &&
           std::equal(a.sites.begin(), a.sites.end(), b.sites.begin(), b.sites.end(), same_site) &&
           a.next_hops == b.next_hops && a.pools == b.pools;
}

NextHops next_hops_of(const api::ForwardingPlan& plan) {
    std::map<api::NextHopId, NextHop> hops;
    for (const api::PlanNextHop& hop : plan.next_hops) {
        if (hop.resolved) hops[hop.id] = {hop.port, hop.source, hop.destination, hop.mtu, true, hop.vlan};
    }
    NextHops result;
    for (const api::PlanPool& pool : plan.pools) {
        for (const api::PlanPoolSite& site : pool.sites) {
            for (const api::PlanBackend& backend : site.backends) {
                const auto hop = hops.find(backend.next_hop);
                if (hop != hops.end()) result[backend.address] = hop->second;
            }
        }
    }
    return result;
}

}  // namespace detour::plan
