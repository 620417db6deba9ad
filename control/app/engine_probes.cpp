// What to probe when, what came of it, and bursts.
#include <fmt/chrono.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "control/app/engine_impl.h"

namespace detour::app {

using health::Monotonic;
using health::nanoseconds;
using health::State;

namespace {
/// Bounds on the work of one call and on what waits for answers.
constexpr std::size_t kProbesPerCall = 256;
constexpr std::uint32_t kInFlightPerBackend = 8;
constexpr std::size_t kBurstBackends = 16;
/// A probe whose result never came is forgotten this long after its timeout.
constexpr std::chrono::seconds kLostAfter{5};
}  // namespace

void Engine::Impl::schedule_all() {
    due_.clear();
    for (Index i = 0; i < fleet_.targets.size(); ++i) {
        if (fast(fleet_.targets[i]))
            due_.set(i, now_.monotonic);
        else
            back_to_grid(i);
    }
}

/// In a hurry: misses began and it is not clear yet, or its site's burst wants to know.
bool Engine::Impl::fast(const Target& target) const {
    if (target.state.state() == State::kDown) return false;
    return target.burst || target.state.misses() > 0;
}

void Engine::Impl::back_to_grid(Index index) {
    const Target& target = fleet_.targets[index];
    const Monotonic turn = health::next_on_grid(now_.monotonic, target.health->interval, target.phase);
    due_.set(index, turn + health::jitter_of(*target.health, target.phase ^ serial_));
}

void Engine::Impl::send_due() {
    for (std::size_t sent = 0; sent < kProbesPerCall; ++sent) {
        const auto next = due_.pop(now_.monotonic);
        if (!next) return;
        send(next->first, next->second);
    }
}

void Engine::Impl::send(Index index, Monotonic due) {
    Target& target = fleet_.targets[index];
    // After a stop, all are overdue at once: their turns come again within one interval, spread as ever.
    if (now_.monotonic - due >= target.health->interval) {
        ++shed_;
        return back_to_grid(index);
    }
    if (fast(target)) {
        const Monotonic next = due + target.health->fast_interval;
        due_.set(index, next > now_.monotonic ? next : now_.monotonic + target.health->fast_interval);
    } else {
        back_to_grid(index);
    }
    // Shed rather than pile up: a probe that was not sent is no failure.
    if (target.in_flight >= kInFlightPerBackend) {
        ++shed_;
        return;
    }
    ++target.in_flight;
    const std::uint64_t serial = ++serial_;
    in_flight_[serial] = {index, now_.monotonic, target.vip_turn};
    out_.probes.push_back({target.id, serial, target.address, target.health, tunnel_of(target)});
}

void Engine::Impl::forget_lost() {
    while (!in_flight_.empty()) {
        const auto oldest = in_flight_.begin();
        Target& target = fleet_.targets[oldest->second.target];
        if (now_.monotonic - oldest->second.sent <= target.health->timeout + nanoseconds(kLostAfter)) return;
        if (target.in_flight > 0) --target.in_flight;
        in_flight_.erase(oldest);
    }
}

Actions Engine::Impl::on_probe(std::uint64_t serial, const health::Outcome& outcome, Now now) {
    begin(now);
    const auto found = in_flight_.find(serial);
    if (found == in_flight_.end()) {
        (void)on_ready(serial, outcome);
        return finish();
    }
    const auto [index, sent, vip_turn] = found->second;
    in_flight_.erase(found);
    Target& target = fleet_.targets[index];
    SiteState& site = fleet_.sites[target.site];
    if (target.in_flight > 0) --target.in_flight;
    if (outcome.cause == health::Cause::kNotSent) return finish();

    record(target, outcome, sent);
    target.turn_vip(vip_turn, outcome.cause == health::Cause::kOk);
    warn_of_certificate(target, outcome);
    const bool ok = outcome.cause == health::Cause::kOk;
    if (ok && fail_static_) leave_static();
    const State before = target.state.state();
    const bool answered = health::answered(target.state.last());
    const bool was_fast = fast(target);
    const auto step = target.state.on_result(outcome.cause, serial, {target.health->fall, rise_of(target)});
    if (step.first_miss && target.state.state() != State::kDown) {
        if (before == State::kUp) event(EventKind::kProbeMissed, target, told(target, outcome));
        due_.set(index, now.monotonic);
        start_burst(site, target.address.to_string() + ": " + told(target, outcome));
    }
    if (step.changed) {
        on_changed(index, before);
    } else if (before == State::kDown && health::answered(target.state.last()) != answered) {
        mark_target(index);  // panic asks who answers at all
    }
    // Down, but not silent: a server that answers 503 to leave in good order keeps the flows that it has.
    if (target.state.state() == State::kDown && !target.stranded && health::served(outcome.cause))
        strands_.set(index, now.monotonic + config_.failover.strand_after);
    if (site.burst) check_burst(site);
    const bool dark = site.admission.phase() == failover::Phase::kDark;
    if (step.changed || dark || !site.refused.empty()) judge(site);
    if (ok) on_answer(site);
    if (was_fast && !fast(target)) back_to_grid(index);
    return finish();
}

void Engine::Impl::record(Target& target, const health::Outcome& outcome, Monotonic sent) {
    target.last = outcome;
    ++target.probes;
    // A bad answer is an answer too: whether it takes the site away is the rails' matter, not BFD's.
    if (health::answered(outcome.cause)) fleet_.sites[target.site].bfd_watch.answered(sent);
    if (health::served(outcome.cause)) fleet_.sites[target.site].admission.sign_of_life(now_);
    if (outcome.cause != health::Cause::kOk) {
        ++target.misses;
        return;
    }
    target.round_trip = outcome.round_trip;
    target.answered_sent = std::max(target.answered_sent, sent);
}

/// Once for each backend and certificate.
void Engine::Impl::warn_of_certificate(Target& target, const health::Outcome& outcome) {
    const std::chrono::days warn(target.health->warn_days);
    if (!outcome.certificate_end || warn.count() == 0 || target.warned_end == outcome.certificate_end) return;
    const auto end = *outcome.certificate_end;
    const auto left = end.time_since_epoch() - std::chrono::floor<std::chrono::seconds>(now_.wall.value);
    if (left > warn || left.count() <= 0) return;
    target.warned_end = end;
    event(EventKind::kAlarm, target,
          fmt::format("certificate ends at {:%Y-%m-%d %H:%M} UTC, in {} days",
                      fmt::gmtime(std::chrono::system_clock::to_time_t(end)), left / std::chrono::days(1)));
}

void Engine::Impl::on_changed(Index index, State before) {
    Target& target = fleet_.targets[index];
    const State after = target.state.state();
    target.since = now_.wall;
    const EventKind kind = after == State::kUp ? EventKind::kBackendUp : EventKind::kBackendDown;
    Event& value = event(kind, target, told(target, target.last));
    value.from = health::to_string(before);
    value.to = health::to_string(after);
    target.fresh = false;
    const bool lit = fleet_.sites[target.site].admission.phase() != failover::Phase::kDark;
    if (lit && after == State::kDown && before == State::kUp) target.flaps.note(flap_rules(), now_.wall);
    if (after == State::kUp) {
        target.stranded = false;
        strands_.remove(index);
    } else {
        strands_.set(index, now_.monotonic + config_.failover.strand_after);
    }
    mark_target(index);
}

void Engine::Impl::start_burst(SiteState& site, const std::string& reason) {
    const bool gone = site.admission.phase() == failover::Phase::kDark && !site.admission.trickles();
    if (site.burst || fail_static_ || gone) return;
    std::vector<Index> members;
    for (const Index index : site.targets) {
        if (fleet_.targets[index].state.state() != State::kDown) members.push_back(index);
    }
    if (members.empty()) return;
    // Spread over the pools: by the backends' own phases, which are as good as random.
    std::sort(members.begin(), members.end(),
              [&](Index a, Index b) { return fleet_.targets[a].phase < fleet_.targets[b].phase; });
    if (members.size() > kBurstBackends) members.resize(kBurstBackends);
    nanoseconds longest{0};
    for (const Index index : members) {
        Target& target = fleet_.targets[index];
        target.burst = true;
        due_.set(index, now_.monotonic);
        const config::Health& health = *target.health;
        longest = std::max(longest, nanoseconds(health.fast_interval * health.fall + health.timeout));
    }
    site.burst = true;
    site.burst_start = now_.monotonic;
    site.burst_end = now_.monotonic + 2 * longest;
    event(EventKind::kSuspect, site, reason);
    site.dirty = true;
}

/// Where all are down and no burst can be: a bad answer is an answer too.
void Engine::Impl::ask_at_once(const SiteState& site) {
    for (std::size_t i = 0; i < std::min(site.targets.size(), kBurstBackends); ++i)
        due_.set(site.targets[i], now_.monotonic);
}

/// Ends the burst when each member has answered a probe of it or is down; takes the verdict as soon as it is
/// clear.
void Engine::Impl::check_burst(SiteState& site) {
    const bool open = std::any_of(site.targets.begin(), site.targets.end(), [&](Index index) {
        const Target& target = fleet_.targets[index];
        return target.burst && target.state.state() != State::kDown &&
               target.answered_sent < site.burst_start;
    });
    if (open && now_.monotonic < site.burst_end) return;
    judge(site);
    if (site.burst) end_burst(site);
}

void Engine::Impl::end_burst(SiteState& site) {
    site.burst = false;
    for (const Index index : site.targets) {
        Target& target = fleet_.targets[index];
        if (!target.burst) continue;
        target.burst = false;
        if (started_ && !fast(target)) back_to_grid(index);
    }
    mark(site);
}

}  // namespace detour::app
