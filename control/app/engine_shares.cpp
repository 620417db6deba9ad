// What bounds a pool's part in a site beside its own admission: what is healthy there, what it depends on,
// where its data may be written. The rules are pure functions in control/failover; here they get their
// inputs.
#include <algorithm>
#include <string>

#include "control/app/engine_impl.h"
#include "control/failover/domains.h"
#include "control/failover/follow.h"
#include "control/failover/shares.h"

namespace detour::app {

using failover::Phase;
using failover::WriterAlarm;
using health::State;

namespace {

bool open(const failover::Admission& admission) {
    return !admission.drained() &&
           (admission.phase() == Phase::kLive || admission.phase() == Phase::kRamping);
}

/// What the backends of one site say: any that is primary speaks for its site, then any that answers.
failover::Says says_of(const Fleet& fleet, const Part& part) {
    bool standby = false;
    for (const Index index : part.targets) {
        const health::RiseFall& says = fleet.targets[index].says;
        if (says.state() == State::kUp) return failover::Says::kPrimary;
        standby |= says.state() == State::kDown && health::answered(says.last());
    }
    return standby ? failover::Says::kStandby : failover::Says::kNothing;
}

}  // namespace

/// Pools before those that depend on them; config::validate() refuses circles.
void Engine::Impl::order_pools() {
    pool_order_.clear();
    std::vector<std::uint8_t> mark(fleet_.pools.size(), 0);
    std::vector<Index> path;
    for (Index start = 0; start < fleet_.pools.size(); ++start) {
        path.push_back(start);
        while (!path.empty()) {
            const Index pool = path.back();
            const bool first = mark[pool] == 0;
            if (first) {
                mark[pool] = 1;
                for (const Index other : fleet_.pools[pool].depends_on) {
                    if (mark[other] == 0) path.push_back(other);
                }
                continue;
            }
            path.pop_back();
            if (mark[pool] == 1) pool_order_.push_back(pool);
            mark[pool] = 2;
        }
    }
}

/// Settles the bounds of `pools` and of all that follow them. Under a hold those of pools alone that are new
/// to this process.
void Engine::Impl::rebound(const std::set<Index>& pools) {
    if (pools.empty()) return;
    std::set<Index> changed;
    for (const Index index : pool_order_) {
        PoolState& pool = fleet_.pools[index];
        const auto leads = [&](Index other) { return changed.contains(other) || pools.contains(other); };
        const bool led = pool.follows && std::any_of(pool.depends_on.begin(), pool.depends_on.end(), leads);
        if (!led && !pools.contains(index)) continue;
        if (on_hold() && pool.bounded) continue;
        if (rebound_pool(pool)) changed.insert(index);
    }
}

bool Engine::Impl::rebound_pool(PoolState& pool) {
    std::vector<Bounds> before;
    for (const Index index : pool.parts) before.push_back(fleet_.parts[index].bounds);
    if (pool.single_writer) follow_writer(pool);
    for (const Index index : pool.parts) bound_by_health(pool, index);
    if (pool.follows) follow_others(pool);
    pool.bounded = true;
    bool changed = false;
    for (std::size_t i = 0; i < pool.parts.size(); ++i) {
        if (fleet_.parts[pool.parts[i]].bounds == before[i]) continue;
        changed = true;
        dirty_gates_.insert(pool.parts[i]);
        fleet_.sites[fleet_.parts[pool.parts[i]].site].dirty = true;
    }
    return changed;
}

void Engine::Impl::bound_by_health(const PoolState& pool, Index index) {
    Part& part = fleet_.parts[index];
    const SiteState& site = fleet_.sites[part.site];
    const bool used = fail_static_ || part.admission.phase() != Phase::kDark;
    // A site that may be gone as a whole is switched as a whole: one store, not one for each pool.
    const bool frozen = site.burst || fail_static_ || site.admission.phase() == Phase::kDark || !used;
    failover::Healthy at{part.weight_in_use, part.weight_available, false};
    failover::PanicView view{part.in_use, part.available, part.bad_answers, false};
    // One that stays with nobody healthy is held by a rail: it serves with what it has.
    at.others_take = view.others_take = part.available > 0 && others_taking(fleet_, pool, index) > 0;
    if (!frozen) part.bounds.healthy = failover::healthy_share(at, config_.failover.overprovisioning);
    const failover::Panic panic =
        used ? failover::panic(view, config_.failover.panic_threshold) : failover::Panic::kNone;
    if (std::exchange(part.panic, panic) != panic) dirty_parts_.insert(index);  // who serves changes
}

void Engine::Impl::follow_others(PoolState& pool) {
    std::vector<failover::FollowPart> parts;
    for (const Index index : pool.parts) {
        const Part& part = fleet_.parts[index];
        failover::FollowPart at;
        at.admit = takes(fleet_, part) ? part.bounds.healthy : 0;
        for (const Index other : pool.depends_on) {
            for (const Index leader : fleet_.pools[other].parts) {
                const Part& need = fleet_.parts[leader];
                if (need.site != part.site || need.weight == 0) continue;
                const double admit =
                    open(need.admission) && need.available > 0
                        ? failover::part_of(need.admission.gate().admit) * need.bounds.lasting()
                        : 0;
                at.needs = std::min(at.needs.value_or(1.0), admit);
            }
        }
        parts.push_back(at);
    }
    const failover::Follow result = failover::follow(parts);
    for (std::size_t i = 0; i < pool.parts.size(); ++i) {
        Part& part = fleet_.parts[pool.parts[i]];
        // Where it left and has no backend of its own yet, it does not go back to wait for one.
        const bool nobody = part.available == 0 && others_taking(fleet_, pool, pool.parts[i]) > 0;
        part.bounds.follow = nobody ? std::min(part.bounds.follow, result.admit[i]) : result.admit[i];
    }
    if (result.dropped == pool.follow_dropped) return;
    pool.follow_dropped = result.dropped;
    Event& value = event(EventKind::kAlarm,
                         result.dropped ? "what it depends on is served at none of its sites: it stays"
                                        : "follows what it depends on again");
    value.pool = pool.name;
}

void Engine::Impl::follow_writer(PoolState& pool) {
    std::vector<failover::Says> says;
    for (const Index index : pool.parts) says.push_back(says_of(fleet_, fleet_.parts[index]));
    const failover::Writer writer = failover::choose_writer(says, pool.writer);
    if (writer.site != pool.writer) {
        Event& value = event(EventKind::kWriter, fleet_.sites[fleet_.parts[pool.parts[*writer.site]].site],
                             "its data is primary here");
        value.pool = pool.name;
        if (pool.writer) value.from = fleet_.sites[fleet_.parts[pool.parts[*pool.writer]].site].name;
        value.to = value.site;
        state_dirty_ = true;
    }
    pool.writer = writer.site;
    for (Index i = 0; i < pool.parts.size(); ++i) {
        Bounds& bounds = fleet_.parts[pool.parts[i]].bounds;
        const bool here = pool.writer == i;
        bounds.writer = here && writer.admits;
        bounds.writer_keeps = here || !pool.writer;
    }
    report_writer(pool, writer.alarm);
}

void Engine::Impl::report_writer(PoolState& pool, WriterAlarm alarm) {
    if (alarm == pool.writer_alarm) return;
    pool.writer_alarm = alarm;
    std::string reason = "one site says that its data is primary again";
    const std::string stays = pool.writer ? "it stays where it is" : "it takes no new flow";
    if (alarm == WriterAlarm::kNobody) reason = "no site says that its data is primary: " + stays;
    if (alarm == WriterAlarm::kTwo) reason = "more than one site says that its data is primary: " + stays;
    event(EventKind::kAlarm, reason).pool = pool.name;
}

/// After a restart the site that takes the flows is the writer, until somebody says otherwise.
void Engine::Impl::adopt_writers() {
    for (PoolState& pool : fleet_.pools) {
        if (!pool.single_writer || pool.writer) continue;
        std::vector<Index> admitting;
        for (Index i = 0; i < pool.parts.size(); ++i) {
            const Part& part = fleet_.parts[pool.parts[i]];
            const failover::Gate gate = board_.in_force(fleet_.sites[part.site].id, pool.id);
            if (gate.admit > api::kAdmitNone) admitting.push_back(i);
        }
        if (admitting.size() == 1) pool.writer = admitting.front();
    }
}

/// Under a hold nobody gives room out anew: what the site's room left the part is read from its gate.
void Engine::Impl::adopt_spill(Part& part, const failover::Gate& in_force) const {
    const double lasting = part.bounds.lasting();
    if (!on_hold() || !knows_capacity() || lasting <= 0 || in_force.admit == api::kAdmitNone) return;
    part.bounds.spill = std::min(1.0, failover::part_of(in_force.admit) / lasting);
}

/// What a part's own admission must have been for the gate that is in force: what the bounds explain is none
/// of its doing.
failover::Gate Engine::Impl::unbounded(const Part& part, failover::Gate in_force) const {
    const PoolState& pool = fleet_.pools[part.pool];
    const double bound = part.bounds.admit();
    const bool explained = in_force.admit == failover::admit_of(bound) ||
                           (pool.single_writer && in_force.admit == api::kAdmitNone);
    if (explained) in_force.admit = in_force.admit_mid = api::kAdmitAll;
    // A pool's own `keep` is not a state: it follows from the site's phase, from `rehash` and from the data.
    in_force.keep = true;
    return in_force;
}

/// Who shares a building or a campus with a dark site is looked at without waiting for its own first miss.
void Engine::Impl::darken_neighbours(const SiteState& site) {
    std::vector<failover::DomainSite> all;
    std::size_t of = 0;
    for (const SiteState& other : fleet_.sites) {
        const config::Site* described = config_.find_site(other.name);
        if (&other == &site) of = all.size();
        all.push_back({other.name, described == nullptr ? std::vector<std::string>{} : described->domain,
                       other.verdict, 0, 0});
    }
    for (const std::size_t index : failover::neighbours(all, of))
        start_burst(fleet_.sites[index], site.name + " of the same domain is dark");
}

failover::FlapRules Engine::Impl::flap_rules() const {
    const config::Failover& failover = config_.failover;
    return {failover.flap_hold, failover.flap_hold_most, failover.flap_forget};
}

/// Not while a pool has nothing else.
bool Engine::Impl::waits_for_flaps(SiteState& site) {
    const health::nanoseconds hold = site.flaps.hold(flap_rules(), now_.wall);
    const bool needed = std::any_of(site.parts.begin(), site.parts.end(), [&](Index index) {
        const Part& part = fleet_.parts[index];
        return part.weight > 0 && part.up_available > 0 && part.bounds.writer &&
               others_taking(fleet_, fleet_.pools[part.pool], index) == 0;
    });
    if (hold.count() == 0 || needed) return false;
    if (!site.answers_since) {
        site.answers_since = now_.monotonic;
        site.dirty = true;
    }
    return now_.monotonic - *site.answers_since < hold;
}

/// A backend that keeps failing needs more answers in a row, up to 32 times as many; not where nobody else is
/// in service: a dark site has a hold of its own.
std::uint32_t Engine::Impl::rise_of(const Target& target) const {
    const bool alone = fleet_.parts[target.part].available == 0 ||
                       fleet_.sites[target.site].admission.phase() == Phase::kDark;
    if (config_.failover.flap_hold.count() == 0 || alone) return target.health->rise;
    const double times = target.flaps.count(flap_rules(), now_.wall);
    const auto doublings = static_cast<unsigned>(std::clamp(times - 0.5, 0.0, 5.0));
    return target.health->rise << doublings;
}

}  // namespace detour::app
