// Sites and pools going dark and coming back: verdicts, rails, fail static.
#include <algorithm>
#include <string>
#include <utility>

#include "control/app/engine_impl.h"
#include "control/failover/shares.h"

namespace detour::app {

using failover::AdmissionRules;
using failover::Phase;
using health::nanoseconds;
using health::State;

namespace {
/// Opening one way may close another; what is left after this many rounds waits for the next call.
constexpr int kSettleRounds = 4;
}  // namespace

AdmissionRules Engine::Impl::rules(const SiteState& site) const {
    const config::Failover& failover = config_.failover;
    AdmissionRules rules{failover.ramp, failover.strand_after, failover.auto_return_within};
    // Without a reading of the fast path's counters nobody has looked whether ACKs advance: wait twice as
    // long.
    const auto dark_at = site.admission.dark_at();
    if (dark_at && signals_at_ < *dark_at) rules.strand_after = 2 * failover.strand_after;
    if (on_hold()) rules.strand_after.reset();
    return rules;
}

/// A pool in a site strands its flows backend by backend, and a crashed service that is back is simply back.
AdmissionRules Engine::Impl::part_rules() const {
    return {config_.failover.ramp, std::nullopt, std::nullopt};
}

void Engine::Impl::mark_part(Index index) {
    Part& part = fleet_.parts[index];
    count(fleet_, part);
    dirty_parts_.insert(index);
    dirty_pools_.insert(part.pool);
    fleet_.sites[part.site].dirty = true;
}

/// One target changed, and with it no more than its own switch and the part's share.
void Engine::Impl::mark_target(Index index) {
    Target& target = fleet_.targets[index];
    recount(fleet_, target);
    dirty_targets_.insert(index);
    dirty_gates_.insert(target.part);
    dirty_pools_.insert(target.pool);
    fleet_.sites[target.site].dirty = true;
}

void Engine::Impl::mark(SiteState& site) {
    site.dirty = true;
    for (const Index index : site.parts) mark_part(index);
}

void Engine::Impl::judge(SiteState& site) {
    const Looks looks = look(fleet_, site, config_.failover);
    if (site.admission.trickles()) {
        if (!looks.dark || on_hold() || fail_static_) return;
        if (all_look_dark()) return enter_static();
        // Nothing answers well now: it is as dark as any other.
        site.admission.end_trickle(now_, looks.bad_answers);
        site.answers_since.reset();
        site.way_back.clear();
        mark(site);
        return;
    }
    if (site.admission.phase() == Phase::kDark) {
        if (looks.dark) site.answers_since.reset();
        if (looks.dark || rising(fleet_, site) || on_hold() || waits_for_flaps(site)) return;
        site.admission.lighten(now_, rules(site));
        site.touched = true;
        site.answers_since.reset();
        // What has not answered yet may still be without power.
        for (const Index index : site.targets) {
            Target& target = fleet_.targets[index];
            target.fresh |= target.state.state() == State::kUnknown;
        }
        mark(site);
        for (SiteState& other : fleet_.sites) {
            if (!other.refused.empty()) judge(other);
        }
        return;
    }
    if (!looks.dark) {
        site.refused.clear();
        return;
    }
    if (fail_static_) return;
    if (on_hold()) return refuse_dark(site, kOnHold);
    if (all_look_dark()) return enter_static();
    const std::string rail = looks.bad_answers ? rail_against(site) : std::string{};
    if (rail.empty()) return darken(site, looks.bad_answers);
    refuse_dark(site, rail);
}

void Engine::Impl::refuse_dark(SiteState& site, const std::string& rail) {
    if (site.refused != rail) event(EventKind::kAlarm, site, "looks dark, but stays: " + rail);
    site.refused = rail;
    site.dirty = true;
}

namespace {

const char* dark_rule(bool bfd, bool bad_answers) {
    if (bfd) return "BFD: all its sessions are down and no probe was answered within confirm_timeout";
    if (bad_answers)
        return "the burst failed: no more than dark_threshold of the site's backends answer well; counts for "
               "max_dark_sites";
    return "the burst failed: none of the site's backends answers";
}

}  // namespace

void Engine::Impl::darken(SiteState& site, bool bad_answers) {
    site.admission.darken(now_, bad_answers);
    site.dark_rule = dark_rule(site.bfd_watch.dark(), bad_answers);
    site.flaps.note(flap_rules(), now_.wall);
    site.touched = true;
    site.refused.clear();
    // What was not asked in the burst is not up any more either: it has to answer anew.
    for (const Index index : site.targets) {
        Target& target = fleet_.targets[index];
        if (target.state.state() != State::kDown) target.state.set(State::kUnknown);
        if (target.burst) target.flaps.take_back();  // the site's fault, not its own
    }
    end_burst(site);
    darken_neighbours(site);
}

std::string Engine::Impl::rail_against(const SiteState& site) const {
    const auto away = std::count_if(fleet_.sites.begin(), fleet_.sites.end(), [](const SiteState& other) {
        return other.admission.phase() == Phase::kDark && other.admission.record().bad_answers;
    });
    if (static_cast<std::uint32_t>(away) >= config_.failover.max_dark_sites) {
        return "max_dark_sites = " + std::to_string(config_.failover.max_dark_sites);
    }
    for (const Index index : site.parts) {
        const PoolState& pool = fleet_.pools[fleet_.parts[index].pool];
        const std::uint32_t left = others_taking(fleet_, pool, index);
        // Where data has one writer, the data layer decides whether there is another site.
        if (fleet_.parts[index].weight == 0 || left >= pool.min_sites || pool.single_writer) continue;
        return "pool " + pool.name + " would be left with " + std::to_string(left) +
               " admitted sites, below its min_sites = " + std::to_string(pool.min_sites);
    }
    return {};
}

bool Engine::Impl::all_look_dark() const {
    bool any = false;
    for (const SiteState& site : fleet_.sites) {
        if (site.targets.empty()) continue;
        any = true;
        if (site.answers_since) return false;  // waits for its flaps, but is there
        if (site.admission.phase() == Phase::kDark && !site.admission.trickles()) continue;
        if (!look(fleet_, site, config_.failover).dark) return false;
    }
    return any;
}

/// If this host lost its network, its sites went dark within this long of each other.
nanoseconds Engine::Impl::static_window() const {
    nanoseconds longest = std::chrono::seconds{5};
    for (const config::Pool& pool : config_.pools) {
        const config::Health& health = pool.health;
        const nanoseconds verdict = health.interval + health.timeout + health.fast_interval * health.fall;
        longest = std::max(longest, 2 * verdict);
    }
    return longest;
}

void Engine::Impl::enter_static() {
    fail_static_ = true;
    event(EventKind::kAlarm,
          "every site looks dark from here: the fault is probably ours, nothing is switched");
    for (SiteState& site : fleet_.sites) {
        const auto dark_at = site.admission.dark_at();
        if (dark_at && now_.monotonic - *dark_at <= static_window()) {
            site.admission.relight();
            if (!site.admission.trickles()) site.flaps.take_back();
        }
        if (site.burst) end_burst(site);
        mark(site);
    }
}

/// Somebody answers: what still does not has to miss anew before it goes dark.
void Engine::Impl::leave_static() {
    fail_static_ = false;
    event(EventKind::kAlarm, "a site answers again: automation goes on");
    for (SiteState& site : fleet_.sites) {
        mark(site);
        if (site.admission.phase() == Phase::kDark && !site.admission.trickles()) continue;
        if (!look(fleet_, site, config_.failover).dark) continue;
        for (const Index index : site.targets) fleet_.targets[index].state.set(State::kUnknown);
        mark(site);
        start_burst(site, "after everything looked dark");
    }
}

void Engine::Impl::tick_admissions() {
    for (SiteState& site : fleet_.sites) {
        const failover::Gate before = site.admission.gate();
        site.admission.tick(now_, rules(site));
        if (site.admission.gate() != before) site.dirty = true;
    }
    for (auto it = busy_parts_.begin(); it != busy_parts_.end();) {
        Part& part = fleet_.parts[*it];
        const failover::Gate before = part.admission.gate();
        part.admission.tick(now_, part_rules());
        if (part.admission.gate() != before) {
            dirty_gates_.insert(*it);
            dirty_pools_.insert(part.pool);  // others may follow
        }
        it = part.admission.phase() == Phase::kLive ? busy_parts_.erase(it) : std::next(it);
    }
}

void Engine::Impl::tick_strands() {
    while (const auto next = strands_.pop(now_.monotonic)) {
        Target& target = fleet_.targets[next->first];
        if (target.state.state() != State::kDown) continue;
        const Part& part = fleet_.parts[target.part];
        const bool last = part.available == 0 && part.admission.phase() != Phase::kDark;
        if (frozen(target) || (last && !target.drained)) {
            strands_.set(next->first, now_.monotonic + config_.failover.strand_after);
            continue;
        }
        target.stranded = true;
        event(EventKind::kStrand, target,
              "down, and nothing was heard from it for " +
                  std::to_string(config_.failover.strand_after.count()) + " ms");
        mark_target(next->first);
    }
}

void Engine::Impl::settle() {
    std::set<Index> settled;
    for (int round = 0; round < kSettleRounds && !dirty_pools_.empty(); ++round) {
        const std::set<Index> pools = std::exchange(dirty_pools_, {});
        settled.insert(pools.begin(), pools.end());
        for (const Index pool : pools) {
            for (const Index part : fleet_.pools[pool].parts) judge_part(part);
        }
        release_held();
    }
    urgent_ = switch_sites(!settled.empty());
    settled.merge(deferred_pools_);
    deferred_pools_.clear();
    // A site's switch does not wait until a thousand pools are settled: they follow in the next call.
    if (urgent_) {
        deferred_pools_ = std::move(settled);
        return;
    }
    settle_pools(settled);
}

/// True when new flows of a whole site go elsewhere, or come back.
bool Engine::Impl::switch_sites(bool pools_changed) {
    bool urgent = false;
    for (SiteState& site : fleet_.sites) {
        if (site.last_resort && pools_changed) site.dirty = true;
        if (!site.dirty) continue;
        site.dirty = false;
        report_phase(site);
        update_verdict(site);
        urgent |= switch_site(site);
    }
    return urgent;
}

void Engine::Impl::settle_pools(const std::set<Index>& settled) {
    rebound(settled);
    reallocate_soon_ |= !settled.empty();
    if (!settled.empty()) reallocate_if_due(sites_changed());
    for (const Index pool : settled) check_pool(fleet_.pools[pool]);
    (void)switch_sites(false);
    for (const Index part : std::exchange(dirty_parts_, {})) {
        switch_gate(fleet_.parts[part]);
        for (const Index target : fleet_.parts[part].targets) switch_target(fleet_.targets[target]);
    }
    for (const Index part : std::exchange(dirty_gates_, {})) switch_gate(fleet_.parts[part]);
    for (const Index target : std::exchange(dirty_targets_, {})) switch_target(fleet_.targets[target]);
}

/// Another site takes the pool; for one that only answers badly the rails of its site and pool hold as well.
bool Engine::Impl::may_go(const Part& part, Index index) const {
    const PoolState& pool = fleet_.pools[part.pool];
    const std::uint32_t others = others_taking(fleet_, pool, index);
    if (others == 0 || !fleet_.sites[part.site].refused.empty()) return false;
    const bool bad_answers = std::any_of(part.targets.begin(), part.targets.end(), [&](Index target) {
        return health::answered(fleet_.targets[target].state.last());
    });
    return !bad_answers || others >= pool.min_sites;
}

void Engine::Impl::judge_part(Index index) {
    Part& part = fleet_.parts[index];
    const SiteState& site = fleet_.sites[part.site];
    const PoolState& pool = fleet_.pools[part.pool];
    if (part.weighted == 0 || part.unproven > 0 || site.burst || fail_static_ || on_hold() ||
        site.admission.phase() == Phase::kDark)
        return;
    const bool dark = part.admission.phase() == Phase::kDark;
    if (!dark && part.available == 0 && may_go(part, index)) {
        part.admission.darken(now_, false);
        Event& value = event(EventKind::kPoolVerdict, site, "none of its backends here is in service");
        value.pool = pool.name;
        value.to = "dark";
    } else if (dark && part.up_available > 0) {
        AdmissionRules rules = part_rules();
        if (site.admission.phase() == Phase::kRamping)
            rules.ramp = health::milliseconds{0};  // one ramp is enough
        part.admission.lighten(now_, rules);
        Event& value = event(EventKind::kPoolVerdict, site, "a backend answers again");
        value.pool = pool.name;
        value.from = "dark";
        value.to = "recovering";
    } else {
        return;
    }
    busy_parts_.insert(index);
    mark_part(index);
}

/// A site held back by automation takes what nothing else can take.
void Engine::Impl::release_held() {
    if (on_hold()) return;
    for (SiteState& site : fleet_.sites) {
        if (site.admission.phase() != Phase::kHeld || site.admission.drained()) continue;
        for (const Index index : site.parts) {
            const Part& part = fleet_.parts[index];
            const PoolState& pool = fleet_.pools[part.pool];
            if (part.available == 0 || part.weight == 0 || part.admission.drained()) continue;
            if (!part.bounds.writer) continue;
            if (others_taking(fleet_, pool, index) > 0) continue;
            site.admission.release(now_, rules(site));
            site.touched = true;
            event(EventKind::kAlarm, site, "comes back unasked: pool " + pool.name + " has no other site");
            mark(site);
            break;
        }
    }
}

void Engine::Impl::check_pool(PoolState& pool) {
    const bool none = std::none_of(pool.parts.begin(), pool.parts.end(),
                                   [&](Index index) { return takes(fleet_, fleet_.parts[index]); });
    if (none == pool.no_site) return;
    pool.no_site = none;
    Event& value = event(EventKind::kAlarm,
                         none ? "no site is fit to take its new flows" : "a site takes its new flows again");
    value.pool = pool.name;
}

bool Engine::Impl::frozen(const Target& target) const {
    const SiteState& site = fleet_.sites[target.site];
    return site.burst || fail_static_ || on_hold() || site.admission.phase() == Phase::kDark;
}

BackendFlags Engine::Impl::flags(const Target& target) const {
    // Under a hold a backend is left as it was, but operators may still drain it and undrain it.
    BackendFlags result = on_hold() && !target.fresh ? target.judged : judged_flags(target);
    if (target.drained) result.up = false;
    if (target.let_go) {
        result.end_flows = result.keep;  // of one that is down they are stranded, not ended
        result.keep = false;
    }
    return result;
}

BackendFlags Engine::Impl::judged_flags(const Target& target) const {
    BackendFlags now = board_.in_force(target.id);
    // Flows that are ended were let go by a drain's deadline, not by automation.
    now.keep |= std::exchange(now.end_flows, false);
    const Part& part = fleet_.parts[target.part];
    const State state = target.state.state();
    BackendFlags result;
    const bool panic = part.panic == failover::Panic::kAll ||
                       (part.panic == failover::Panic::kAnswering && health::answered(target.state.last()));
    if (state == State::kUnknown) {
        result = target.fresh ? BackendFlags{false, true} : now;
    } else if (state == State::kDown) {
        result = {panic, !target.stranded};
        if (!panic && part.admission.phase() == Phase::kDark) result.up = now.up;
        if (frozen(target) && !(fail_static_ && panic)) result = now;
    }
    return result;
}

failover::Gate Engine::Impl::site_gate(const SiteState& site) const {
    failover::Gate gate = site.admission.gate();
    if (!site.last_resort || !site.admission.drained() || site.admission.phase() != Phase::kLive) return gate;
    const bool needed = std::any_of(site.parts.begin(), site.parts.end(), [&](Index index) {
        return fleet_.parts[index].bounds.writer &&
               others_taking(fleet_, fleet_.pools[fleet_.parts[index].pool], index) == 0;
    });
    if (needed) {
        gate.admit = failover::kLastResort;
        gate.keep = true;
        gate.end_flows = false;
    }
    return gate;
}

failover::Gate Engine::Impl::part_gate(const Part& part) const {
    failover::Gate gate = part.admission.gate();
    gate.admit = std::min(gate.admit, failover::admit_of(part.bounds.admit()));
    if (!part.bounds.writer_keeps) gate.keep = false;
    if (!part.bounds.writer_keeps) gate.admit_mid = api::kAdmitNone;
    const bool site_dark = fleet_.sites[part.site].admission.phase() == Phase::kDark;
    const bool dead = part.admission.phase() == Phase::kDark && part.down == part.targets.size();
    // Pools that rehash move their flows at the verdict and do not wait for the strand: also when a trickle
    // of new ones stays, whose handshakes count although their flows then move.
    if (fleet_.pools[part.pool].rehash && (site_dark || dead)) gate.keep = gate.end_flows = false;
    return gate;
}

bool Engine::Impl::switch_site(SiteState& site) {
    const failover::Gate before = board_.in_force(site.id, std::nullopt);
    const failover::Gate gate = site_gate(site);
    if (!board_.want(site.id, std::nullopt, gate)) return false;
    const bool step = before.admit > api::kAdmitNone && gate.admit > api::kAdmitNone &&
                      site.admission.phase() != Phase::kDark;
    if (before.admit == gate.admit || step) return false;
    Event& value = event(EventKind::kSwitch, site, site.reason);
    value.from = std::to_string(before.admit.value());
    value.to = std::to_string(gate.admit.value());
    return true;
}

void Engine::Impl::switch_gate(const Part& part) {
    const SiteState& site = fleet_.sites[part.site];
    const PoolState& pool = fleet_.pools[part.pool];
    const failover::Gate before = board_.in_force(site.id, pool.id);
    const failover::Gate gate = part_gate(part);
    if (board_.want(site.id, pool.id, gate) &&
        (before.admit == api::kAdmitNone) != (gate.admit == api::kAdmitNone)) {
        Event& value = event(EventKind::kSwitch, site, "the pool in this site");
        value.pool = pool.name;
        value.from = std::to_string(before.admit.value());
        value.to = std::to_string(gate.admit.value());
    }
}

void Engine::Impl::switch_target(Target& target) {
    if (!on_hold()) target.judged = judged_flags(target);
    (void)board_.want(target.id, flags(target));
}

void Engine::Impl::report_phase(SiteState& site) {
    const Phase phase = site.admission.phase();
    const Phase before = std::exchange(site.reported, phase);
    if (phase == Phase::kRamping && before != phase) {
        event(EventKind::kRampStarted, site, "over " + std::to_string(config_.failover.ramp.count()) + " ms");
    }
    if (before == Phase::kRamping && phase == Phase::kLive && !site.admission.limited()) {
        event(EventKind::kRampDone, site, "takes its whole share");
    }
    if (phase == Phase::kHeld && before != phase) {
        event(EventKind::kAlarm, site, "answers again, but is held until undrained");
    }
    const bool stranded = site.admission.record().stranded;
    if (stranded && !site.reported_stranded) {
        event(EventKind::kStrand, site, "nothing was heard from it for strand_after");
    }
    site.reported_stranded = stranded;
}

/// One of the site's backends that are down, the same as long as it is.
void Engine::Impl::blame(SiteState& site) const {
    const auto down = [&](std::size_t i) {
        const Target& target = fleet_.targets[site.targets[i]];
        return target.state.state() == State::kDown && target.last.cause != health::Cause::kNotSent;
    };
    for (std::size_t tried = 0; tried < site.targets.size(); ++tried, ++site.blamed) {
        if (site.blamed >= site.targets.size()) site.blamed = 0;
        if (down(site.blamed)) return;
    }
}

void Engine::Impl::update_verdict(SiteState& site) {
    if (totals(fleet_, site).down > 0) blame(site);
    std::string reason;
    const failover::Verdict verdict = verdict_of(site, reason);
    site.reason = reason;
    if (verdict == site.verdict) return;
    Event& value = event(EventKind::kVerdict, site, reason);
    value.from = failover::to_string(site.verdict);
    value.to = failover::to_string(verdict);
    if (verdict == failover::Verdict::kDark) value.rule = site.dark_rule;
    site.verdict = verdict;
    site.since = now_.wall;
}

failover::Verdict Engine::Impl::verdict_of(const SiteState& site, std::string& reason) const {
    using failover::Verdict;
    const Totals seen = totals(fleet_, site);
    reason = std::to_string(seen.up) + " of " + std::to_string(seen.all()) + " backends up";
    if (seen.down > 0 && site.blamed < site.targets.size()) {
        const Target& target = fleet_.targets[site.targets[site.blamed]];
        if (target.state.state() == State::kDown && target.last.cause != health::Cause::kNotSent)
            reason += ", " + target.address.to_string() + ": " + target.last.to_string();
    }
    for (const BfdSession& session : site.bfd) {
        if (session.path == failover::BfdPath::kDown)
            reason += ", BFD with " + session.peer.address.to_string() + " is down";
    }
    if (!site.way_back.empty()) reason += ", clients don't get through: " + site.way_back;
    if (site.way_back_blind)
        reason += ", its handshakes can't be judged: SYNs come faster than they can be remembered";
    if (site.admission.trickles()) reason += "; 1 % of its flows stay to show when they do";
    if (!site.refused.empty()) reason += "; not taken away: " + site.refused;
    if (!site.way_back_rail.empty()) reason += "; not taken away: " + site.way_back_rail;
    if (site.admission.limited() && !site.admission.drained()) {
        reason += "; drained in part";
    }
    switch (site.admission.phase()) {
        case Phase::kDark:
            if (site.answers_since) reason += "; answers again, has to last since it flapped";
            if (site.admission.drained()) return Verdict::kDrained;
            return site.answers_since ? Verdict::kRecovering : Verdict::kDark;
        case Phase::kHeld:
            if (!site.admission.drained()) reason += "; held until undrained";
            return site.admission.drained() ? Verdict::kDrained : Verdict::kRecovering;
        case Phase::kRamping:
            return Verdict::kRecovering;
        case Phase::kLive:
            break;
    }
    if (site.admission.drained()) return Verdict::kDrained;
    if (site.burst || !site.way_back.empty() || (fail_static_ && seen.down > 0)) return Verdict::kSuspect;
    if (seen.down > 0) return Verdict::kDegraded;
    return seen.up > 0 ? Verdict::kHealthy : Verdict::kUnknown;
}

}  // namespace detour::app
