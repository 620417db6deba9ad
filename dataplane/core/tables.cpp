#include "dataplane/core/tables.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <new>

#include "dataplane/core/encap_header.h"

namespace detour::core {
namespace {

constexpr std::size_t kEthernetBytes = 14;
constexpr std::size_t kUdpBytes = 8;
constexpr std::size_t kGreBytes = 4;
constexpr std::uint8_t kTtl = 64;
constexpr std::uint8_t kUdp = 17;
constexpr std::uint8_t kGre = 47;

using SitesContent = std::vector<std::array<std::uint64_t, 2>>;

/// A key for "the same sites, weights and tiers", whatever the order.
[[nodiscard]] SitesContent content_of(std::span<const RankedSite> sites) {
    SitesContent content;
    content.reserve(sites.size());
    for (const RankedSite& site : sites)
        content.push_back({site.key_hash, static_cast<std::uint64_t>(site.weight) << 16U |
                                              static_cast<std::uint64_t>(site.tier) << 8U | site.site});
    std::sort(content.begin(), content.end());
    return content;
}

[[nodiscard]] std::uint16_t folded_sum(std::span<const std::uint8_t> bytes) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i + 1 < bytes.size(); i += 2)
        sum += static_cast<std::uint32_t>(bytes[i] << 8U) + bytes[i + 1];
    while (sum > 0xffff) sum = (sum & 0xffffU) + (sum >> 16U);
    return static_cast<std::uint16_t>(sum);
}

/// Writes one header after the other into an EncapHeader.
class HeaderWriter {
  public:
    explicit HeaderWriter(EncapHeader& header) : header_(header) {}
    void byte(std::uint8_t value) { header_.bytes[header_.length++] = value; }
    void word(std::uint16_t value) {
        byte(static_cast<std::uint8_t>(value >> 8U));
        byte(static_cast<std::uint8_t>(value));
    }
    void address(const api::IpAddress& value) { bytes({value.bytes().data(), value.size()}); }
    void mac(const api::Mac& value) { bytes(value.bytes); }
    void zeros(std::size_t count) { header_.length = static_cast<std::uint8_t>(header_.length + count); }

  private:
    void bytes(std::span<const std::uint8_t> values) {
        for (const std::uint8_t value : values) byte(value);
    }
    EncapHeader& header_;
};

[[nodiscard]] VipAddress vip_address(const api::Vip& vip, std::uint16_t pool) {
    VipAddress out;
    std::memcpy(out.address.data(), vip.address.bytes().data(), out.address.size());
    out.port = __builtin_bswap16(vip.port.value());
    out.pool = pool;
    out.protocol = static_cast<std::uint8_t>(vip.protocol);
    out.v6 = vip.address.is_v6() ? 1 : 0;
    return out;
}

/// The outer header's protocol or next header; 0 for IPIP, where each packet's own family decides.
[[nodiscard]] std::uint8_t next_header(api::Encap encap) {
    if (encap == api::Encap::kGue) return kUdp;
    return encap == api::Encap::kGre ? kGre : 0;
}

/// The length stays 0, and the checksum field gets the sum of the rest (tables.h).
void write_ipv4(EncapHeader& header, api::Encap encap, const api::IpAddress& source,
                const api::IpAddress& backend) {
    HeaderWriter out(header);
    const std::size_t start = header.length;
    out.word(0x4500);
    out.word(0);       // total length
    out.word(0);       // identification
    out.word(0x4000);  // don't fragment
    out.byte(kTtl);
    out.byte(next_header(encap));
    out.word(0);  // checksum
    out.address(source);
    out.address(backend);
    const std::uint16_t sum = folded_sum(std::span(header.bytes).subspan(start, header.length - start));
    header.bytes[start + 10] = static_cast<std::uint8_t>(sum >> 8U);
    header.bytes[start + 11] = static_cast<std::uint8_t>(sum);
}

void write_ipv6(EncapHeader& header, api::Encap encap, const api::IpAddress& source,
                const api::IpAddress& backend) {
    HeaderWriter out(header);
    out.word(0x6000);
    out.word(0);  // flow label
    out.word(0);  // payload length
    out.byte(next_header(encap));
    out.byte(kTtl);
    out.address(source);
    out.address(backend);
}

}  // namespace

EncapHeader make_encap_header(api::Encap encap, const api::IpAddress& source, const api::PlanBackend& backend,
                              const api::PlanNextHop& hop) {
    EncapHeader header;
    HeaderWriter out(header);
    out.mac(hop.destination);
    out.mac(hop.source);
    if (backend.address.is_v6()) {
        out.word(0x86dd);
        write_ipv6(header, encap, source, backend.address);
    } else {
        out.word(0x0800);
        write_ipv4(header, encap, source, backend.address);
    }
    if (encap == api::Encap::kGue) {
        out.word(0);  // source port
        out.word(api::kGuePort);
        out.zeros(kUdpBytes - 4);
    } else if (encap == api::Encap::kGre) {
        out.zeros(kGreBytes);
    }
    header.port = static_cast<std::uint8_t>(hop.port.value());
    return header;
}

std::uint16_t max_inner_of(const EncapHeader& header, std::uint32_t mtu) {
    return static_cast<std::uint16_t>(mtu - (header.length - kEthernetBytes));
}

namespace {

class TablesBuilder {
  public:
    TablesBuilder(const api::ForwardingPlan& plan, const ForwardingTables* previous)
        : plan_(plan), tables_(std::make_unique<ForwardingTables>()) {
        tables_->generation = plan.generation;
        tables_->seed = make_hash_seed(plan.seed);
        tables_->resets_per_second = plan.resets_per_second;
        tables_->icmp_per_second = plan.icmp_per_second;
        if (previous != nullptr && previous->seed.table == tables_->seed.table) adopt(*previous);
    }

    [[nodiscard]] std::unique_ptr<const ForwardingTables> run() {
        for (const api::PlanSite& site : plan_.sites)
            tables_->site_keys[site.id.value()] = hash_text(tables_->seed.table, site.key);
        hops_.assign(api::kMaxNextHops, nullptr);
        for (const api::PlanNextHop& hop : plan_.next_hops) hops_[hop.id.value()] = &hop;
        size_arrays();
        tables_->pools.reserve(plan_.pools.size());
        for (const api::PlanPool& pool : plan_.pools) add_pool(pool);
        add_server_ids();
        link();
        return std::move(tables_);
    }

  private:
    void adopt(const ForwardingTables& previous) {
        previous_pools_.assign(api::kMaxPools, nullptr);
        for (const PoolEntry& pool : previous.pools) {
            previous_pools_[pool.id.value()] = &pool;
            site_tables_.emplace(content_of(pool.sites->built_from()), pool.sites);
        }
    }

    /// Short ways for the fast path, once nothing moves any more.
    void link() {
        std::size_t sites = 0;
        for (const api::PlanSite& site : plan_.sites)
            sites = std::max(sites, std::size_t{site.id.value()} + 1);
        tables_->refs.resize(tables_->pools.size() * sites);
        PoolSiteRef* refs = tables_->refs.data();
        for (PoolEntry& pool : tables_->pools) {
            pool.slots = pool.sites->slots();
            pool.refs = refs;
            for (const PoolSiteEntry& entry : pool.per_site)
                refs[entry.site] = {entry.backends->entries(), entry.backends->size()};
            refs += sites;
        }
    }

    void size_arrays() {
        std::size_t vips = 0;
        std::size_t ids = 0;
        std::size_t backends = 0;
        for (const api::PlanPool& pool : plan_.pools) {
            vips += pool.vips.size();
            for (const api::PlanVip& vip : pool.vips) ids = std::max(ids, std::size_t{vip.id.value()} + 1);
            for (const api::PlanPoolSite& site : pool.sites)
                for (const api::PlanBackend& backend : site.backends)
                    backends = std::max(backends, std::size_t{backend.id.value()} + 1);
        }
        tables_->vips = VipMap(vips);
        tables_->vip_addresses.resize(ids);
        tables_->headers.resize(backends);
        tables_->backends.resize(backends);
    }

    /// The priorities in use, in order, are spread over the 16 levels.
    [[nodiscard]] std::uint8_t level_of(std::uint32_t priority) {
        if (priorities_.empty()) {
            for (const api::PlanPool& pool : plan_.pools) priorities_.push_back(pool.priority);
            std::sort(priorities_.begin(), priorities_.end());
            priorities_.erase(std::unique(priorities_.begin(), priorities_.end()), priorities_.end());
        }
        const auto found = std::lower_bound(priorities_.begin(), priorities_.end(), priority);
        const auto rank = static_cast<std::size_t>(found - priorities_.begin());
        return static_cast<std::uint8_t>(rank * 16 / priorities_.size());
    }

    void add_pool(const api::PlanPool& pool) {
        const auto index = static_cast<std::uint16_t>(tables_->pools.size());
        for (const api::PlanVip& entry : pool.vips) {
            tables_->vips.insert(
                entry.vip,
                {.pool = index, .pool_id = pool.id.value(), .vip = entry.id.value(), .hash = pool.hash});
            tables_->vip_present.set(entry.id.value());
            tables_->vip_addresses[entry.id.value()] = vip_address(entry.vip, index);
        }
        PoolEntry& entry = tables_->pools.emplace_back();
        entry.id = pool.id;
        entry.hash = pool.hash;
        entry.stranded = pool.stranded;
        entry.on_empty = pool.on_empty;
        entry.shed_level = level_of(pool.priority);
        entry.site_index.fill(kNoSiteId);
        std::vector<RankedSite> ranked;
        for (const api::PlanPoolSite& site : pool.sites) {
            for (const api::PlanBackend& backend : site.backends)
                add_backend(pool, site.site, backend, index);
            add_site(pool, site, entry, ranked);
        }
        entry.sites = site_table(ranked);
    }

    /// After the pools. Also of backends with weight 0: their connections are not new.
    void add_server_ids() {
        for (std::size_t i = 0; i < plan_.pools.size(); ++i) {
            const api::PlanPool& pool = plan_.pools[i];
            std::size_t count = 0;
            for (const api::PlanPoolSite& site : pool.sites)
                for (const api::PlanBackend& backend : site.backends) count += backend.server_ids.size();
            if (count == 0) continue;
            tables_->quic.resize(plan_.pools.size());
            QuicServers& servers = tables_->quic[i] = QuicServers(count);
            for (const api::PlanPoolSite& site : pool.sites)
                for (const api::PlanBackend& backend : site.backends)
                    for (const api::QuicServerId& id : backend.server_ids)
                        servers.insert(id, backend.id.value());
        }
    }

    /// A site without a backend that may take flows is not ranked: its slots would lead nowhere.
    void add_site(const api::PlanPool& pool, const api::PlanPoolSite& site, PoolEntry& entry,
                  std::vector<RankedSite>& ranked) {
        std::shared_ptr<const MaglevTable> backends = maglev_table(pool, site);
        if (backends->empty()) return;
        const std::uint8_t id = site.site.value();
        entry.site_index[id] = static_cast<std::uint8_t>(entry.per_site.size());
        entry.per_site.push_back({id, std::move(backends)});
        if (site.weight.value() == 0) return;
        ranked.push_back({tables_->site_keys[id], id, site.weight.value(), site.tier.value()});
    }

    void add_backend(const api::PlanPool& pool, api::SiteId site, const api::PlanBackend& backend,
                     std::uint16_t pool_index) {
        const api::PlanNextHop& hop = *hops_[backend.next_hop.value()];
        const bool v6 = backend.address.is_v6();
        const auto& source = v6 ? plan_.source_v6 : plan_.source_v4;
        EncapHeader& header = tables_->headers[backend.id.value()];
        header = make_encap_header(
            pool.encap, source.value_or(v6 ? api::IpAddress::v6({}) : api::IpAddress::v4({})), backend, hop);
        BackendEntry& entry = tables_->backends[backend.id.value()];
        entry.site = site.value();
        entry.flags = static_cast<std::uint8_t>(kBackendPresent | (hop.resolved ? kBackendResolved : 0) |
                                                (source ? kBackendHasSource : 0));
        entry.pool = pool_index;
        entry.max_inner = hop.resolved && source ? max_inner_of(header, hop.mtu) : 0;
        if (hop.vlan != 0) tables_->vlans.resize(tables_->backends.size());
        if (hop.vlan != 0) tables_->vlans[backend.id.value()] = hop.vlan;
        entry.encap = pool.encap;
        entry.outer = v6 ? OuterFamily::kV6 : OuterFamily::kV4;
    }

    [[nodiscard]] std::shared_ptr<const SiteTable> site_table(std::span<const RankedSite> ranked) {
        auto& table = site_tables_[content_of(ranked)];
        if (table == nullptr) {
            table = SiteTable::build(ranked, tables_->seed.table);
            ++tables_->built.site_tables;
        }
        return table;
    }

    [[nodiscard]] std::shared_ptr<const MaglevTable> maglev_table(const api::PlanPool& pool,
                                                                  const api::PlanPoolSite& site) {
        members_.clear();
        for (const api::PlanBackend& backend : site.backends)
            members_.push_back({address_hash(backend.address), backend.id.value(), backend.weight.value()});
        std::sort(members_.begin(), members_.end());
        if (auto table = previous_maglev(pool, site.site)) return table;
        auto table = MaglevTable::build(members_, pool.max_backends, tables_->seed.table);
        if (!table->empty()) ++tables_->built.maglev_tables;
        return table;
    }

    /// The table that this pool had in this site, when it was made from the same members and size.
    [[nodiscard]] std::shared_ptr<const MaglevTable> previous_maglev(const api::PlanPool& pool,
                                                                     api::SiteId site) const {
        if (previous_pools_.empty()) return nullptr;
        const PoolEntry* old = previous_pools_[pool.id.value()];
        if (old == nullptr || old->site_index[site.value()] == kNoSiteId) return nullptr;
        const auto& table = old->per_site[old->site_index[site.value()]].backends;
        return table->made_for(members_, pool.max_backends) ? table : nullptr;
    }

    [[nodiscard]] std::uint64_t address_hash(const api::IpAddress& address) const {
        return hash_text(tables_->seed.table,
                         {reinterpret_cast<const char*>(address.bytes().data()), address.size()});
    }

    const api::ForwardingPlan& plan_;
    std::unique_ptr<ForwardingTables> tables_;
    std::vector<const PoolEntry*> previous_pools_;  ///< by PoolId
    std::vector<const api::PlanNextHop*> hops_;     ///< by NextHopId
    std::map<SitesContent, std::shared_ptr<const SiteTable>> site_tables_;
    std::vector<MaglevMember> members_;
    std::vector<std::uint32_t> priorities_;  ///< in use, sorted
};

}  // namespace

api::Result<std::unique_ptr<const ForwardingTables>> build_tables(const api::ForwardingPlan& plan,
                                                                  const ForwardingTables* previous) {
    try {
        return TablesBuilder(plan, previous).run();
    } catch (const std::bad_alloc&) {
        return api::fail(api::ErrorCode::kLimit, "building the forwarding tables",
                         "there is not enough memory");
    }
}

}  // namespace detour::core
