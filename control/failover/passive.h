// The way from a site back to its clients, judged by their handshakes: no probe from here can see it.
//
// With direct server return a site's answers leave by its own way to the internet. When that breaks, probes
// succeed and no client's handshake completes. The rule compares with the other sites: of the SYNs that a
// pool sent here, as large a share should complete as of those that it sent elsewhere in the same time. A
// site's way back counts as lost when over some stretch of time up to now
//   - at least kLeastExpected completions were to be expected and less than a tenth of them came,
//   - the same, prefix by prefix, is true of at least kLeastPrefixes client prefixes that knocked early
//   enough
//     to have completed, and of three quarters of all that knocked: what is left may come from few clients or
//     thinly from all,
//   - the same is true without its worst backend and without its worst pool (as far as they can be told): one
//     slow server is not a site.
// What spares a healthy site: with few SYNs nothing is expected; a flood from forged sources lowers the other
// sites' share as well, which counts as the least that chance allows; one from a few sources can't hide that
// the others' clients complete; a pool that no other site serves gives no share to expect. A flood that
// overruns the fast path's memory of recent SYNs hides the handshakes of far sites before those of near ones:
// of a site whose SYNs are mostly forgotten within its handshakes' time nothing is said.
//
// Pure; not thread safe. Times are CLOCK_MONOTONIC.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "control/failover/handshake_history.h"
#include "control/health/now.h"
#include "dataplane/api/types.h"

namespace detour::failover {

inline constexpr double kLeastExpected = 20;
inline constexpr unsigned kLeastPrefixes = 8;
/// Alone, with probes that succeed, the signal has to hold for so long.
inline constexpr health::milliseconds kSignalHold{500};

/// What speaks against a site's way back.
struct Evidence {
    bool lost = false;
    bool held = false;   ///< for kSignalHold at least
    bool blind = false;  ///< it would look lost, but its SYNs are forgotten too soon to tell
    double expected = 0;
    std::uint64_t completed = 0;
    unsigned prefixes = 0;  ///< of which less than a tenth completes
    health::nanoseconds over{0};
    /// "0 of 23 expected handshakes complete in 600 ms, from 14 client prefixes".
    [[nodiscard]] std::string to_string() const;
};

class PassiveSignal {
  public:
    /// Every 100 ms or so. A counter that fell is another fast path: everything before is forgotten.
    void read(HandshakeReading reading, health::Monotonic now) { history_.add(std::move(reading), now); }
    void forget() { history_.forget(); }

    /// From readings that began at `since` or later. `round_trip`: from here to the site and back.
    [[nodiscard]] Evidence evidence(api::SiteId site, health::Monotonic since = {},
                                    health::nanoseconds round_trip = {}) const;
    /// Of the last reading alone.
    [[nodiscard]] std::uint64_t completed(api::SiteId site) const;
    /// What the last reading's SYNs let expect by the other sites' share; a pool that no other site takes
    /// counts in full.
    [[nodiscard]] double expected(api::SiteId site) const;

  private:
    HandshakeHistory history_;
};

/// Watches the trickle of a site whose way back was lost, until it completes. Pure.
class TrickleWatch {
  public:
    /// What the trickle did since the call before.
    void add(double expected, std::uint64_t completed);
    /// At least kEnough handshakes completed, and half of what was to be expected since the first of them.
    [[nodiscard]] bool well() const noexcept;

  private:
    static constexpr std::uint64_t kEnough = 3;
    double expected_ = 0;
    std::uint64_t completed_ = 0;
};

}  // namespace detour::failover
