// Stable ids: what the fast path's switches and flow entries are written in.
//
// A site is known by its key, a pool by any of its VIPs (renaming a pool moves nothing), a VIP by address,
// port and protocol, a backend by (pool, address). An id that is no longer used is retired with the
// generation from which it is absent, and given out again only when every worker has said that no flow entry
// names anything absent from that generation; never-used ids go first. So a new backend never inherits a
// removed one's pinned flows. Pure, not thread safe; values can be copied.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "config/model.h"
#include "dataplane/api/plan.h"
#include "dataplane/api/result.h"

namespace detour::plan {

/// One kind of id: names in use, names retired.
template <class Id, class Key>
struct IdSpace {
    std::map<Key, Id> used;
    std::map<Id, api::Generation> retired;  ///< absent from this generation on
    std::uint32_t next = 0;                 ///< the lowest id that was never given out
    bool operator==(const IdSpace&) const = default;
};

using BackendKey = std::pair<api::PoolId, api::IpAddress>;

class Ids {
  public:
    /// Takes the ids of a plan that a fast path runs on. Names already known keep the id known here, unless
    /// the fast path uses that id for something else, which then wins: its flow entries are written in it.
    void adopt(const api::ForwardingPlan& plan);

    /// Gives every name in `config` an id and retires what `config` no longer names.
    /// `absent_from`: the generation of the plan that will be made with the result.
    /// `scanned`: the lowest that any worker has reported; 0 when unknown.
    /// Error kLimit when a kind has no id left that may be used (the message says which, and what to wait
    /// for).
    [[nodiscard]] api::Result<void> assign(const config::Config& config, api::Generation absent_from,
                                           api::Generation scanned);

    /// The id; the name must have been in the Config last assigned.
    [[nodiscard]] api::SiteId site(const std::string& key) const { return sites.used.at(key); }
    [[nodiscard]] api::PoolId pool(const config::Pool& pool) const { return pools.at(pool.name); }
    [[nodiscard]] api::VipId vip(const api::Vip& name) const { return vips.used.at(name); }
    [[nodiscard]] api::BackendId backend(api::PoolId pool, const api::IpAddress& address) const {
        return backends.used.at({pool, address});
    }

    bool operator==(const Ids&) const = default;

    IdSpace<api::SiteId, std::string> sites;
    IdSpace<api::VipId, api::Vip> vips;
    IdSpace<api::BackendId, BackendKey> backends;
    /// The pool that each VIP, used or not, was last part of: a pool's identity.
    std::map<api::Vip, api::PoolId> pool_of_vip;
    IdSpace<api::PoolId, api::PoolId> pool_ids;  ///< key and id are the same
    std::map<std::string, api::PoolId> pools;    ///< by name, of the Config last assigned
};

}  // namespace detour::plan
