// How much of its share a site (or a pool in a site) takes: live, dark, held, ramping; and what drains do to
// that.
//
// The state machine behind one switch. It is told what the probes say and whether an operator drained it, and
// answers with `admit`, `admit_mid` and `keep` (DESIGN, Switching):
//   dark      admit 0 at once; keep stays until nothing was heard for `strand_after`; admit_mid as before
//   until then drained   admit 0, keep stays, admit_mid as it was when the drain began ramping   admit grows
//   from 1 % to all over `ramp`, a function of a shared start; admit_mid 0 until done held      answers again
//   after too long in the dark: admit 0 until undrained, or until nothing else can take it
// Pure, not thread safe.
#pragma once

#include <cstdint>
#include <optional>

#include "control/health/now.h"
#include "dataplane/api/plan.h"

namespace detour::failover {

using health::Monotonic;
using health::Now;
using health::WallTime;
using std::chrono::milliseconds;

enum class Phase : std::uint8_t { kLive, kRamping, kDark, kHeld };

struct AdmissionRules {
    milliseconds ramp{300'000};
    milliseconds strand_after{2'000};
    milliseconds auto_return_within{600'000};
};

/// The value of a switch, without ids.
struct Gate {
    api::Admit admit = api::kAdmitAll;
    api::Admit admit_mid = api::kAdmitAll;
    bool keep = true;
    bool operator==(const Gate&) const = default;
};

/// The part that outlives a restart.
struct AdmissionRecord {
    Phase phase = Phase::kLive;
    bool stranded = false;
    bool hold_on_return = false;             ///< was dark under a drain: may not come back by itself
    bool bad_answers = false;                ///< dark for answering badly (counts against max_dark_sites)
    WallTime dark_since;                     ///< kDark, kHeld
    WallTime ramp_start;                     ///< kRamping
    api::Admit mid_before = api::kAdmitAll;  ///< admit_mid when it went dark or was drained
    bool operator==(const AdmissionRecord&) const = default;
};

/// The smallest admit of a ramp, 1 %: above 0, so that a pool with no other site finds it.
inline constexpr api::Admit kRampFloor{656};
/// Drained "last resort": found only by a pool that has nothing else.
inline constexpr api::Admit kLastResort{1};

/// admit at `now` of a ramp that began at `start`.
[[nodiscard]] api::Admit ramp_admit(WallTime start, milliseconds ramp, WallTime now) noexcept;

class Admission {
  public:
    /// Takes over what the fast path does now. `stored` is what was kept on disk for it, if anything.
    void adopt(const Gate& in_force, const std::optional<AdmissionRecord>& stored, bool drained,
               const AdmissionRules& rules, Now now);
    void restore(const AdmissionRecord& record) noexcept { record_ = record; }
    [[nodiscard]] const AdmissionRecord& record() const noexcept { return record_; }
    [[nodiscard]] Phase phase() const noexcept { return record_.phase; }
    [[nodiscard]] bool drained() const noexcept { return drained_; }

    /// Nothing answers (`bad_answers`: something does, but wrongly). No effect when dark already.
    void darken(Now now, bool bad_answers);
    /// It was a mistake of ours (everything looked dark): as before darken().
    void relight() noexcept;
    /// It answers again. Ramps, or holds when it was dark for too long or under a drain.
    void lighten(Now now, const AdmissionRules& rules);
    /// A held one may come back (undrain, or nothing else can take the traffic).
    void release(Now now, const AdmissionRules& rules);
    void drain();
    /// Drain over. Ramps back, or stays dark or held; false when it stays.
    bool undrain(Now now, const AdmissionRules& rules);
    /// A probe was answered, or a pinned flow's ACK advanced: the strand clock starts again, keep returns.
    void sign_of_life(Now now) noexcept;
    /// Ends ramps and strands what has been silent for long enough. True when something changed.
    bool tick(Now now, const AdmissionRules& rules);

    /// What the switch should say now.
    [[nodiscard]] Gate gate(const AdmissionRules& rules, WallTime now) const noexcept;
    /// When tick() has to be called again; kNever when nothing runs.
    [[nodiscard]] Monotonic next(const AdmissionRules& rules, Now now) const noexcept;
    /// Monotonic time of darken(), for "how long ago" within one run.
    [[nodiscard]] Monotonic dark_at() const noexcept { return dark_at_; }

  private:
    AdmissionRecord record_;
    bool drained_ = false;
    api::Admit mid_drained_ = api::kAdmitAll;
    Monotonic dark_at_;
    Monotonic quiet_since_;
};

}  // namespace detour::failover
