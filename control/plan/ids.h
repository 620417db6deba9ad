// Stable ids: what the fast path's switches and flow entries are written in.
//
// A site is known by its key, a pool by any of its VIPs (renaming a pool moves nothing), a VIP by address,
// port and protocol, a backend by (pool, address). An id that is no longer used is retired with the
// generation from which it is absent, and given to another name only when every worker has said that no flow
// entry names anything absent from that generation; never-used ids go first. So a new backend never inherits
// a removed one's pinned flows. A name that comes back before its id was given away gets it again: the flows
// pinned to it are its own. Pure, not thread safe; values can be copied.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "config/model.h"
#include "dataplane/api/plan.h"
#include "dataplane/api/result.h"

namespace detour::plan {

/// One kind of id.
template <class Id, class Key>
struct IdSpace {
    struct Retired {
        Key key;
        api::Generation absent_from;
        bool operator==(const Retired&) const = default;
    };
    std::map<Key, Id> used;
    std::map<Id, Retired> retired;
    std::uint32_t next = 0;  ///< the lowest id that was never given out
    bool operator==(const IdSpace&) const = default;
};

/// A pool has no name of its own that lasts: its id is its name.
struct PoolKey {
    api::PoolId id;
    auto operator<=>(const PoolKey&) const = default;
};
using BackendKey = std::pair<api::PoolId, api::IpAddress>;

class Ids {
  public:
    /// Takes the ids of the plan that a fast path runs on. Where they differ from those known here the fast
    /// path wins, since its flow entries are written in them; the names displaced get new ids from assign().
    void adopt(const api::ForwardingPlan& plan);

    /// Gives every name in `config` an id and retires what `config` no longer names.
    /// `absent_from`: the generation of the plan that will be made with the result.
    /// `scanned`: the lowest that any worker has reported; 0 when unknown.
    /// Error kLimit when a kind has no id left that may be used (the text says which); the ids are then
    /// undefined: work on a copy.
    [[nodiscard]] api::Result<void> assign(const config::Config& config, api::Generation absent_from,
                                           api::Generation scanned);

    /// The ids of names in the Config last assigned.
    [[nodiscard]] api::SiteId site(const std::string& key) const { return sites.used.at(key); }
    [[nodiscard]] api::PoolId pool(const std::string& name) const { return pool_names.at(name); }
    [[nodiscard]] api::VipId vip(const api::Vip& name) const { return vips.used.at(name); }
    [[nodiscard]] api::BackendId backend(api::PoolId pool, const api::IpAddress& address) const {
        return backends.used.at({pool, address});
    }

    bool operator==(const Ids&) const = default;

    IdSpace<api::SiteId, std::string> sites;
    IdSpace<api::VipId, api::Vip> vips;
    IdSpace<api::PoolId, PoolKey> pools;
    IdSpace<api::BackendId, BackendKey> backends;
    std::map<api::Vip, api::PoolId> pool_of_vip;    ///< the pool that each VIP was last part of
    std::map<std::string, api::PoolId> pool_names;  ///< of the Config last assigned
};

}  // namespace detour::plan
