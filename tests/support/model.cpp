#include "tests/support/model.h"

#include <algorithm>
#include <cstring>

namespace detour::model {
namespace {

/// The addresses' and ports' bytes as they lie in a packet, read as the machine's integers.
[[nodiscard]] std::uint32_t word(const api::IpAddress& address) {
    std::uint32_t value = 0;
    std::memcpy(&value, address.bytes().data(), sizeof(value));
    return value;
}

[[nodiscard]] std::uint32_t ports_word(api::Port source, api::Port destination) {
    const std::uint8_t bytes[4] = {static_cast<std::uint8_t>(source.value() / 256),
                                   static_cast<std::uint8_t>(source.value() % 256),
                                   static_cast<std::uint8_t>(destination.value() / 256),
                                   static_cast<std::uint8_t>(destination.value() % 256)};
    std::uint32_t value = 0;
    std::memcpy(&value, bytes, sizeof(value));
    return value;
}

/// What counts for this site in this pool: the smaller of the host's threshold and the pool's.
[[nodiscard]] std::uint16_t admit_of(const Switches& switches, api::PoolId pool, api::SiteId site,
                                     Admission admission) {
    std::uint16_t admit = 65535;
    const auto smaller = [&](const core::SwitchValue& value) {
        admit = std::min(admit, (admission == Admission::kNew ? value.admit : value.admit_mid).value());
    };
    if (const auto found = switches.sites.find(site); found != switches.sites.end()) smaller(found->second);
    if (const auto found = switches.pools.find({pool, site}); found != switches.pools.end())
        smaller(found->second);
    return admit;
}

/// The backend of the hash's own place; else of one of 8 other places; else the first member that is up, in
/// the order of keys and starting where the hash points.
[[nodiscard]] std::optional<api::BackendId> backend_for(const core::MaglevTable& table, std::uint64_t hash,
                                                        const Switches& switches) {
    std::vector<std::uint16_t> in_turn{table.at(table.index_of(hash))};
    for (std::uint64_t k = 1; k <= 8; ++k) in_turn.push_back(table.at(table.index_of(core::mix64(hash + k))));
    std::vector<core::MaglevMember> members(table.built_from().begin(), table.built_from().end());
    const std::size_t start = (hash >> 32U) * members.size() / (1ULL << 32U);
    std::rotate(members.begin(), members.begin() + static_cast<std::ptrdiff_t>(start), members.end());
    for (const core::MaglevMember& member : members)
        if (member.weight > 0) in_turn.push_back(member.backend);
    for (const std::uint16_t backend : in_turn)
        if (Model::is_up(api::BackendId{backend}, switches)) return api::BackendId{backend};
    return std::nullopt;
}

}  // namespace

Model::Model(api::ForwardingPlan plan) : plan_(std::move(plan)), seed_(core::make_hash_seed(plan_.seed)) {
    for (const api::PlanPool& pool : plan_.pools) add_pool(pool);
}

void Model::add_pool(const api::PlanPool& pool) {
    Pool made{pool.id, pool.hash, {}, nullptr};
    std::vector<core::RankedSite> ranked;
    for (const api::PlanPoolSite& part : pool.sites) {
        std::vector<core::MaglevMember> members;
        for (const api::PlanBackend& backend : part.backends)
            members.push_back({core::hash_text(seed_.table, backend.address.wire()), backend.id.value(),
                               backend.weight.value()});
        const auto site = std::find_if(plan_.sites.begin(), plan_.sites.end(),
                                       [&](const api::PlanSite& s) { return s.id == part.site; });
        auto table = core::MaglevTable::build(members, pool.max_backends, seed_.table);
        if (table->empty()) continue;  // nobody there to serve: the site gets no slots
        made.sites[part.site.value()] = {site->key, table};
        ranked.push_back({core::hash_text(seed_.table, site->key), part.site.value(), part.weight.value(),
                          part.tier.value()});
    }
    made.table = core::SiteTable::build(ranked, seed_.table);
    for (const api::PlanVip& vip : pool.vips) vips_[vip.vip] = pools_.size();
    pools_.push_back(std::move(made));
}

std::uint64_t Model::hash_of(const Flow& flow, api::HashKey key) const {
    const bool whole = key != api::HashKey::kSource;
    const api::IpAddress destination = whole ? flow.vip.address : api::IpAddress{};
    const std::uint32_t ports = whole ? ports_word(flow.client_port, flow.vip.port) : 0;
    const auto protocol = static_cast<std::uint8_t>(whole ? static_cast<unsigned>(flow.vip.protocol) : 0U);
    if (flow.client.is_v6())
        return core::hash_v6(seed_, flow.client.bytes().data(), destination.bytes().data(), ports, protocol);
    return core::hash_v4(seed_, word(flow.client), word(destination), ports, protocol);
}

std::optional<Choice> Model::choose(const Flow& flow, const Switches& switches, Admission admission) const {
    const auto vip = vips_.find(flow.vip);
    if (vip == vips_.end()) return std::nullopt;
    const Pool& pool = pools_[vip->second];
    return choose(pool, hash_of(flow, pool.hash), switches, admission);
}

bool Model::is_up(api::BackendId backend, const Switches& switches) {
    const auto found = switches.backends.find(backend);
    return found == switches.backends.end() || found->second.up;
}

bool Model::admits(const Flow& flow, api::SiteId id, const Switches& switches) const {
    const Pool& pool = pools_[vips_.at(flow.vip)];
    const auto site = std::find_if(plan_.sites.begin(), plan_.sites.end(),
                                   [&](const api::PlanSite& s) { return s.id == id; });
    const std::uint64_t site_key = core::hash_text(seed_.table, site->key);
    return core::fraction(hash_of(flow, pool.hash), site_key) <
           admit_of(switches, pool.id, id, Admission::kNew);
}

std::optional<Choice> Model::named(const api::Vip& vip, const std::vector<std::uint8_t>& datagram,
                                   const Switches& switches) const {
    const std::string text(datagram.begin(), datagram.end());
    std::string cid;
    if (text.empty()) return std::nullopt;
    if (datagram[0] < 0x80) {
        cid = text.substr(1);
    } else {
        const std::string version = text.substr(1, 4);
        const bool handshake = (version == std::string("\0\0\0\1", 4) && (datagram[0] & 0x30) == 0x20) ||
                               (version == "\x6b\x33\x43\xcf" && (datagram[0] & 0x30) == 0x30);
        if (!handshake || text.size() < 6 || datagram[5] > 20 || text.size() < 6U + datagram[5])
            return std::nullopt;
        cid = text.substr(6, datagram[5]);
    }
    if (cid.empty()) return std::nullopt;
    const auto rotation = static_cast<unsigned>(static_cast<unsigned char>(cid[0])) / 32;
    const auto kept = [](const auto& map, const auto& key) {
        const auto found = map.find(key);
        return found == map.end() || found->second.keep;
    };
    const api::PlanPool& pool = plan_.pools[vips_.at(vip)];
    for (const api::PlanPoolSite& part : pool.sites) {
        for (const api::PlanBackend& backend : part.backends) {
            for (const api::QuicServerId& id : backend.server_ids) {
                const bool here = id.rotation() == rotation && cid.size() >= 1 + id.size() + 4 &&
                                  cid.compare(1, id.size(), id.wire()) == 0;
                if (!here) continue;
                const bool keeps = kept(switches.sites, part.site) && kept(switches.backends, backend.id) &&
                                   kept(switches.pools, std::pair{pool.id, part.site});
                if (!keeps) return std::nullopt;
                return Choice{part.site, backend.id};
            }
        }
    }
    return std::nullopt;
}

Choice Model::choose(const Pool& pool, std::uint64_t hash, const Switches& switches,
                     Admission admission) const {
    struct Candidate {
        Choice choice;
        std::uint16_t admit;
        bool takes;
    };
    std::vector<Candidate> candidates;
    const std::uint64_t ranks = pool.table->ranks(static_cast<std::uint32_t>(hash % 4096));
    for (unsigned rank = 0; rank < 8; ++rank) {
        const auto id = static_cast<std::uint8_t>(ranks >> (8 * rank) & 255U);
        if (id == 255) continue;
        const Site& site = pool.sites.at(id);
        const std::uint16_t admit = admit_of(switches, pool.id, api::SiteId{id}, admission);
        if (admit == 0) continue;
        const bool takes = core::fraction(hash, core::hash_text(seed_.table, site.key)) < admit;
        candidates.push_back({{api::SiteId{id}, backend_for(*site.backends, hash, switches)}, admit, takes});
    }
    if (candidates.empty()) return {};
    const Choice first = candidates.front().choice;
    std::erase_if(candidates, [](const Candidate& c) { return !c.choice.backend; });
    if (candidates.empty()) return {first.site, std::nullopt};
    for (const Candidate& candidate : candidates)
        if (candidate.takes) return candidate.choice;
    return std::max_element(candidates.begin(), candidates.end(),
                            [](const Candidate& a, const Candidate& b) { return a.admit < b.admit; })
        ->choice;
}

std::optional<Choice> choose(const api::ForwardingPlan& plan, const Flow& flow, const Switches& switches,
                             Admission admission) {
    return Model(plan).choose(flow, switches, admission);
}

}  // namespace detour::model
