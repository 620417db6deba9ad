// What a site's BFD sessions say of it, and whether a probe contradicts them.
//
// A session that never came up is unknown, not down, and so is one that the router's operator switched off
// (RFC 5882 section 3.2). When every session that is known is down, probes get the confirm time to be
// answered; if none is, the site is dark. If one is, the sessions have lost their say until one of them came
// up again: it is BFD that is broken, and probes decide alone. Pure; not thread safe.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "control/health/now.h"

namespace detour::failover {

enum class BfdPath : std::uint8_t {
    kUnknown,  ///< never came up, or switched off at the other end
    kUp,
    kDown,
};
/// "unknown", "up", "down".
[[nodiscard]] std::string_view to_string(BfdPath path) noexcept;

class BfdWatch {
  public:
    /// After a session changed; `paths` are the site's. True when the confirm time begins now: start a burst.
    [[nodiscard]] bool update(std::span<const BfdPath> paths, health::Monotonic now,
                              health::nanoseconds confirm) noexcept;
    /// A probe of the site was answered. One that was sent before the sessions were down says nothing: its
    /// answer may have waited here since before the failure.
    void answered(health::Monotonic sent) noexcept;
    /// True when the site became dark by this call. A call that comes late by half the confirm time or more
    /// begins it anew: answers may wait behind it.
    [[nodiscard]] bool tick(health::Monotonic now) noexcept;
    /// When tick() is due; kNever when nothing runs.
    [[nodiscard]] health::Monotonic next() const noexcept;

    /// All sessions are down and nobody answered.
    [[nodiscard]] bool dark() const noexcept { return phase_ == Phase::kDark; }

  private:
    enum class Phase : std::uint8_t { kQuiet, kConfirming, kContradicted, kDark };

    Phase phase_ = Phase::kQuiet;
    health::Monotonic began_;
    health::Monotonic end_;
    health::nanoseconds confirm_{0};
};

}  // namespace detour::failover
