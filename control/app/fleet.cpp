#include "control/app/fleet.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace detour::app {

namespace {

using failover::Phase;
using health::State;

std::uint64_t phase_of(const std::string& pool, const api::IpAddress& address) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char c : pool + " " + address.to_string()) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    }
    return hash ^ hash >> 29U;
}

/// Each once, in an order that does not depend on the file's.
std::vector<api::IpAddress> addresses_of(const std::vector<api::Vip>& vips) {
    std::vector<api::IpAddress> addresses;
    for (const api::Vip& vip : vips) addresses.push_back(vip.address);
    std::sort(addresses.begin(), addresses.end());
    addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
    return addresses;
}

std::uint32_t weight_in(const config::Pool& pool, const std::string& site) {
    const auto found = std::find_if(pool.site_weights.begin(), pool.site_weights.end(),
                                    [&](const config::PoolSite& value) { return value.site == site; });
    return found == pool.site_weights.end() ? 100U : found->weight;
}

/// What the fleet before knew, by names that last.
class Memory {
  public:
    explicit Memory(const Fleet& old) : old_(old) {
        for (Index i = 0; i < old.sites.size(); ++i) sites_.emplace(old.sites[i].key, i);
        for (Index i = 0; i < old.pools.size(); ++i) {
            for (const api::Vip& vip : old.pools[i].vips) pools_.emplace(vip, i);
        }
        for (Index i = 0; i < old.parts.size(); ++i) {
            parts_.emplace(std::pair{old.parts[i].pool, old.sites[old.parts[i].site].key}, i);
        }
        for (Index i = 0; i < old.targets.size(); ++i) {
            targets_.emplace(std::pair{old.targets[i].pool, old.targets[i].address}, i);
        }
    }
    [[nodiscard]] const SiteState* site(const std::string& key) const {
        const auto found = sites_.find(key);
        return found == sites_.end() ? nullptr : &old_.sites[found->second];
    }
    [[nodiscard]] Index pool(const std::vector<api::Vip>& vips) const {
        Index lowest = kGone;
        for (const api::Vip& vip : vips) {
            const auto found = pools_.find(vip);
            if (found != pools_.end()) lowest = std::min(lowest, found->second);
        }
        return lowest;
    }
    [[nodiscard]] const Part* part(Index pool, const std::string& site_key) const {
        const auto found = parts_.find({pool, site_key});
        return found == parts_.end() ? nullptr : &old_.parts[found->second];
    }
    [[nodiscard]] Index target(Index pool, const api::IpAddress& address) const {
        const auto found = targets_.find({pool, address});
        return found == targets_.end() ? kGone : found->second;
    }

  private:
    const Fleet& old_;
    std::unordered_map<std::string, Index> sites_;
    std::map<api::Vip, Index> pools_;
    std::map<std::pair<Index, std::string>, Index> parts_;
    std::map<std::pair<Index, api::IpAddress>, Index> targets_;
};

class Builder {
  public:
    Builder(const config::Config& config, const plan::Ids& ids, const Fleet& old)
        : config_(config), ids_(ids), old_(old), memory_(old) {}

    Fleet build() {
        fleet_.carried.assign(old_.targets.size(), kGone);
        for (const config::Site& site : config_.sites) add_site(site);
        for (const config::Pool& pool : config_.pools) add_pool(pool);
        join_dependencies();
        for (Part& part : fleet_.parts) count(fleet_, part);
        return std::move(fleet_);
    }

  private:
    void add_site(const config::Site& site) {
        const SiteState* before = memory_.site(site.key);
        SiteState state = before != nullptr ? *before : SiteState{};
        state.id = ids_.site(site.key);
        state.name = site.name;
        state.key = site.key;
        state.targets.clear();
        state.parts.clear();
        state.bfd = sessions(site, before);
        state.dirty = true;
        by_name_.emplace(site.name, static_cast<Index>(fleet_.sites.size()));
        fleet_.sites.push_back(std::move(state));
    }

    static std::vector<BfdSession> sessions(const config::Site& site, const SiteState* before) {
        std::vector<BfdSession> result;
        for (const config::BfdPeer& peer : site.bfd) {
            BfdSession session{peer, {}, {}, {}};
            for (const BfdSession& old : before != nullptr ? before->bfd : result) {
                if (old.peer == peer) session = old;
            }
            result.push_back(session);
        }
        return result;
    }

    void add_pool(const config::Pool& pool) {
        const auto index = static_cast<Index>(fleet_.pools.size());
        const Index before = memory_.pool(pool.vips);
        PoolState state;
        state.id = ids_.pool(pool.name);
        state.name = pool.name;
        state.vips = pool.vips;
        state.min_sites = pool.min_sites;
        state.encap = pool.encap;
        if (pool.health.via == config::Via::kTunnel) state.tunnel_vips = addresses_of(pool.vips);
        state.rehash = pool.stranded == api::Stranded::kRehash;
        state.priority = pool.priority;
        state.follows = pool.follow;
        state.single_writer = pool.data == config::Data::kSingleWriter;
        if (before != kGone) carry(old_.pools[before], state);
        fleet_.pools.push_back(std::move(state));
        const auto health = std::make_shared<const config::Health>(pool.health);
        std::shared_ptr<const config::Health> ready;
        if (pool.data == config::Data::kSingleWriter)
            ready = std::make_shared<const config::Health>(pool.ready);
        std::map<Index, Index> parts;  // by site
        for (const config::Backend& backend : pool.backends) {
            const Index site = by_name_.at(backend.site);
            auto found = parts.find(site);
            if (found == parts.end()) found = parts.emplace(site, add_part(pool, index, site, before)).first;
            add_target(backend, found->second, health, before);
            ask(fleet_.targets.back(), ready);
        }
        restore_writer(index, before);
    }

    static void carry(const PoolState& old, PoolState& state) {
        state.no_site = old.no_site;
        state.follow_dropped = old.follow_dropped;
        state.writer_alarm = old.writer_alarm;
        state.offered = old.offered;
        state.shed = old.shed;
        state.sheds_since = old.sheds_since;
        state.bounded = old.bounded && old.single_writer == state.single_writer;
    }

    static void ask(Target& target, const std::shared_ptr<const config::Health>& ready) {
        if (ready == nullptr) target.says = {};
        target.ready_in_flight = 0;
        target.ready = ready;
    }

    /// The writer is known by its site.
    void restore_writer(Index index, Index before) {
        PoolState& pool = fleet_.pools[index];
        if (!pool.single_writer || before == kGone || !old_.pools[before].writer) return;
        const PoolState& old = old_.pools[before];
        const std::string& key = old_.sites[old_.parts[old.parts[*old.writer]].site].key;
        for (Index i = 0; i < pool.parts.size(); ++i) {
            if (fleet_.sites[fleet_.parts[pool.parts[i]].site].key == key) pool.writer = i;
        }
    }

    void join_dependencies() {
        std::unordered_map<std::string_view, Index> by_name;
        for (Index i = 0; i < fleet_.pools.size(); ++i) by_name.emplace(fleet_.pools[i].name, i);
        for (Index i = 0; i < config_.pools.size(); ++i) {
            for (const std::string& name : config_.pools[i].depends_on) {
                fleet_.pools[i].depends_on.push_back(by_name.at(name));
            }
        }
    }

    Index add_part(const config::Pool& pool, Index pool_index, Index site, Index before) {
        const auto index = static_cast<Index>(fleet_.parts.size());
        Part part;
        part.pool = pool_index;
        part.site = site;
        part.weight = weight_in(pool, fleet_.sites[site].name);
        if (const Part* old = memory_.part(before, fleet_.sites[site].key); old != nullptr) {
            part.admission = old->admission;
            part.bounds = old->bounds;
        } else if (fleet_.pools[pool_index].bounded && fleet_.pools[pool_index].single_writer) {
            // A site that is new to a pool with one writer is not the writer.
            part.bounds.writer = part.bounds.writer_keeps = false;
        }
        fleet_.parts.push_back(std::move(part));
        fleet_.pools[pool_index].parts.push_back(index);
        fleet_.sites[site].parts.push_back(index);
        return index;
    }

    void add_target(const config::Backend& backend, Index part_index,
                    const std::shared_ptr<const config::Health>& health, Index before) {
        const auto index = static_cast<Index>(fleet_.targets.size());
        Part& part = fleet_.parts[part_index];
        const PoolState& pool = fleet_.pools[part.pool];
        const Index old = memory_.target(before, backend.address);
        Target target = old != kGone ? old_.targets[old] : Target{};
        if (old != kGone) fleet_.carried[old] = index;
        target.fresh = old == kGone ? !old_.targets.empty() : target.fresh;
        target.id = ids_.backend(pool.id, backend.address);
        target.pool = part.pool;
        target.site = part.site;
        target.part = part_index;
        target.address = backend.address;
        target.weight = backend.weight;
        target.health = health;
        target.phase = phase_of(pool.name, backend.address);
        part.targets.push_back(index);
        fleet_.sites[part.site].targets.push_back(index);
        fleet_.targets.push_back(std::move(target));
    }

    const config::Config& config_;
    const plan::Ids& ids_;
    const Fleet& old_;
    Memory memory_;
    Fleet fleet_;
    std::unordered_map<std::string_view, Index> by_name_;
};

}  // namespace

Fleet make_fleet(const config::Config& config, const plan::Ids& ids, const Fleet& old) {
    return Builder(config, ids, old).build();
}

namespace {

Tally tally_of(const Target& target) {
    const State state = target.state.state();
    const bool answers = health::answered(target.state.last());
    const bool serves = target.weight > 0 && !target.drained;
    const bool unproven = state == State::kUnknown && target.fresh;
    const bool available = serves && state != State::kDown && !unproven;
    const auto one = [](bool counts) { return counts ? 1U : 0U; };
    Tally tally;
    tally.up = one(state == State::kUp);
    tally.down = one(state == State::kDown);
    tally.unknown = one(state == State::kUnknown);
    tally.drained = one(target.drained);
    tally.weighted = one(target.weight > 0);
    tally.available = one(available);
    tally.unproven = one(serves && unproven);
    tally.up_available = one(serves && state == State::kUp);
    tally.in_use = one(serves);
    tally.bad_answers = one(serves && state == State::kDown && answers);
    tally.down_answering = one(state == State::kDown && answers);
    tally.weight_in_use = serves ? target.weight : 0;
    tally.weight_available = available ? target.weight : 0;
    return tally;
}

}  // namespace

Tally& Tally::operator+=(const Tally& more) noexcept {
    up += more.up;
    down += more.down;
    unknown += more.unknown;
    drained += more.drained;
    weighted += more.weighted;
    available += more.available;
    unproven += more.unproven;
    up_available += more.up_available;
    in_use += more.in_use;
    bad_answers += more.bad_answers;
    down_answering += more.down_answering;
    weight_in_use += more.weight_in_use;
    weight_available += more.weight_available;
    return *this;
}

Tally& Tally::operator-=(const Tally& less) noexcept {
    up -= less.up;
    down -= less.down;
    unknown -= less.unknown;
    drained -= less.drained;
    weighted -= less.weighted;
    available -= less.available;
    unproven -= less.unproven;
    up_available -= less.up_available;
    in_use -= less.in_use;
    bad_answers -= less.bad_answers;
    down_answering -= less.down_answering;
    weight_in_use -= less.weight_in_use;
    weight_available -= less.weight_available;
    return *this;
}

void count(Fleet& fleet, Part& part) {
    static_cast<Tally&>(part) = {};
    for (const Index index : part.targets) {
        Target& target = fleet.targets[index];
        target.counted = tally_of(target);
        part += target.counted;
    }
}

void recount(Fleet& fleet, Target& target) {
    Part& part = fleet.parts[target.part];
    part -= target.counted;
    target.counted = tally_of(target);
    part += target.counted;
}

Totals totals(const Fleet& fleet, const SiteState& site) {
    Totals result;
    for (const Index index : site.parts) {
        const Part& part = fleet.parts[index];
        result.up += part.up;
        result.down += part.down;
        result.unknown += part.unknown;
    }
    return result;
}

bool takes(const Fleet& fleet, const Part& part) {
    const auto open = [](const failover::Admission& admission) {
        return !admission.drained() &&
               (admission.phase() == Phase::kLive || admission.phase() == Phase::kRamping);
    };
    return part.weight > 0 && part.available > 0 && part.bounds.writer && open(part.admission) &&
           open(fleet.sites[part.site].admission);
}

std::uint32_t others_taking(const Fleet& fleet, const PoolState& pool, Index except) {
    return static_cast<std::uint32_t>(std::count_if(pool.parts.begin(), pool.parts.end(), [&](Index index) {
        return index != except && takes(fleet, fleet.parts[index]);
    }));
}

bool rising(const Fleet& fleet, const SiteState& site) {
    return std::any_of(site.targets.begin(), site.targets.end(), [&](Index index) {
        const health::RiseFall& state = fleet.targets[index].state;
        return state.state() != State::kUp && state.answers() > 0;
    });
}

namespace {

/// Of the backends that are asked about a site: how many there are, how many live, and whether one of the
/// others does answer.
struct Heard {
    std::uint32_t counted = 0;
    std::uint32_t alive = 0;
    bool bad_answers = false;
};

/// During a burst: only what was heard since its start.
Heard heard_in_burst(const Fleet& fleet, const SiteState& site, bool dark) {
    Heard heard;
    for (const Index index : site.targets) {
        const Target& target = fleet.targets[index];
        const State state = target.state.state();
        if (!target.burst && state != State::kDown && target.answered_sent < site.burst_start) continue;
        ++heard.counted;
        if (state == State::kUp || (state == State::kUnknown && !dark)) ++heard.alive;
        if (state == State::kDown && health::answered(target.state.last())) heard.bad_answers = true;
    }
    return heard;
}

Heard heard_ever(const Fleet& fleet, const SiteState& site, bool dark) {
    Heard heard;
    for (const Index index : site.parts) {
        const Part& part = fleet.parts[index];
        heard.counted += part.up + part.down + part.unknown;
        heard.alive += part.up + (dark ? 0 : part.unknown);
        heard.bad_answers |= part.down_answering > 0;
    }
    return heard;
}

}  // namespace

Looks look(const Fleet& fleet, const SiteState& site, const config::Failover& rules) {
    const bool dark = site.admission.phase() == Phase::kDark && !site.admission.trickles();
    if (site.bfd_watch.dark()) return {true, false};  // who was asked did not even answer badly
    const Heard heard = site.burst ? heard_in_burst(fleet, site, dark) : heard_ever(fleet, site, dark);
    if (heard.counted == 0) return {dark, false};
    // Between the two thresholds a site stays what it is.
    const double threshold =
        dark ? std::max(rules.dark_threshold, rules.return_threshold) : rules.dark_threshold;
    return {heard.alive <= threshold * heard.counted, heard.bad_answers || heard.alive > 0};
}

}  // namespace detour::app
