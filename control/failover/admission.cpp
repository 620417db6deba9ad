#include "control/failover/admission.h"

#include <algorithm>

namespace detour::failover {

std::string_view to_string(Phase phase) noexcept {
    switch (phase) {
        case Phase::kLive:
            return "live";
        case Phase::kRamping:
            return "ramping";
        case Phase::kDark:
            return "dark";
        case Phase::kHeld:
            return "held";
    }
    return "unknown";
}

api::Admit ramp_admit(WallTime start, milliseconds ramp, WallTime now) noexcept {
    const health::nanoseconds whole = ramp;
    const health::nanoseconds passed = now - start;
    if (passed >= whole) return api::kAdmitAll;
    if (passed.count() <= 0) return kRampFloor;
    const double part = static_cast<double>(passed.count()) / static_cast<double>(whole.count());
    const auto admit = static_cast<std::uint16_t>(part * static_cast<double>(api::kAdmitAll.value()));
    return std::max(kRampFloor, api::Admit{admit});
}

namespace {

/// How long a ramp takes to come to `admit`.
health::nanoseconds time_to(api::Admit admit, milliseconds ramp) noexcept {
    const double part = static_cast<double>(admit.value()) / api::kAdmitAll.value();
    const auto whole = static_cast<double>(health::nanoseconds(ramp).count());
    return health::nanoseconds(static_cast<std::int64_t>(part * whole));
}

}  // namespace

milliseconds ramp_step(milliseconds ramp) noexcept {
    return std::clamp(ramp / 400, milliseconds{250}, milliseconds{1000});
}

void Admission::adopt(const Gate& in_force, const std::optional<AdmissionRecord>& stored,
                      const AdmissionRules& rules, Now now) {
    const bool stored_out = stored && (stored->phase == Phase::kDark || stored->phase == Phase::kHeld);
    record_ = {};
    before_.reset();
    dark_at_.reset();
    quiet_since_ = now.monotonic;
    if (!in_force.keep || in_force.admit == api::kAdmitNone) {
        // Out of service. A drained one is live below the drain, unless the disk or a missing `keep` say
        // otherwise; but a drain past its deadline takes `keep` as well.
        const bool stranded = !in_force.keep && !let_go_;
        if (stored_out) record_ = *stored;
        if (!stored_out && (!drained() || stranded)) {
            record_.phase = Phase::kDark;
            record_.dark_since = now.wall;
            record_.mid_before = in_force.admit_mid;
        }
        record_.stranded = stranded;
        if (stranded) record_.phase = Phase::kDark;
    } else if (stored && stored->phase == Phase::kDark && stored->trickle && in_force.admit <= kRampFloor) {
        record_ = *stored;
    } else if (in_force.admit < limit_) {
        record_.phase = Phase::kRamping;
        record_.ramp_start = now.wall + -time_to(in_force.admit, rules.ramp);
        if (stored && stored->phase == Phase::kRamping) record_.ramp_start = stored->ramp_start;
        reached_ = in_force.admit;
        next_step_ = now.monotonic;
    }
    if (limited() && !let_go_) mid_drained_ = in_force.admit_mid;
}

void Admission::restore(const AdmissionRecord& record, const AdmissionRules& rules, Now now) {
    record_ = record;
    quiet_since_ = now.monotonic;
    next_step_ = now.monotonic;
    if (record_.phase == Phase::kRamping) reached_ = ramp_admit(record_.ramp_start, rules.ramp, now.wall);
}

api::Admit Admission::mid() const noexcept {
    switch (record_.phase) {
        case Phase::kDark:
            return record_.stranded ? api::kAdmitNone : record_.mid_before;
        case Phase::kHeld:
        case Phase::kRamping:
            return api::kAdmitNone;
        case Phase::kLive:
            return limited() ? mid_drained_ : api::kAdmitAll;
    }
    return api::kAdmitAll;
}

Gate Admission::gate() const noexcept {
    Gate gate;
    gate.admit_mid = let_go_ ? api::kAdmitNone : mid();
    gate.keep = !record_.stranded && !let_go_;
    gate.end_flows = let_go_ && !record_.stranded;
    gate.admit = limit_;
    if (trickles())
        gate.admit = std::min(limit_, kRampFloor);
    else if (record_.phase == Phase::kDark || record_.phase == Phase::kHeld)
        gate.admit = api::kAdmitNone;
    else if (record_.phase == Phase::kRamping)
        gate.admit = std::min(limit_, reached_);
    return gate;
}

void Admission::darken(Now now, bool bad_answers) {
    if (record_.phase == Phase::kDark) return;
    const api::Admit mid_before = mid();
    before_ = record_;
    const bool hold = drained() || record_.phase == Phase::kHeld;
    record_ = {};
    record_.phase = Phase::kDark;
    record_.hold_on_return = hold;
    record_.bad_answers = bad_answers;
    record_.dark_since = now.wall;
    record_.mid_before = mid_before;
    dark_at_ = now.monotonic;
    quiet_since_ = now.monotonic;
}

void Admission::start_trickle() noexcept {
    if (record_.phase != Phase::kDark || record_.stranded) return;
    record_.trickle = true;
    record_.bad_answers = true;  // it is not silent
}

void Admission::end_trickle(Now now, bool bad_answers) noexcept {
    if (!trickles()) return;
    before_ = record_;
    dark_at_ = now.monotonic;
    record_.trickle = false;
    record_.bad_answers = bad_answers;
}

void Admission::hold_trickle() noexcept {
    if (!trickles()) return;
    before_.reset();
    dark_at_.reset();
    record_.trickle = false;
    record_.phase = Phase::kHeld;
}

void Admission::relight() noexcept {
    if (record_.phase != Phase::kDark || !before_) return;
    record_ = *before_;
    before_.reset();
    dark_at_.reset();
}

void Admission::lighten(Now now, const AdmissionRules& rules) {
    if (record_.phase != Phase::kDark) return;
    before_.reset();
    dark_at_.reset();
    record_.stranded = false;
    record_.trickle = false;
    const bool may_hold = rules.auto_return_within.has_value();
    const bool too_long = may_hold && now.wall - record_.dark_since > *rules.auto_return_within;
    if (may_hold && (drained() || record_.hold_on_return || too_long)) {
        record_.phase = Phase::kHeld;
    } else {
        start_ramp(now, rules);
    }
}

void Admission::release(Now now, const AdmissionRules& rules) {
    if (record_.phase == Phase::kHeld || trickles()) start_ramp(now, rules);
}

void Admission::start_ramp(Now now, const AdmissionRules& rules, api::Admit from) {
    record_ = {};
    if (rules.ramp.count() <= 0) return;
    record_.phase = Phase::kRamping;
    record_.ramp_start = now.wall;
    reached_ = std::max(from, kRampFloor);
    if (reached_ > kRampFloor) record_.ramp_start = now.wall + -time_to(reached_, rules.ramp);
    next_step_ = now.monotonic + ramp_step(rules.ramp);
}

void Admission::drain(api::Admit left) noexcept {
    if (!limited()) mid_drained_ = mid();
    limit_ = left;
    if (record_.phase == Phase::kRamping && reached_ >= left) record_ = {};
}

void Admission::undrain(Now now, const AdmissionRules& rules, DrainEnd end) {
    if (!limited()) return;
    const api::Admit before = gate().admit;
    const bool whole = drained();
    limit_ = api::kAdmitAll;
    let_go_ = false;
    if (record_.phase == Phase::kDark && whole) record_.hold_on_return = end == DrainEnd::kExpired;
    // A ramp that went on above what the drain left goes on from there: no flow moves at once.
    const bool beyond = record_.phase == Phase::kRamping && reached_ > before;
    if (record_.phase == Phase::kLive || beyond) start_ramp(now, rules, before);
}

void Admission::sign_of_life(Now now) noexcept {
    quiet_since_ = now.monotonic;
}

void Admission::tick(Now now, const AdmissionRules& rules) {
    const bool over = now.wall - record_.ramp_start >= rules.ramp;
    if (record_.phase == Phase::kRamping && (over || now.monotonic >= next_step_)) {
        // A clock that was set back may slow a ramp, but not stop it for hours, and never turns it round.
        if (now.wall < record_.ramp_start) record_.ramp_start = now.wall;
        reached_ = std::max(reached_, ramp_admit(record_.ramp_start, rules.ramp, now.wall));
        next_step_ = now.monotonic + ramp_step(rules.ramp);
        if (reached_ == api::kAdmitAll) {
            record_ = {};
            mid_drained_ = api::kAdmitAll;
        }
    }
    // A trickle ends when nothing answers (end_trickle), not when nobody asked for a while.
    if (record_.phase == Phase::kDark && !record_.stranded && !record_.trickle && rules.strand_after &&
        now.monotonic - quiet_since_ >= *rules.strand_after) {
        record_.stranded = true;
    }
}

Monotonic Admission::next(const AdmissionRules& rules, Now now) const noexcept {
    if (record_.phase == Phase::kRamping) {
        const health::nanoseconds left = record_.ramp_start + rules.ramp - now.wall;
        return std::min(next_step_, now.monotonic + std::max(left, health::nanoseconds{0}));
    }
    if (record_.phase == Phase::kDark && !record_.stranded && !record_.trickle && rules.strand_after) {
        return quiet_since_ + *rules.strand_after;
    }
    return health::kNever;
}

}  // namespace detour::failover
