#include "control/plan/ids.h"

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "dataplane/api/limits.h"

namespace detour::plan {

namespace {

/// Makes `key` own `id`, whoever had it. What `key` had before is retired.
template <class Id, class Key>
void force(IdSpace<Id, Key>& space, const Key& key, Id id, api::Generation generation) {
    space.next = std::max<std::uint32_t>(space.next, std::uint32_t{id.value()} + 1);
    const auto known = space.used.find(key);
    if (known != space.used.end() && known->second == id) return;
    std::erase_if(space.used, [&](const auto& entry) { return entry.second == id; });
    space.retired.erase(id);
    if (known != space.used.end()) space.retired[known->second] = {key, generation};
    space.used[key] = id;
}

template <class Id, class Key>
std::optional<Id> take(IdSpace<Id, Key>& space, std::size_t limit, api::Generation scanned) {
    using Rep = typename Id::rep;
    if (space.next < limit) return Id{static_cast<Rep>(space.next++)};
    const auto free = std::find_if(space.retired.begin(), space.retired.end(),
                                   [&](const auto& entry) { return entry.second.absent_from <= scanned; });
    if (free == space.retired.end()) return std::nullopt;
    const Id id = free->first;
    space.retired.erase(free);
    return id;
}

template <class Id, class Key>
void retire_absent(IdSpace<Id, Key>& space, const std::set<Key>& wanted, api::Generation absent_from) {
    for (auto it = space.used.begin(); it != space.used.end();) {
        if (wanted.contains(it->first)) {
            ++it;
        } else {
            space.retired[it->second] = {it->first, absent_from};
            it = space.used.erase(it);
        }
    }
}

/// Brings the space to exactly `wanted`. In the order of the keys, so that the config's order means nothing.
template <class Id, class Key>
bool settle(IdSpace<Id, Key>& space, const std::set<Key>& wanted, std::size_t limit,
            api::Generation absent_from, api::Generation scanned) {
    retire_absent(space, wanted, absent_from);
    for (auto it = space.retired.begin(); it != space.retired.end();) {
        if (wanted.contains(it->second.key)) {
            space.used.emplace(it->second.key, it->first);
            it = space.retired.erase(it);
        } else {
            ++it;
        }
    }
    for (const Key& key : wanted) {
        if (space.used.contains(key)) continue;
        const std::optional<Id> id = take(space, limit, scanned);
        if (!id) return false;
        space.used.emplace(key, *id);
    }
    return true;
}

tl::unexpected<api::Error> exhausted(const char* what, std::size_t limit) {
    return api::fail(api::ErrorCode::kLimit, "giving out ids",
                     "no " + std::string(what) + " id is free: at most " + std::to_string(limit) +
                         ", and those of removed ones are free again when no flow is left on them");
}

const api::Vip& lowest_vip(const config::Pool& pool) {
    return *std::min_element(pool.vips.begin(), pool.vips.end());
}

/// A pool of the config and an id that some of its VIPs had.
struct Claim {
    std::size_t vips = 0;
    api::Vip lowest;
    api::PoolId id;
    const config::Pool* pool = nullptr;
};

std::vector<Claim> claims(const config::Config& config, const std::map<api::Vip, api::PoolId>& pool_of_vip) {
    std::vector<Claim> result;
    for (const config::Pool& pool : config.pools) {
        std::map<api::PoolId, std::size_t> votes;
        for (const api::Vip& vip : pool.vips) {
            if (const auto known = pool_of_vip.find(vip); known != pool_of_vip.end()) ++votes[known->second];
        }
        for (const auto& [id, count] : votes) result.push_back({count, lowest_vip(pool), id, &pool});
    }
    std::sort(result.begin(), result.end(), [](const Claim& a, const Claim& b) {
        return std::tie(b.vips, a.lowest, a.id) < std::tie(a.vips, b.lowest, b.id);
    });
    return result;
}

/// Each id to the pool that has most of its VIPs, each pool at most one.
std::map<const config::Pool*, api::PoolId> grant(const std::vector<Claim>& claims) {
    std::map<const config::Pool*, api::PoolId> granted;
    std::set<api::PoolId> given;
    for (const Claim& claim : claims) {
        if (granted.contains(claim.pool) || given.contains(claim.id)) continue;
        granted.emplace(claim.pool, claim.id);
        given.insert(claim.id);
    }
    return granted;
}

bool settle_pools(Ids& ids, const config::Config& config, api::Generation absent_from,
                  api::Generation scanned) {
    std::map<const config::Pool*, api::PoolId> granted = grant(claims(config, ids.pool_of_vip));
    std::set<PoolKey> kept;
    for (const auto& [pool, id] : granted) kept.insert({id});
    if (!settle(ids.pools, kept, api::kMaxPools, absent_from, scanned)) return false;

    std::vector<const config::Pool*> rest;
    for (const config::Pool& pool : config.pools) {
        if (!granted.contains(&pool)) rest.push_back(&pool);
    }
    std::sort(rest.begin(), rest.end(),
              [](const auto* a, const auto* b) { return lowest_vip(*a) < lowest_vip(*b); });
    for (const config::Pool* pool : rest) {
        const std::optional<api::PoolId> id = take(ids.pools, api::kMaxPools, scanned);
        if (!id) return false;
        ids.pools.used.emplace(PoolKey{*id}, *id);
        // Whatever VIPs still point at a reused id belong to a pool long gone.
        std::erase_if(ids.pool_of_vip, [&](const auto& entry) { return entry.second == *id; });
        granted.emplace(pool, *id);
    }
    ids.pool_names.clear();
    for (const auto& [pool, id] : granted) {
        ids.pool_names.emplace(pool->name, id);
        for (const api::Vip& vip : pool->vips) ids.pool_of_vip[vip] = id;
    }
    return true;
}

}  // namespace

void Ids::adopt(const api::ForwardingPlan& plan) {
    for (const api::PlanSite& site : plan.sites) force(sites, site.key, site.id, plan.generation);
    for (const api::PlanPool& pool : plan.pools) {
        force(pools, PoolKey{pool.id}, pool.id, plan.generation);
        for (const api::PlanVip& vip : pool.vips) {
            force(vips, vip.vip, vip.id, plan.generation);
            pool_of_vip[vip.vip] = pool.id;
        }
        for (const api::PlanPoolSite& site : pool.sites) {
            for (const api::PlanBackend& backend : site.backends) {
                force(backends, BackendKey{pool.id, backend.address}, backend.id, plan.generation);
            }
        }
    }
}

api::Result<void> Ids::assign(const config::Config& config, api::Generation absent_from,
                              api::Generation scanned) {
    std::set<std::string> site_keys;
    for (const config::Site& site : config.sites) site_keys.insert(site.key);
    if (!settle(sites, site_keys, api::kMaxSites, absent_from, scanned)) {
        return exhausted("site", api::kMaxSites);
    }
    std::set<api::Vip> all_vips;
    for (const config::Pool& pool : config.pools) all_vips.insert(pool.vips.begin(), pool.vips.end());
    if (!settle(vips, all_vips, api::kMaxVips, absent_from, scanned)) return exhausted("VIP", api::kMaxVips);
    if (!settle_pools(*this, config, absent_from, scanned)) return exhausted("pool", api::kMaxPools);

    std::set<BackendKey> members;
    for (const config::Pool& pool : config.pools) {
        for (const config::Backend& backend : pool.backends) {
            members.insert({pool_names.at(pool.name), backend.address});
        }
    }
    if (!settle(backends, members, api::kMaxBackends, absent_from, scanned)) {
        return exhausted("backend", api::kMaxBackends);
    }
    return {};
}

}  // namespace detour::plan
