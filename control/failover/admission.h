// How much of its share a site (or a pool in a site) takes: live, dark, held, ramping; and what drains do to
// that.
//
// The state machine behind one switch. It is told what the probes say and whether an operator drained it, and
// answers with `admit`, `admit_mid` and `keep` (DESIGN, Switching):
//
//   dark: admit 0 at once; keep stays until nothing was heard for `strand_after`; admit_mid as before until
//   then
//
//   drained: admit 0, keep stays, admit_mid as it was when the drain began
//
//   ramping: admit grows from 1 % to all over `ramp`, a function of its start; admit_mid 0 until done
//
//   held: answers again after too long in the dark: admit 0 until undrained, or until nothing else can take
//   it
//
// Pure, not thread safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "control/health/now.h"
#include "dataplane/api/plan.h"

namespace detour::failover {

using health::milliseconds;
using health::Monotonic;
using health::Now;
using health::WallTime;

enum class Phase : std::uint8_t { kLive, kRamping, kDark, kHeld };
/// "live", "ramping", "dark", "held".
[[nodiscard]] std::string_view to_string(Phase phase) noexcept;

enum class DrainEnd : std::uint8_t { kOperator, kExpired };

struct AdmissionRules {
    milliseconds ramp{300'000};
    std::optional<milliseconds> strand_after{2'000};          ///< absent: never
    std::optional<milliseconds> auto_return_within{600'000};  ///< absent: nothing is ever held
};

/// The value of a switch, without ids.
struct Gate {
    api::Admit admit = api::kAdmitAll;
    api::Admit admit_mid = api::kAdmitAll;
    bool keep = true;
    bool end_flows = false;  ///< with keep false: a drain's deadline, the site is alive
    bool operator==(const Gate&) const = default;
};

/// The part that outlives a restart.
struct AdmissionRecord {
    Phase phase = Phase::kLive;
    bool stranded = false;
    bool hold_on_return = false;  ///< was dark while drained, or held before: may not come back by itself
    bool bad_answers = false;     ///< dark for answering badly (counts against max_dark_sites)
    bool trickle = false;         ///< dark, but keeps 1 % of its new flows, which show when it is well
    WallTime dark_since;          ///< kDark, kHeld
    WallTime ramp_start;          ///< kRamping
    api::Admit mid_before = api::kAdmitAll;  ///< kDark: admit_mid when it went dark
    bool operator==(const AdmissionRecord&) const = default;
};

/// The smallest admit of a ramp, 1 %: above 0, so that a pool with no other site finds it.
inline constexpr api::Admit kRampFloor{656};
/// Drained "last resort": found only by a pool that has nothing else.
inline constexpr api::Admit kLastResort{1};

/// admit at `now` of a ramp that began at `start`.
[[nodiscard]] api::Admit ramp_admit(WallTime start, milliseconds ramp, WallTime now) noexcept;
/// Time between two updates of a ramp, 250 ms … 1 s.
[[nodiscard]] milliseconds ramp_step(milliseconds ramp) noexcept;

class Admission {
  public:
    /// Takes over what the fast path does now. `stored` is what was kept on disk for it, if anything.
    void adopt(const Gate& in_force, const std::optional<AdmissionRecord>& stored,
               const AdmissionRules& rules, Now now);
    /// From disk, when no fast path knows better.
    void restore(const AdmissionRecord& record, const AdmissionRules& rules, Now now);

    /// Nothing answers (`bad_answers`: something does, but wrongly). No effect when dark already.
    void darken(Now now, bool bad_answers);
    /// The dark site answers probes, but not its clients: it keeps kRampFloor of its new flows, which show
    /// when its way back works again. No effect in other phases.
    void start_trickle() noexcept;
    /// It is silent now: takes nothing.
    void end_trickle(Now now, bool bad_answers) noexcept;
    /// Nobody asks what trickles, so nothing will show that it is well: held. No effect when it does not.
    void hold_trickle() noexcept;
    /// darken() or end_trickle() was a mistake of ours (everything looked dark): as it was before.
    void relight() noexcept;
    /// It answers again. Ramps, or holds when it was dark for too long or drained. A drain of a percentage
    /// holds nothing: the ramp ends at what it leaves.
    void lighten(Now now, const AdmissionRules& rules);
    /// A held one may come back (undrain, or nothing else can take the traffic). No effect in other phases.
    void release(Now now, const AdmissionRules& rules);
    /// At most `left` of its new flows from now on. A drain that is to leave more than the one before is put
    /// in force after undrain().
    void drain(api::Admit left = api::kAdmitNone) noexcept;
    /// The deadline of a whole drain has passed: `keep` goes too. No effect when it is not drained.
    void let_go() noexcept { let_go_ = drained(); }
    /// The drain is over: ramps on from what it left when it is live; stays as it is when dark or held. A
    /// whole one that only expired never lets a dark one come back by itself.
    void undrain(Now now, const AdmissionRules& rules, DrainEnd end);
    /// A probe was answered, or a pinned flow's ACK advanced: the strand clock starts again.
    void sign_of_life(Now now) noexcept;
    /// Moves ramps on, ends them, and strands what has been silent for long enough.
    void tick(Now now, const AdmissionRules& rules);
    /// When tick() has to be called again; kNever when nothing runs.
    [[nodiscard]] Monotonic next(const AdmissionRules& rules, Now now) const noexcept;

    /// What the switch should say; changes only by the calls above.
    [[nodiscard]] Gate gate() const noexcept;
    [[nodiscard]] const AdmissionRecord& record() const noexcept { return record_; }
    [[nodiscard]] Phase phase() const noexcept { return record_.phase; }
    /// Drained whole, or by a part at least.
    [[nodiscard]] bool drained() const noexcept { return limit_ == api::kAdmitNone; }
    [[nodiscard]] bool limited() const noexcept { return limit_ < api::kAdmitAll; }
    [[nodiscard]] api::Admit limit() const noexcept { return limit_; }
    /// How far its ramp has come; all of it when it is on none.
    [[nodiscard]] api::Admit ramped() const noexcept {
        return record_.phase == Phase::kRamping ? reached_ : api::kAdmitAll;
    }
    [[nodiscard]] bool has_let_go() const noexcept { return let_go_; }
    /// Dark with a trickle of new flows.
    [[nodiscard]] bool trickles() const noexcept { return record_.phase == Phase::kDark && record_.trickle; }
    /// Of darken() or end_trickle() in this run; absent when dark was adopted or restored.
    [[nodiscard]] std::optional<Monotonic> dark_at() const noexcept { return dark_at_; }

  private:
    void start_ramp(Now now, const AdmissionRules& rules, api::Admit from = kRampFloor);
    [[nodiscard]] api::Admit mid() const noexcept;

    AdmissionRecord record_;
    std::optional<AdmissionRecord> before_;  ///< what relight() goes back to
    api::Admit limit_ = api::kAdmitAll;      ///< by drains
    bool let_go_ = false;
    api::Admit mid_drained_ = api::kAdmitAll;
    api::Admit reached_ = api::kAdmitAll;  ///< of the ramp; never goes back
    Monotonic next_step_;
    Monotonic quiet_since_;
    std::optional<Monotonic> dark_at_;
};

}  // namespace detour::failover
