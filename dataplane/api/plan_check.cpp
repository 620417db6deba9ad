// The rules that every plan must keep, whether it came over the wire or out of the planner.

#include <fmt/core.h>

#include <array>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "dataplane/api/limits.h"
#include "dataplane/api/wire.h"

namespace detour::api {
namespace {

constexpr std::uint32_t kMinMtu = 1280;
constexpr std::uint32_t kMaxMtu = 9978;
constexpr std::uint8_t kMaxTier = 3;

/// What has been seen so far; filled while the plan is walked once.
struct Seen {
    std::unordered_set<SiteId> sites;
    std::unordered_set<NextHopId> next_hops;
    std::unordered_set<PoolId> pools;
    std::unordered_set<VipId> vip_ids;
    std::set<Vip> vips;
    std::unordered_set<BackendId> backends;
};

[[nodiscard]] tl::unexpected<Error> wrong(std::string what) {
    return fail(ErrorCode::kInvalidArgument, "checking the plan", std::move(what));
}

[[nodiscard]] tl::unexpected<Error> beyond(std::string what) {
    return fail(ErrorCode::kLimit, "checking the plan", std::move(what));
}

[[nodiscard]] bool unspecified(const IpAddress& address) {
    return address.bytes() == IpAddress{}.bytes();
}

[[nodiscard]] Result<void> check_sites(const ForwardingPlan& plan, Seen& seen) {
    if (plan.sites.size() > kMaxSites)
        return beyond(fmt::format("{} sites, at most {}", plan.sites.size(), kMaxSites));
    std::unordered_set<std::string> keys;
    for (const PlanSite& site : plan.sites) {
        const unsigned id = site.id.value();
        if (id >= kMaxSites) return beyond(fmt::format("site id {} is above {}", id, kMaxSites - 1));
        if (!seen.sites.insert(site.id).second) return wrong(fmt::format("site id {} is there twice", id));
        if (site.key.empty()) return wrong(fmt::format("site {} has an empty key", id));
        if (!keys.insert(site.key).second)
            return wrong(fmt::format("site key \"{}\" is there twice", site.key));
    }
    return {};
}

[[nodiscard]] Result<void> check_next_hops(const ForwardingPlan& plan, Seen& seen) {
    if (plan.next_hops.size() > kMaxNextHops)
        return beyond(fmt::format("{} next hops, at most {}", plan.next_hops.size(), kMaxNextHops));
    for (const PlanNextHop& hop : plan.next_hops) {
        const unsigned id = hop.id.value();
        if (id >= kMaxNextHops)
            return beyond(fmt::format("next hop id {} is above {}", id, kMaxNextHops - 1));
        if (!seen.next_hops.insert(hop.id).second)
            return wrong(fmt::format("next hop id {} is there twice", id));
        if (hop.port.value() >= kMaxPorts)
            return beyond(
                fmt::format("next hop {}: port {} is above {}", id, hop.port.value(), kMaxPorts - 1));
        if (hop.vlan > kMaxVlan)
            return beyond(fmt::format("next hop {}: vlan {} is above {}", id, hop.vlan, kMaxVlan));
        if (hop.mtu < kMinMtu || hop.mtu > kMaxMtu)
            return wrong(
                fmt::format("next hop {}: mtu {} is not within {} … {}", id, hop.mtu, kMinMtu, kMaxMtu));
    }
    return {};
}

[[nodiscard]] Result<void> check_vips(const PlanPool& pool, Seen& seen) {
    for (const PlanVip& entry : pool.vips) {
        const unsigned id = entry.id.value();
        const Vip& vip = entry.vip;
        if (id >= kMaxVips) return beyond(fmt::format("vip id {} is above {}", id, kMaxVips - 1));
        if (!seen.vip_ids.insert(entry.id).second) return wrong(fmt::format("vip id {} is there twice", id));
        if (unspecified(vip.address)) return wrong(fmt::format("vip {} has the unspecified address", id));
        if (vip.port == Port{0}) return wrong(fmt::format("vip {} has port 0", id));
        if (vip.protocol != Protocol::kTcp && vip.protocol != Protocol::kUdp)
            return wrong(fmt::format("vip {} has protocol {}, neither TCP (6) nor UDP (17)", id,
                                     static_cast<unsigned>(vip.protocol)));
        if (!seen.vips.insert(vip).second)
            return wrong(fmt::format("vip {} is there twice", vip.to_string()));
    }
    return {};
}

[[nodiscard]] Result<void> check_backends(const PlanPoolSite& part, Seen& seen) {
    std::set<IpAddress> addresses;
    for (const PlanBackend& backend : part.backends) {
        const unsigned id = backend.id.value();
        if (id >= kMaxBackends) return beyond(fmt::format("backend id {} is above {}", id, kMaxBackends - 1));
        if (!seen.backends.insert(backend.id).second)
            return wrong(fmt::format("backend id {} is there twice", id));
        if (unspecified(backend.address))
            return wrong(fmt::format("backend {} has the unspecified address", id));
        if (!addresses.insert(backend.address).second)
            return wrong(fmt::format("backend {}: address {} is there twice in its site", id,
                                     backend.address.to_string()));
        if (backend.weight.value() > kMaxWeight)
            return beyond(
                fmt::format("backend {}: weight {} is above {}", id, backend.weight.value(), kMaxWeight));
        if (!seen.next_hops.contains(backend.next_hop))
            return wrong(
                fmt::format("backend {}: next hop {} is not in the plan", id, backend.next_hop.value()));
    }
    return {};
}

[[nodiscard]] Result<void> check_pool_site(const PlanPool& pool, const PlanPoolSite& part, Seen& seen) {
    const unsigned id = pool.id.value();
    const unsigned site = part.site.value();
    if (!seen.sites.contains(part.site))
        return wrong(fmt::format("pool {}: site {} is not in the plan", id, site));
    if (part.weight.value() > kMaxWeight)
        return beyond(fmt::format("pool {}, site {}: weight {} is above {}", id, site, part.weight.value(),
                                  kMaxWeight));
    if (part.tier.value() > kMaxTier)
        return wrong(
            fmt::format("pool {}, site {}: tier {} is above {}", id, site, part.tier.value(), kMaxTier));
    if (part.backends.size() > pool.max_backends)
        return beyond(fmt::format("pool {}, site {}: {} backends, but max_backends is {}", id, site,
                                  part.backends.size(), pool.max_backends));
    return check_backends(part, seen);
}

/// No id names two backends, and a connection id tells the server id's length by its configuration alone.
[[nodiscard]] Result<void> check_server_ids(const PlanPool& pool) {
    std::set<QuicServerId> seen;
    std::array<std::size_t, kQuicConfigurations> lengths{};
    for (const PlanPoolSite& part : pool.sites) {
        for (const PlanBackend& backend : part.backends) {
            for (const QuicServerId& id : backend.server_ids) {
                const auto where =
                    fmt::format("pool {}: server id {}", unsigned{pool.id.value()}, id.to_string());
                if (pool.hash != HashKey::kQuicCid) return wrong(where + ", but its hash is not quic-cid");
                if (!seen.insert(id).second) return wrong(where + " is there twice");
                std::size_t& length = lengths.at(id.rotation());
                if (length != 0 && length != id.size())
                    return wrong(fmt::format("{} has {} bytes, another of its configuration {}", where,
                                             id.size(), length));
                length = id.size();
            }
        }
    }
    return {};
}

[[nodiscard]] Result<void> check_pool(const PlanPool& pool, Seen& seen) {
    const unsigned id = pool.id.value();
    if (id >= kMaxPools) return beyond(fmt::format("pool id {} is above {}", id, kMaxPools - 1));
    if (!seen.pools.insert(pool.id).second) return wrong(fmt::format("pool id {} is there twice", id));
    if (pool.encap > Encap::kGre)
        return wrong(fmt::format("pool {}: encap {} is not known", id, static_cast<unsigned>(pool.encap)));
    if (pool.hash > HashKey::kQuicCid)
        return wrong(fmt::format("pool {}: hash {} is not known", id, static_cast<unsigned>(pool.hash)));
    if (pool.stranded > Stranded::kKeep)
        return wrong(
            fmt::format("pool {}: stranded {} is not known", id, static_cast<unsigned>(pool.stranded)));
    if (pool.on_empty > Refusal::kReset)
        return wrong(
            fmt::format("pool {}: on_empty {} is not known", id, static_cast<unsigned>(pool.on_empty)));
    if (pool.max_backends < 1 || pool.max_backends > kMaxBackendsPerSite)
        return beyond(fmt::format("pool {}: max_backends {} is not within 1 … {}", id, pool.max_backends,
                                  kMaxBackendsPerSite));
    if (auto vips = check_vips(pool, seen); !vips) return vips;
    std::unordered_set<SiteId> sites;
    for (const PlanPoolSite& part : pool.sites) {
        if (!sites.insert(part.site).second)
            return wrong(fmt::format("pool {}: site {} is there twice", id, part.site.value()));
        if (auto site = check_pool_site(pool, part, seen); !site) return site;
    }
    return check_server_ids(pool);
}

}  // namespace

Result<void> check(const ForwardingPlan& plan) {
    if (plan.pools.empty()) return fail(ErrorCode::kRefused, "checking the plan", "it has no pool");
    if (plan.generation == Generation{0}) return wrong("generation 0 means \"no plan\"");
    if (plan.pools.size() > kMaxPools)
        return beyond(fmt::format("{} pools, at most {}", plan.pools.size(), kMaxPools));
    if (plan.source_v4 && (plan.source_v4->is_v6() || unspecified(*plan.source_v4)))
        return wrong(
            fmt::format("source_v4 {} is no IPv4 address to send from", plan.source_v4->to_string()));
    if (plan.source_v6 && (!plan.source_v6->is_v6() || unspecified(*plan.source_v6)))
        return wrong(
            fmt::format("source_v6 {} is no IPv6 address to send from", plan.source_v6->to_string()));
    Seen seen;
    if (auto sites = check_sites(plan, seen); !sites) return sites;
    if (auto hops = check_next_hops(plan, seen); !hops) return hops;
    for (const PlanPool& pool : plan.pools)
        if (auto checked = check_pool(pool, seen); !checked) return checked;
    return {};
}

}  // namespace detour::api
