// Flap damping: a site that keeps going dark has to answer for longer and longer before it comes back.
//
// The first time it comes back at once. The second time in a row it must answer without a miss for `hold`,
// the third time for twice as long, and so on up to `most`. Every `forget` halves the count, so that a quiet
// site is soon trusted again. A hold delays the way back only: going dark is never delayed, and a pool that
// no other site takes does not wait (RFC 2439 is the idea, without its single penalty for both directions).
// Pure, not thread safe.
#pragma once

#include <chrono>

#include "control/health/now.h"

namespace detour::failover {

struct FlapRules {
    std::chrono::milliseconds hold{10'000};     ///< 0: no damping
    std::chrono::milliseconds most{600'000};    ///< at least `hold`
    std::chrono::milliseconds forget{600'000};  ///< above 0
};

class Flaps {
  public:
    Flaps() = default;
    /// As noted() and at() were before a restart.
    Flaps(double noted, health::WallTime at) : count_(noted), at_(at) {}
    /// It went dark.
    void note(const FlapRules& rules, health::WallTime now);
    /// How often in a row, lately.
    [[nodiscard]] double count(const FlapRules& rules, health::WallTime now) const;
    /// How long it must answer before it comes back.
    [[nodiscard]] std::chrono::milliseconds hold(const FlapRules& rules, health::WallTime now) const;
    /// The last note was a mistake of ours.
    void take_back();
    /// The count as of at(), for the disk.
    [[nodiscard]] double noted() const noexcept { return count_; }
    [[nodiscard]] health::WallTime at() const noexcept { return at_; }
    bool operator==(const Flaps&) const = default;

  private:
    double count_ = 0;   ///< at `at_`
    double before_ = 0;  ///< the last note
    health::WallTime at_;
};

}  // namespace detour::failover
