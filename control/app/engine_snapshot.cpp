// What the API shows, copied out of the engine.
#include <algorithm>

#include "control/app/engine_impl.h"

namespace detour::app {

using failover::Gate;
using failover::Verdict;

struct Engine::Impl::SnapshotMaker {
    const Engine::Impl& engine;

    [[nodiscard]] static Gate smaller(const Gate& a, const Gate& b) {
        return {std::min(a.admit, b.admit), std::min(a.admit_mid, b.admit_mid), a.keep && b.keep,
                a.end_flows || b.end_flows};
    }

    [[nodiscard]] SiteStatus site(const SiteState& state) const {
        const config::Site* described = engine.config_.find_site(state.name);
        SiteStatus result;
        result.id = state.id;
        result.name = state.name;
        result.key = state.key;
        if (described != nullptr) {
            result.domain = described->domain;
            result.tier = described->tier;
        }
        result.verdict = state.verdict;
        result.phase = state.admission.phase();
        result.reason = state.reason;
        result.since = state.since;
        result.gate = engine.site_gate(state);
        result.sequence = engine.board_.sequence(state.id);
        result.burst = state.burst;
        result.held = result.phase == failover::Phase::kHeld;
        result.flapping = state.answers_since.has_value();
        result.load = state.load;
        result.budget = state.budget;
        result.full = state.full;
        result.trickle = state.admission.trickles();
        for (const BfdSession& session : state.bfd)
            result.bfd.push_back({session.peer, session.path, session.why, session.since});
        if (result.phase == failover::Phase::kRamping) {
            result.ramp_start = state.admission.record().ramp_start;
            result.ramp_end = *result.ramp_start + engine.config_.failover.ramp;
        }
        const Totals seen = totals(engine.fleet_, state);
        result.up = seen.up;
        result.down = seen.down;
        result.unknown = seen.unknown;
        for (const Index index : state.parts) {
            result.pools.push_back(engine.fleet_.pools[engine.fleet_.parts[index].pool].name);
        }
        return result;
    }

    [[nodiscard]] Verdict part_verdict(const Part& part, const SiteState& state) const {
        if (part.admission.drained() || state.admission.drained()) return Verdict::kDrained;
        switch (part.admission.phase()) {
            case failover::Phase::kDark:
                return Verdict::kDark;
            case failover::Phase::kHeld:
            case failover::Phase::kRamping:
                return Verdict::kRecovering;
            case failover::Phase::kLive:
                break;
        }
        if (state.verdict == Verdict::kDark || state.verdict == Verdict::kRecovering) return state.verdict;
        if (state.burst) return Verdict::kSuspect;
        if (part.down > 0) return Verdict::kDegraded;
        return part.up > 0 ? Verdict::kHealthy : Verdict::kUnknown;
    }

    void rules_of(const PoolState& state, PoolStatus& result) const {
        result.offered = state.offered;
        result.shed = state.shed;
        result.follow_dropped = state.follow_dropped;
        result.single_writer = state.single_writer;
        result.writer_alarm = state.writer_alarm;
        if (state.writer) {
            result.writer = engine.fleet_.sites[engine.fleet_.parts[state.parts[*state.writer]].site].name;
        }
        for (const Index index : state.depends_on) {
            const PoolState& other = engine.fleet_.pools[index];
            result.depends_on.push_back(other.name);
            const bool served = std::any_of(other.parts.begin(), other.parts.end(), [&](Index part) {
                return takes(engine.fleet_, engine.fleet_.parts[part]);
            });
            if (!served) result.without.push_back(other.name);
        }
    }

    [[nodiscard]] PoolStatus pool(const PoolState& state) const {
        PoolStatus result;
        result.id = state.id;
        result.name = state.name;
        result.vips = state.vips;
        result.min_sites = state.min_sites;
        rules_of(state, result);
        for (const Index index : state.parts) {
            const Part& part = engine.fleet_.parts[index];
            const SiteState& site = engine.fleet_.sites[part.site];
            PoolSiteStatus status;
            status.site = site.name;
            status.verdict = part_verdict(part, site);
            status.gate = engine.part_gate(part);
            status.effective = smaller(status.gate, engine.site_gate(site));
            status.weight = part.weight;
            status.up = part.up;
            status.down = part.down;
            status.unknown = part.unknown;
            status.drained = part.drained;
            if (takes(engine.fleet_, part)) ++result.admitted_sites;
            result.sites.push_back(std::move(status));
        }
        return result;
    }

    [[nodiscard]] BackendStatus backend(const Target& target) const {
        BackendStatus result;
        result.id = target.id;
        result.pool = engine.fleet_.pools[target.pool].name;
        result.site = engine.fleet_.sites[target.site].name;
        result.address = target.address;
        result.weight = target.weight;
        result.state = target.state.state();
        result.drained = target.drained;
        const BackendFlags flags = engine.board_.in_force(target.id);
        result.up = flags.up;
        result.keep = flags.keep;
        if (target.probes > 0) result.last_outcome = target.last.to_string();
        result.round_trip = target.round_trip;
        result.probes = target.probes;
        result.misses = target.misses;
        result.since = target.since;
        if (engine.hops_) {
            const auto hop = engine.hops_->find(target.address);
            result.resolved = hop != engine.hops_->end() && hop->second.resolved;
        }
        return result;
    }

    [[nodiscard]] DrainStatus drain(const failover::Drain& value) const {
        DrainStatus result;
        result.target = value.target.to_string(engine.config_);
        result.drain = value;
        for (const Index index : engine.sites_of(value.target)) {
            result.sites.push_back(engine.fleet_.sites[index].name);
        }
        return result;
    }
};

std::unordered_map<api::BackendId, std::string> Engine::Impl::sites_of_backends() const {
    std::unordered_map<api::BackendId, std::string> result;
    result.reserve(fleet_.targets.size());
    for (const Target& target : fleet_.targets) result.emplace(target.id, fleet_.sites[target.site].name);
    return result;
}

Snapshot Engine::Impl::snapshot(Now now) const {
    const SnapshotMaker maker{*this};
    Snapshot result;
    result.at = now;
    result.pop = config_.pop.name;
    result.connected = board_.connected();
    result.fail_static = fail_static_;
    result.generation = generation_;
    result.applied = applied_;
    result.acknowledged = acknowledged_;
    result.scanned = scanned_;
    result.probes_shed = shed_;
    for (const SiteState& site : fleet_.sites) result.sites.push_back(maker.site(site));
    std::vector<failover::DomainSite> places;
    for (const SiteStatus& site : result.sites)
        places.push_back({site.name, site.domain, site.verdict, site.up, site.up + site.down + site.unknown});
    result.domains = failover::roll_up(places);
    for (const PoolState& pool : fleet_.pools) result.pools.push_back(maker.pool(pool));
    for (const Target& target : fleet_.targets) result.backends.push_back(maker.backend(target));
    for (const failover::Drain& drain : intents_.drains) result.drains.push_back(maker.drain(drain));
    result.hold = intents_.hold;
    for (const failover::WeightOverride& weight : intents_.weights) {
        result.weights.push_back({weight.target.to_string(config_), weight});
    }
    result.site_switches = board_.all_sites();
    result.backend_switches = board_.all_backends();
    result.plan = published_;
    return result;
}

}  // namespace detour::app
