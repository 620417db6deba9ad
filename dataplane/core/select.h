// The two-level choice: a site by rank and `admit`, then a backend by its site's Maglev table.
//
// Pure functions of tables, switches and hash; the planner's predictions call the very same code. Any thread.
#pragma once

#include <cstdint>
#include <span>

#include "dataplane/core/host_state.h"
#include "dataplane/core/tables.h"

namespace detour::core {

struct Choice {
    std::uint8_t site = kNoSiteId;         ///< kNoSiteId: no site admits the flow
    std::uint16_t backend = kNoBackendId;  ///< kNoBackendId: an admitting site had no backend up
};

/// True while flows pinned to `backend` stay there: it is in the plan, and it and its site have `keep`.
[[nodiscard, gnu::always_inline]] inline bool keeps(const ForwardingTables& tables, const HostState& host,
                                                    api::PoolId pool, std::uint16_t backend) noexcept {
    if (!tables.has_backend(backend)) return false;
    if (!host.backend(api::BackendId{backend}).keep) return false;
    return host.keeps(pool, api::SiteId{tables.backends[backend].site});
}

/// The backend that the connection id of a QUIC packet names, or kNoBackendId when it names none that keeps
/// its flows. `pool` is an index. The id is to QUIC what a flow's entry is to others: proof that the
/// connection lives there. So `keep` decides; `admit`, which is for new flows, does not.
[[nodiscard]] inline std::uint16_t named_backend(const ForwardingTables& tables, const HostState& host,
                                                 std::uint16_t pool,
                                                 std::span<const std::uint8_t> cid) noexcept {
    if (tables.quic.empty() || tables.quic[pool].empty()) return kNoBackendId;
    const std::uint16_t backend = tables.quic[pool].find(cid);
    return keeps(tables, host, tables.pools[pool].id, backend) ? backend : kNoBackendId;
}

/// A backend of `table` that is up, or kNoBackendId. A dead one is passed over: up to 8 further places of the
/// table by rehashing, then the members in turn. Bounded by kMaxBackendsPerSite.
[[nodiscard]] inline std::uint16_t pick_backend(const MaglevTable& table, const HostState& host,
                                                std::uint64_t hash) noexcept {
    if (table.empty()) return kNoBackendId;
    std::uint16_t backend = table.at(table.index_of(hash));
    if (host.backend(api::BackendId{backend}).up) return backend;
    for (std::uint64_t k = 1; k <= 8; ++k) {
        backend = table.at(table.index_of(mix64(hash + k)));
        if (host.backend(api::BackendId{backend}).up) return backend;
    }
    const auto members = table.built_from();
    const std::size_t start = (hash >> 32U) * members.size() >> 32U;
    for (std::size_t i = 0; i < members.size(); ++i) {
        const MaglevMember& m = members[(start + i) % members.size()];
        if (m.weight > 0 && host.backend(api::BackendId{m.backend}).up) return m.backend;
    }
    return kNoBackendId;
}

/// The two steps that bring choose()'s lines into the cache while other packets are looked at. With a
/// thousand pools no cache holds their tables.
[[gnu::always_inline]] inline void prefetch_slot(const PoolEntry& pool, std::uint64_t hash) noexcept {
    __builtin_prefetch(&pool.slots[slot_of(hash)]);
}
/// Of the first ranked site, which takes the flow as a rule.
[[gnu::always_inline]] inline void prefetch_backend(const PoolEntry& pool, std::uint64_t hash) noexcept {
    const std::uint8_t site = SiteTable::site_at(pool.slots[slot_of(hash)], 0);
    if (site == SiteTable::kNone) return;
    const PoolSiteRef& ref = pool.refs[site];
    __builtin_prefetch(&ref.entries[MaglevTable::index_in(ref.size, hash)]);
}

/// choose(), rank by rank.
[[nodiscard]] inline Choice choose_by_rank(const ForwardingTables& tables, const PoolEntry& pool,
                                           const HostState& host, std::uint64_t hash,
                                           Admission admission) noexcept {
    const std::uint64_t ranks = pool.slots[slot_of(hash)];
    Choice fallback;
    std::uint16_t fallback_admit = 0;
    for (unsigned rank = 0; rank < api::kSiteRanks; ++rank) {
        const std::uint8_t site = SiteTable::site_at(ranks, rank);
        if (site == SiteTable::kNone) break;
        const SwitchValue value = host.effective(pool.id, api::SiteId{site});
        const std::uint16_t admit = (admission == Admission::kNew ? value.admit : value.admit_mid).value();
        if (admit == 0) continue;
        const bool takes = admit == api::kAdmitAll.value() || fraction(hash, tables.site_keys[site]) < admit;
        if (!takes && admit <= fallback_admit) continue;
        const PoolSiteRef& ref = pool.refs[site];
        std::uint16_t backend = ref.entries[MaglevTable::index_in(ref.size, hash)];
        if (!host.backend(api::BackendId{backend}).up) [[unlikely]]
            backend = pick_backend(*pool.per_site[pool.site_index[site]].backends, host, hash);
        if (backend == kNoBackendId) {
            if (fallback.site == kNoSiteId) fallback.site = site;
            continue;
        }
        if (takes) return {site, backend};
        fallback = {site, backend};
        fallback_admit = admit;
    }
    return fallback;
}

/// The first ranked site with fraction(hash, site) < admit takes the flow. When every admitting site is
/// partly admitted and none takes it, the one with the highest admit does. Sites without a backend that is up
/// are passed over.
[[nodiscard]] inline Choice choose(const ForwardingTables& tables, const PoolEntry& pool,
                                   const HostState& host, std::uint64_t hash, Admission admission) noexcept {
    // Most flows: the first site takes all, and the backend is up.
    const std::uint8_t site = SiteTable::site_at(pool.slots[slot_of(hash)], 0);
    if (site != SiteTable::kNone && host.admits_all(api::SiteId{site}, admission)) [[likely]] {
        const PoolSiteRef& ref = pool.refs[site];
        const std::uint16_t backend = ref.entries[MaglevTable::index_in(ref.size, hash)];
        if (host.backend(api::BackendId{backend}).up) [[likely]]
            return {site, backend};
    }
    return choose_by_rank(tables, pool, host, hash, admission);
}

}  // namespace detour::core
