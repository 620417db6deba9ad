// Sites, pools and backends as the engine works with them: the configuration, its ids and what was seen so
// far.
//
// Arrays joined by indices, rebuilt as a whole by a reload; what was seen is carried over by name (site by
// key, pool by any of its VIPs, backend by pool and address). Private to the engine. Not thread safe.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/model.h"
#include "control/app/switchboard.h"
#include "control/failover/admission.h"
#include "control/failover/bfd_watch.h"
#include "control/failover/capacity.h"
#include "control/failover/flap.h"
#include "control/failover/healthy.h"
#include "control/failover/passive.h"
#include "control/failover/single_writer.h"
#include "control/failover/verdict.h"
#include "control/health/rise_fall.h"
#include "control/plan/ids.h"

namespace detour::app {

using Index = std::uint32_t;

/// What of a target its part counts, and the sum of that over a part's targets.
struct Tally {
    std::uint32_t up = 0, down = 0, unknown = 0;
    std::uint32_t drained = 0;
    std::uint32_t weighted = 0;        ///< targets with a weight
    std::uint32_t available = 0;       ///< weighted, not down, not drained, not fresh
    std::uint32_t unproven = 0;        ///< weighted, fresh and not known yet
    std::uint32_t up_available = 0;    ///< weighted, up, not drained
    std::uint32_t in_use = 0;          ///< weighted, not drained
    std::uint32_t bad_answers = 0;     ///< of those: down, but their last probe was answered
    std::uint32_t down_answering = 0;  ///< the same of all targets
    std::uint64_t weight_in_use = 0;
    std::uint64_t weight_available = 0;
    Tally& operator+=(const Tally& more) noexcept;
    Tally& operator-=(const Tally& less) noexcept;
};

/// One backend of one pool.
struct Target {
    api::BackendId id;
    Index pool = 0;
    Index site = 0;
    Index part = 0;
    api::IpAddress address;
    std::uint32_t weight = 0;
    std::shared_ptr<const config::Health> health;
    std::uint64_t phase = 0;     ///< where in its interval it is probed
    std::uint32_t vip_turn = 0;  ///< through the tunnel: which VIP is asked next

    health::RiseFall state;
    health::Outcome last;
    health::nanoseconds round_trip{0};
    std::uint64_t probes = 0;
    std::uint64_t misses = 0;
    health::WallTime since;
    health::Monotonic answered_sent{health::nanoseconds::min()};  ///< when the last answered probe was sent
    std::uint32_t in_flight = 0;
    std::optional<std::chrono::sys_seconds> warned_end;  ///< of the certificate that an alarm was raised for
    bool burst = false;                                  ///< member of its site's burst
    bool drained = false;
    bool let_go = false;    ///< drained, and its deadline has passed
    BackendFlags judged;    ///< what automation last said, drains left out
    bool stranded = false;  ///< its pinned flows were let go
    bool fresh = false;     ///< new here, or its site came back: no flow before it is up
    Tally counted;          ///< in its part, as of the last count() or recount()
    failover::Flaps flaps;

    // Of a single-writer pool: is the data behind this backend primary?
    std::shared_ptr<const config::Health> ready;  ///< null: not asked
    health::RiseFall says;
    std::uint32_t ready_in_flight = 0;

    /// After a probe of that turn. A step on with every answer; after a miss the same VIP is asked until it
    /// answers, so that a backend that serves all VIPs but one goes down as one that serves none does.
    void turn_vip(std::uint32_t asked, bool ok) noexcept {
        if (!ok)
            vip_turn = asked;
        else if (vip_turn == asked)
            ++vip_turn;
    }
};

/// What bounds a part beside its own admission (engine_shares.cpp).
struct Bounds {
    double healthy = 1;        ///< of its share, by what is healthy there
    double follow = 1;         ///< what the pools that it follows take there
    double spill = 1;          ///< lowered when the site is full
    bool writer = true;        ///< false: the data may not be written there
    bool writer_keeps = true;  ///< false: nor may the flows that are there
    bool operator==(const Bounds&) const = default;
    /// Without `spill`: what another pool that follows this one may take.
    [[nodiscard]] double lasting() const { return writer ? std::min(healthy, follow) : 0; }
    [[nodiscard]] double admit() const { return lasting() * spill; }
};

/// One pool in one site. Its tally is kept by count() and recount().
struct Part : Tally {
    Index pool = 0;
    Index site = 0;
    std::uint32_t weight = 0;
    std::vector<Index> targets;
    failover::Admission admission;
    Bounds bounds;
    failover::Panic panic = failover::Panic::kNone;
};

struct PoolState {
    api::PoolId id;
    std::string name;
    std::vector<api::Vip> vips;
    std::uint32_t min_sites = 1;
    bool rehash = false;
    api::Encap encap = api::Encap::kGue;
    std::vector<api::IpAddress> tunnel_vips;  ///< those that probes go to through the tunnel; empty: none
    std::vector<Index> parts;
    bool no_site = false;  ///< nothing takes its new flows (alarmed)
    std::uint32_t priority = 100;
    std::vector<Index> depends_on;
    bool follows = false;
    bool follow_dropped = false;  ///< nowhere is what it follows: it goes anywhere (alarmed)
    bool bounded = false;         ///< its parts' bounds were settled once: from then on a hold freezes them
    bool single_writer = false;
    std::optional<Index> writer;  ///< of `parts`: where the data is primary
    failover::WriterAlarm writer_alarm = failover::WriterAlarm::kNone;
    failover::Load offered;                        ///< of all sites, smoothed
    double shed = 0;                               ///< of its new flows, as allocated
    std::optional<health::Monotonic> sheds_since;  ///< more than is worth telling (alarmed)
};

/// A BFD session with a router of a site, as it was last reported.
struct BfdSession {
    config::BfdPeer peer;
    failover::BfdPath path = failover::BfdPath::kUnknown;
    std::string why;  ///< the diagnostic of the last change
    health::WallTime since;
};

struct SiteState {
    api::SiteId id;
    std::string name;
    std::string key;
    std::vector<Index> targets;
    std::vector<Index> parts;
    failover::Admission admission;
    failover::AdmissionRecord saved;  ///< as last written to disk
    bool dirty = true;
    bool touched = false;      ///< this process decided its phase: adopting a fast path does not override it
    bool last_resort = false;  ///< drained, but may take what nothing else takes
    bool burst = false;
    health::Monotonic burst_start;
    health::Monotonic burst_end;  ///< at the latest
    std::string refused;          ///< the rail that keeps it from going dark; empty: none
    std::vector<BfdSession> bfd;
    failover::BfdWatch bfd_watch;
    std::size_t blamed = 0;            ///< of `targets`: the one that the verdict names when some are down
    std::string way_back;              ///< what speaks against its way back to the clients; empty: nothing
    health::Monotonic way_back_since;  ///< readings from before say nothing of now
    std::optional<failover::Evidence> way_back_held;  ///< enough, as soon as a backend answers
    bool way_back_blind = false;                      ///< a flood hides its handshakes
    std::string way_back_rail;                        ///< that keeps it from going dark for that; empty: none
    failover::TrickleWatch trickle;
    std::optional<health::Monotonic> unasked_since;  ///< it trickles, stands by, and no client comes
    const char* dark_rule = "";                      ///< by which it went dark

    failover::Verdict verdict = failover::Verdict::kUnknown;
    health::WallTime since;
    std::string reason;
    failover::Phase reported = failover::Phase::kLive;  ///< in events
    bool reported_stranded = false;
    std::uint64_t acks = 0;  ///< ack_advanced as last read
    bool acks_known = false;
    failover::Flaps flaps;
    std::optional<health::Monotonic> answers_since;  ///< dark, answers again, and waits for its flaps
    failover::Load load;                             ///< as allocated
    failover::Load budget;
    bool full = false;
};

struct Fleet {
    std::vector<SiteState> sites;
    std::vector<PoolState> pools;
    std::vector<Part> parts;
    std::vector<Target> targets;
    std::vector<Index> carried;  ///< by index in the fleet before: index here, kGone when it went
};
inline constexpr Index kGone = 0xffffffff;

/// `ids` must have been assigned from `config`. What `old` has seen is carried over.
[[nodiscard]] Fleet make_fleet(const config::Config& config, const plan::Ids& ids, const Fleet& old);

/// Counts the part's targets by state.
void count(Fleet& fleet, Part& part);
/// The same after a change of one target; does not look at the others.
void recount(Fleet& fleet, Target& target);

struct Totals {
    std::uint32_t up = 0, down = 0, unknown = 0;
    [[nodiscard]] std::uint32_t all() const { return up + down + unknown; }
};
[[nodiscard]] Totals totals(const Fleet& fleet, const SiteState& site);

/// The part takes new flows of its pool.
[[nodiscard]] bool takes(const Fleet& fleet, const Part& part);
/// How many other parts of the pool than `except` do.
[[nodiscard]] std::uint32_t others_taking(const Fleet& fleet, const PoolState& pool, Index except);

/// Some backend of a dark site has begun to answer and may be up in a moment: the site waits for it, so that
/// its pools come back together.
[[nodiscard]] bool rising(const Fleet& fleet, const SiteState& site);

struct Looks {
    bool dark = false;
    bool bad_answers = false;  ///< somebody there does answer
};
/// What the probes say of a site. During a burst only what was heard since its start counts; a site that is
/// dark is judged by the backends that are surely up.
[[nodiscard]] Looks look(const Fleet& fleet, const SiteState& site, const config::Failover& rules);

}  // namespace detour::app
