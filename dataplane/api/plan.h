// The forwarding plan: what the control process decided, as the fast path takes it.
//
// A plan carries sites, weights, backends and next hops. It carries no `admit` and no `keep`: those live
// outside it, by stable id, and are set by set-site and set-backend (DESIGN: a slow plan can't re-admit a
// dark site). Order inside the vectors has no meaning: no choice depends on it. Plain data, no threading.
// dataplane/api/wire.h turns it into bytes and back and checks every bound.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/api/types.h"

namespace detour::api {

struct PlanSite {
    SiteId id;
    std::string name;  ///< for people
    /// What the hash uses: the site's `key`, by default its name. Same key, same choices on every host.
    std::string key;
    /// The last set-site that the planner knew. A plan whose number is below the fast path's is thrown away.
    Sequence verdict;
    auto operator<=>(const PlanSite&) const = default;
};

/// Where frames to a tunnel's end leave the host.
struct PlanNextHop {
    NextHopId id;
    EgressPort port;
    Mac source;
    Mac destination;
    std::uint32_t mtu = 1500;  ///< of the link, IP bytes, 1280 … 9978
    bool resolved = false;     ///< false: the neighbour is not known, packets are counted and dropped
    std::uint16_t vlan = 0;    ///< tag that frames leave with, 1 … 4094; 0: none
    auto operator<=>(const PlanNextHop&) const = default;
};

struct PlanBackend {
    BackendId id;
    IpAddress address;  ///< the tunnel's far end
    Weight weight;
    NextHopId next_hop;
    /// HashKey::kQuicCid: what names it in connection ids. In a pool all ids of one configuration have one
    /// length, and none is there twice.
    std::vector<QuicServerId> server_ids{};
    auto operator<=>(const PlanBackend&) const = default;
};

/// A pool's part in one site.
struct PlanPoolSite {
    SiteId site;
    Weight weight;  ///< share of new flows among the sites of its tier
    Tier tier;
    std::vector<PlanBackend> backends;
    auto operator<=>(const PlanPoolSite&) const = default;
};

struct PlanVip {
    VipId id;
    Vip vip;
    auto operator<=>(const PlanVip&) const = default;
};

struct PlanPool {
    PoolId id;
    std::string name;
    std::vector<PlanVip> vips;
    Encap encap = Encap::kGue;
    HashKey hash = HashKey::kFiveTuple;
    Stranded stranded = Stranded::kReset;
    std::uint32_t max_backends = 64;    ///< per site; sizes the Maglev tables, never today's count
    std::uint32_t priority = 100;       ///< 1 is shed last
    Refusal on_empty = Refusal::kDrop;  ///< of a new flow that no site and no backend takes
    std::vector<PlanPoolSite> sites;
    auto operator<=>(const PlanPool&) const = default;
};

struct ForwardingPlan {
    Generation generation;
    FleetSeed seed;
    std::optional<IpAddress> source_v4;  ///< outer source of IPv4 tunnels
    std::optional<IpAddress> source_v6;
    std::uint32_t resets_per_second = 2000;  ///< RST budget of the host, shared by its workers
    std::uint32_t icmp_per_second = 1000;    ///< ICMP error budget of the host
    std::vector<PlanSite> sites;
    std::vector<PlanNextHop> next_hops;
    std::vector<PlanPool> pools;
    auto operator<=>(const ForwardingPlan&) const = default;
};

/// The switch: what set-site writes, outside any plan. One 64-bit store in the fast path (core/host_state.h).
struct SiteSwitch {
    SiteId site;
    std::optional<PoolId> pool;   ///< absent: the whole site on this host; present: this pool in this site
    Sequence sequence;            ///< must be above the last one for the same (site, pool), or it is refused
    Admit admit = kAdmitAll;      ///< new flows
    Admit admit_mid = kAdmitAll;  ///< mid-flow packets of flows that this worker does not know
    bool keep = true;             ///< false: pinned flows are stranded
    /// With keep false: flows are ended though their backends live, as at a drain's deadline. The backends
    /// are told too, and pools with stranded = keep are not spared.
    bool end_flows = false;
    auto operator<=>(const SiteSwitch&) const = default;
};

struct BackendSwitch {
    BackendId backend;
    Sequence sequence;
    bool up = true;          ///< takes new flows
    bool keep = true;        ///< keeps pinned flows
    bool end_flows = false;  ///< as SiteSwitch's
    auto operator<=>(const BackendSwitch&) const = default;
};

/// How many new flows a second this host lets through: of one pool to any site, or of all pools to one site.
/// Workers share it evenly. A site's tokens go to its pools in the order of their priority.
struct FlowLimit {
    std::optional<SiteId> site;  ///< exactly one of site and pool
    std::optional<PoolId> pool;
    Sequence sequence;                        ///< as a switch's
    std::optional<std::uint32_t> per_second;  ///< absent: no limit; 0: none gets through
    Refusal refusal = Refusal::kDrop;
    auto operator<=>(const FlowLimit&) const = default;
};

}  // namespace detour::api
