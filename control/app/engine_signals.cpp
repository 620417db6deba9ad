// What is heard of sites beside probes: BFD with their routers, and the fast path's counters.
#include <algorithm>
#include <string>
#include <utility>

#include "control/app/engine_impl.h"

namespace detour::app {

namespace {
/// A trickle of a standby that nobody comes to.
constexpr std::chrono::seconds kUnaskedFor{10};
}  // namespace

using failover::BfdPath;
using failover::Evidence;
using failover::Phase;
using health::nanoseconds;
using health::State;

Actions Engine::Impl::on_signals(const Signals& signals, Now now) {
    begin(now);
    signals_at_ = now.monotonic;
    acknowledged_ = signals.acknowledged;
    scanned_ = signals.scanned;
    read_acks(signals);
    read_handshakes(signals);
    for (SiteState& site : fleet_.sites) judge_way_back(site);
    measure(signals);
    reallocate_if_due(false);
    return finish();
}

void Engine::Impl::read_acks(const Signals& signals) {
    std::map<api::SiteId, std::uint64_t> acks;
    for (const SiteSignal& signal : signals.sites) acks[signal.site] = signal.ack_advanced;
    for (SiteState& site : fleet_.sites) {
        const auto found = acks.find(site.id);
        const std::uint64_t count = found == acks.end() ? 0 : found->second;
        // The first reading only says where the counter stands.
        if (site.acks_known && count > site.acks) site.admission.sign_of_life(now_);
        site.acks = count;
        site.acks_known = true;
    }
}

void Engine::Impl::read_handshakes(const Signals& signals) {
    failover::HandshakeReading reading;
    reading.backends.reserve(signals.backends.size());
    for (const BackendSignal& signal : signals.backends) {
        const auto found = by_id_.find(signal.backend);
        if (found == by_id_.end()) continue;
        const Target& target = fleet_.targets[found->second];
        reading.backends.push_back({signal.backend, fleet_.pools[target.pool].id,
                                    fleet_.sites[target.site].id, signal.syns, signal.handshakes});
    }
    for (const SiteSignal& signal : signals.sites) reading.sites.push_back(signal.count);
    passive_.read(std::move(reading), now_.monotonic);
}

/// Suspicion starts a burst at once. One that fails makes the site dark as any other; where probes succeed,
/// the signal alone decides once it held.
void Engine::Impl::judge_way_back(SiteState& site) {
    site.way_back_held.reset();
    if (site.admission.trickles()) watch_trickle(site);
    const Phase phase = site.admission.phase();
    const bool takes = phase == Phase::kLive || phase == Phase::kRamping;
    const bool counts = takes && !site.admission.drained() && !fail_static_;
    if (!counts) site.way_back_since = now_.monotonic;
    if (site.admission.trickles() || phase == Phase::kHeld) return;
    const Evidence evidence =
        counts ? passive_.evidence(site.id, site.way_back_since, round_trip(site)) : Evidence{};
    site.dirty |= site.way_back_blind != evidence.blind;
    site.way_back_blind = evidence.blind;
    if (!evidence.lost) {
        if (site.way_back.empty()) return;
        site.way_back.clear();
        site.way_back_rail.clear();
        site.dirty = true;
        return;
    }
    const bool news = site.way_back.empty();
    site.way_back = evidence.to_string();
    site.dirty = true;
    if (news) start_burst(site, "clients don't get through: " + site.way_back);
    if (!evidence.held) return;
    site.way_back_held = evidence;
    on_answer(site);
}

/// What clients and probes say together does not wait for the next reading: with few clients the evidence is
/// enough the moment it is there at all, and its burst has only just left.
void Engine::Impl::on_answer(SiteState& site) {
    const Phase phase = site.admission.phase();
    const bool takes = phase == Phase::kLive || phase == Phase::kRamping;
    if (!site.way_back_held || !takes || site.admission.drained() || fail_static_ || !answers_now(site))
        return;
    const Evidence evidence = *std::exchange(site.way_back_held, std::nullopt);
    lose_way_back(site, evidence);
}

/// Some backend answered since suspicion began: the burst does not fail.
bool Engine::Impl::answers_now(const SiteState& site) const {
    return std::any_of(site.targets.begin(), site.targets.end(),
                       [&](Index index) { return fleet_.targets[index].answered_sent >= site.burst_start; });
}

void Engine::Impl::lose_way_back(SiteState& site, const Evidence& evidence) {
    const std::string rail = on_hold() ? kOnHold : rail_against(site);
    if (!rail.empty()) {
        if (site.way_back_rail != rail)
            event(EventKind::kAlarm, site, "clients don't get through, but it stays: " + rail);
        site.way_back_rail = rail;
        return;
    }
    site.way_back_rail.clear();
    site.dark_rule =
        "passive signal: for half a second less than 10 % of the handshakes that the other sites let expect";
    site.admission.darken(now_, true);
    site.admission.start_trickle();
    site.flaps.note(flap_rules(), now_.wall);
    site.trickle = {};
    site.unasked_since.reset();
    site.way_back_since = now_.monotonic;
    site.touched = true;
    site.way_back = evidence.to_string();
    if (site.burst) end_burst(site);
    mark(site);
}

void Engine::Impl::watch_trickle(SiteState& site) {
    const double expected = passive_.expected(site.id);
    site.trickle.add(expected, passive_.completed(site.id));
    if (expected > 0 || !stands_by(site)) {
        site.unasked_since.reset();
    } else if (!site.unasked_since) {
        site.unasked_since = now_.monotonic;
    } else if (now_.monotonic - *site.unasked_since >= kUnaskedFor && !on_hold()) {
        return hold_trickle(site);
    }
    if (!site.trickle.well() || on_hold() || waits_for_flaps(site)) return;
    site.admission.lighten(now_, rules(site));
    site.answers_since.reset();
    site.way_back.clear();
    site.trickle = {};
    mark(site);
}

/// A standby that clients have left can't show that its way back works again. It no longer counts as taken
/// away, comes back when an operator says so, and takes what no other site can.
void Engine::Impl::hold_trickle(SiteState& site) {
    site.admission.hold_trickle();
    site.unasked_since.reset();
    site.reported = Phase::kHeld;
    event(EventKind::kAlarm, site,
          "stands by with its way back lost, and no client asks it who could show the end: held until "
          "undrained");
    mark(site);
}

Actions Engine::Impl::on_bfd(const BfdReport& report, Now now) {
    begin(now);
    for (SiteState& site : fleet_.sites) {
        if (site.key != report.site) continue;
        for (BfdSession& session : site.bfd) {
            if (session.peer != report.peer || session.path == report.path) continue;
            Event& value =
                event(EventKind::kBfd, site,
                      session.peer.address.to_string() + (report.why.empty() ? "" : ": ") + report.why);
            value.from = failover::to_string(session.path);
            value.to = failover::to_string(report.path);
            session.path = report.path;
            session.why = report.why;
            session.since = now.wall;
            site.dirty = true;
        }
        update_bfd(site);
    }
    return finish();
}

void Engine::Impl::update_bfd(SiteState& site) {
    std::vector<BfdPath> paths;
    for (const BfdSession& session : site.bfd) paths.push_back(session.path);
    if (!site.bfd_watch.update(paths, now_.monotonic, confirm_time(site))) return;
    const bool burst = site.burst;
    start_burst(site, "all its BFD sessions are down");
    if (burst || !site.burst) ask_at_once(site);  // what was asked before this moment says nothing of it
}

/// A far site must be able to answer within it. How far it is, its quickest backend tells: what the others
/// take longer is their own time to think, and one slow health page must not make BFD wait.
nanoseconds Engine::Impl::confirm_time(const SiteState& site) const {
    return std::max<nanoseconds>(config_.failover.confirm_timeout, 2 * round_trip(site));
}

/// The shortest that a backend of the site has last taken to answer; 0 when none has.
nanoseconds Engine::Impl::round_trip(const SiteState& site) const {
    nanoseconds shortest = nanoseconds::max();
    for (const Index index : site.targets) {
        const nanoseconds taken = fleet_.targets[index].round_trip;
        if (taken.count() > 0) shortest = std::min(shortest, taken);
    }
    return shortest == nanoseconds::max() ? nanoseconds{0} : shortest;
}

void Engine::Impl::tick_bfd(SiteState& site) {
    if (site.bfd_watch.tick(now_.monotonic)) judge(site);
}

}  // namespace detour::app
