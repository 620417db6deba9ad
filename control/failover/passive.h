// The way from a site back to its clients, judged by their handshakes: no probe from here can see it.
//
// With direct server return a site's answers leave by its own way to the internet. When that breaks, probes
// succeed and no client's handshake completes. The rule compares with the other sites: of the SYNs that a
// pool sent here, as large a share should complete as of those that it sent elsewhere in the same time. A
// site's way back counts as lost when over some stretch of time up to now
//   - at least kLeastExpected completions were to be expected and less than a tenth of them came,
//   - of the client prefixes that knocked, at least kLeastPrefixes completed nothing within 0.3 s,
//   - and no more than those complete in the last reading,
//   - the same is true without its worst backend and without its worst pool (as far as they can be told): one
//     slow server is not a site.
// What spares a healthy site: with few SYNs nothing is expected; a flood from forged sources lowers the other
// sites' share as well, which counts as the least that chance allows; one from a few sources can't hide that
// the others' clients complete; a pool that no other site serves gives no share to expect.
//
// Pure; not thread safe. Times are CLOCK_MONOTONIC.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/health/now.h"
#include "dataplane/api/types.h"

namespace detour::failover {

inline constexpr double kLeastExpected = 20;
inline constexpr unsigned kLeastPrefixes = 8;
/// Alone, with probes that succeed, the signal has to hold for so long.
inline constexpr health::milliseconds kSignalHold{500};

/// Of one backend, since the fast path's start.
struct HandshakeCount {
    api::BackendId backend;
    api::PoolId pool;
    api::SiteId site;
    std::uint64_t syns = 0;       ///< repeats not counted
    std::uint64_t completed = 0;  ///< handshakes
};

/// Client prefixes, hashed to 64 bits, of the last moments before a reading.
struct PrefixSets {
    std::uint64_t knocked = 0;    ///< that sent a SYN
    std::uint64_t completed = 0;  ///< that completed a handshake
};

struct HandshakeReading {
    std::vector<HandshakeCount> backends;  ///< ascending by id; one that is absent has counted nothing yet
    std::map<api::SiteId, PrefixSets> prefixes;
};

/// What speaks against a site's way back.
struct Evidence {
    bool lost = false;
    bool held = false;  ///< for kSignalHold at least
    double expected = 0;
    std::uint64_t completed = 0;
    unsigned prefixes = 0;  ///< that complete nothing
    health::nanoseconds over{0};
    /// "0 of 23 expected handshakes complete in 600 ms, from 14 client prefixes".
    [[nodiscard]] std::string to_string() const;
};

class PassiveSignal {
  public:
    /// Every 100 ms or so. A counter that fell is another fast path: everything before is forgotten.
    void read(HandshakeReading reading, health::Monotonic now);
    void forget();

    /// From readings that began at `since` or later.
    [[nodiscard]] Evidence evidence(api::SiteId site, health::Monotonic since = {}) const;
    /// Of the last reading alone.
    [[nodiscard]] std::uint64_t completed(api::SiteId site) const;
    /// What the last reading's SYNs let expect by the other sites' share; a pool that no other site takes
    /// counts in full.
    [[nodiscard]] double expected(api::SiteId site) const;

  private:
    struct Tally {
        std::uint64_t syns = 0;
        std::uint64_t completed = 0;
        Tally& operator+=(const Tally& more) {
            syns += more.syns;
            completed += more.completed;
            return *this;
        }
    };
    using Part = std::pair<api::PoolId, api::SiteId>;
    /// What one reading added.
    struct Step {
        health::Monotonic begin;
        health::Monotonic end;
        std::vector<HandshakeCount> backends;  ///< those with anything new
        std::map<Part, Tally> parts;
        std::map<api::SiteId, Tally> sites;
        std::map<api::SiteId, PrefixSets> prefixes;
    };
    struct Share {
        double expected = 0;
        double completed = 0;
    };

    [[nodiscard]] static std::optional<Step> difference(const HandshakeReading& before,
                                                        const HandshakeReading& now);
    [[nodiscard]] PrefixSets prefixes_of(std::size_t step, api::SiteId site) const;
    [[nodiscard]] std::uint64_t failing(std::size_t steps, api::SiteId site) const;
    [[nodiscard]] Evidence over_last(std::size_t steps, api::SiteId site) const;
    [[nodiscard]] std::map<api::PoolId, double> ratios(std::size_t steps, api::SiteId except) const;
    [[nodiscard]] bool without_worst(std::size_t steps, api::SiteId site,
                                     const std::map<api::PoolId, double>& ratios) const;

    std::deque<Step> steps_;  ///< oldest first
    HandshakeReading last_;
    health::Monotonic last_at_;
    bool known_ = false;
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
