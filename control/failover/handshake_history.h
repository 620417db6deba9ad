// The fast path's handshake counters at its last readings, as running sums.
//
// Kept for each backend, each part (a pool in a site), each pool and each site, so that what came in between
// two readings is one subtraction, however many pools and backends there are. About 8 bytes for each backend
// and reading, twice that where each is a part of its own. Adding a reading is one pass over the backends;
// when their set changes, one over all that is kept.
//
// Pure; not thread safe. Times are CLOCK_MONOTONIC. Counters wrap at 2^32: only differences mean anything.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "control/health/now.h"
#include "dataplane/api/limits.h"
#include "dataplane/api/types.h"

namespace detour::failover {

/// Of one backend, since the fast path's start.
struct HandshakeCount {
    api::BackendId backend;
    api::PoolId pool;
    api::SiteId site;
    std::uint64_t syns = 0;       ///< repeats not counted
    std::uint64_t completed = 0;  ///< handshakes
};

/// By client prefix, hashed; these wrap.
struct PrefixCounts {
    std::array<std::uint32_t, api::kPrefixBuckets> syns{};
    std::array<std::uint32_t, api::kPrefixBuckets> completed{};
};

/// Of one site, since the fast path's start.
struct SiteCount {
    api::SiteId site;
    PrefixCounts prefixes;
    std::uint64_t forgotten = 0;     ///< SYNs that the fast path had no room to remember for a second
    std::uint64_t forgotten_ms = 0;  ///< for how long it did, summed
};

struct HandshakeReading {
    std::vector<HandshakeCount> backends;  ///< ascending by id; one that is absent has counted nothing yet
    std::vector<SiteCount> sites;
};

struct Tally {
    std::uint32_t syns = 0;
    std::uint32_t completed = 0;
    Tally& operator+=(const Tally& more) noexcept {
        syns += more.syns;
        completed += more.completed;
        return *this;
    }
    Tally operator-(const Tally& less) const noexcept {
        return {syns - less.syns, completed - less.completed};
    }
};

class HandshakeHistory {
  public:
    using Index = std::uint32_t;
    struct Part {
        Index pool = 0;
        Index site = 0;
        Index first = 0, end = 0;  ///< its backends
    };
    /// All counters at one reading, by index.
    struct Moment {
        health::Monotonic at;
        std::vector<Tally> backends, parts, pools, sites;
        std::vector<SiteCount> counts;  ///< of sites
    };

    /// A reading that is not later than the last one is left out. A counter that fell is another fast path:
    /// everything before is forgotten.
    void add(HandshakeReading reading, health::Monotonic now);
    void forget();

    /// Readings after the first.
    [[nodiscard]] std::size_t steps() const noexcept { return moments_.empty() ? 0 : moments_.size() - 1; }
    /// So many readings before the last; at most steps().
    [[nodiscard]] const Moment& back(std::size_t readings) const noexcept {
        return moments_[moments_.size() - 1 - readings];
    }
    /// Absent: no backend of it has counted anything.
    [[nodiscard]] std::optional<Index> site(api::SiteId id) const noexcept;
    /// Of a site, and the index of the first one.
    [[nodiscard]] Index first_part(Index site) const noexcept { return first_part_[site]; }
    [[nodiscard]] Index end_part(Index site) const noexcept { return first_part_[site + 1]; }
    [[nodiscard]] const Part& part(Index index) const noexcept { return parts_[index]; }

  private:
    enum class Change : std::uint8_t { kNone, kBackends, kFell };
    [[nodiscard]] Change compare(const HandshakeReading& reading) const noexcept;
    void lay_out(const HandshakeReading& reading);
    void make_parts(const HandshakeReading& reading, const std::vector<Index>& order);
    void carry_over(const HandshakeReading& reading, const std::vector<Index>& before);
    void fill(Moment& moment, const HandshakeReading& reading, health::Monotonic now) const;
    void sum_up(Moment& moment) const;

    // Where each is: backends by site, pool and id; parts and sites in the same order.
    std::vector<Index> slots_;  ///< of a reading's backends
    std::vector<Part> parts_;
    std::vector<Index> first_part_;  ///< of each site, and one more
    std::vector<api::SiteId> sites_;
    std::size_t pools_ = 0;

    std::deque<Moment> moments_;  ///< oldest first
    Moment spare_;                ///< memory of one that went
    HandshakeReading last_;
};

}  // namespace detour::failover
