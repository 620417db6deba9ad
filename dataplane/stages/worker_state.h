// What one worker owns: flow tables, SYN tables, counters, signals, budgets.
//
// Written by that worker alone. Fields that the control channel reads are relaxed atomics on lines that no
// other worker writes. All memory is taken at construction.
#pragma once

#include <immintrin.h>

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "dataplane/api/counters.h"
#include "dataplane/api/limits.h"
#include "dataplane/core/flow_table.h"
#include "dataplane/core/fragment.h"
#include "dataplane/core/segment.h"
#include "dataplane/core/syn_table.h"
#include "dataplane/core/tables.h"
#include "dataplane/core/token_bucket.h"
#include "dataplane/stages/flow_tally.h"
#include "dataplane/stages/strand_sweep.h"
#include "dataplane/stages/tally.h"
#include "dataplane/stages/way_back.h"

namespace detour::stages {

struct WorkerLimits {
    std::size_t flows_v4 = 1U << 20U;  ///< live flows to hold; twice as many entries of 16 bytes
    std::size_t flows_v6 = 1U << 18U;  ///< the same, entries of 32 bytes
    std::size_t syns = 1U << 17U;      ///< per family, 16 bytes each
    std::uint32_t workers = 1;         ///< budgets of the host are divided by this
    std::uint64_t inserts = 0;  ///< entries made a second; beyond it flows go by their hash; 0: no bound
};

struct alignas(16) PacketBytes {
    Tally packets;
    Tally bytes;
    /// One packet of so many bytes, ready to be added.
    struct Step {
        explicit Step(std::uint16_t size) noexcept : value(_mm_set_epi64x(size, 1)) {}
        __m128i value;
    };
    /// One 16-byte store instead of two of 8: each half is still stored whole on every x86-64.
    void count(const Step& step) noexcept {
        auto* at = reinterpret_cast<__m128i*>(this);
        _mm_store_si128(at, _mm_add_epi64(_mm_load_si128(at), step.value));
    }
};
static_assert(sizeof(PacketBytes) == 16);

struct alignas(64) SiteSignals : PacketBytes {
    Tally syns;
    Tally syns_repeated;
    Tally handshakes;
    Tally ack_advanced;
    Tally syns_forgotten;  ///< gave way to newer ones within kHandshakeMs, their handshakes not completed
    Tally forgotten_ms;    ///< their ages, summed
};
static_assert(sizeof(SiteSignals) == 64);

/// A site's SYNs and handshakes by client prefix (/24, /48), hashed; these counters wrap.
struct alignas(64) PrefixTallies {
    std::array<TallyOf<std::uint32_t>, api::kPrefixBuckets> syns;
    std::array<TallyOf<std::uint32_t>, api::kPrefixBuckets> handshakes;
    /// Where a prefix is counted.
    [[nodiscard]] static std::size_t bucket(std::uint32_t client_prefix) noexcept {
        return core::mix64(client_prefix) % api::kPrefixBuckets;
    }
};
/// A handshake that takes longer is none that the signals wait for.
inline constexpr std::uint32_t kHandshakeMs = 1000;

struct alignas(64) BackendTally : PacketBytes {
    Tally flows;  ///< live and pinned to it, as the last whole pass of the sweep found them
    Tally syns;   ///< as SiteSignals has them
    Tally handshakes;
};

struct alignas(64) PoolTally : PacketBytes {
    Tally too_big;
    Tally new_flows;  ///< SYNs and first packets of UDP flows that were forwarded
    Tally shed;       ///< new flows refused for a limit
};

/// What the sweep of stranded flows did.
struct SweptTally {
    Tally resets;       ///< clients sent a RST and an ACK
    Tally asked;        ///< clients sent an ACK alone, for their backend lives
    Tally answered;     ///< those who then sent a RST: they are gone
    Tally repeated;     ///< those who did not answer, told once more
    Tally backends;     ///< flows whose living backend was reset
    Tally undelivered;  ///< segments that had no way or no buffer
};

/// Live flows that the sweep has met.
struct FlowCounts {
    std::vector<std::uint32_t> by_backend;  ///< by BackendId
    std::array<std::uint32_t, api::kIdleClasses> by_idle{};
};

class WorkerState {
  public:
    explicit WorkerState(const WorkerLimits& limits);

    /// The other workers of this host: their flow tables may be looked into, never written. Before any runs;
    /// they live as long as this.
    void know_others(std::vector<const WorkerState*> others) { others_ = std::move(others); }
    [[nodiscard]] const std::vector<const WorkerState*>& others() const noexcept { return others_; }

    /// Once per burst, before run(): monotonic nanoseconds.
    void set_time(std::uint64_t now_ns) noexcept;
    [[nodiscard]] std::uint64_t now_ns() const noexcept { return now_ns_; }
    /// The time in the flow table's and in the SYN table's units.
    [[nodiscard]] std::uint32_t now_ms() const noexcept {
        return static_cast<std::uint32_t>(now_ns_ / 1'000'000U);
    }
    [[nodiscard]] std::uint16_t tick() const noexcept { return tick_; }
    [[nodiscard]] std::uint16_t syn_time() const noexcept { return syn_time_; }
    /// Takes this worker's part of the plan's budgets. run() calls it.
    void use(const core::ForwardingTables& tables) noexcept {
        if (tables.generation.value() == used_generation_) return;
        used_generation_ = tables.generation.value();
        // A small burst, so that the pace holds in any second that a client's network may look at.
        const std::uint64_t pace = (tables.resets_per_second + workers_ - 1) / workers_;
        resets.set_rate(pace, pace / 50);
        icmp.set_rate((tables.icmp_per_second + workers_ - 1) / workers_);
        icmp_forwarded.set_rate(icmp.rate());
        echoes.set_rate(icmp.rate());
    }

    /// Bounded background work, a few buckets a call: ages entries out, strands those whose backend is not in
    /// `tables`, removes those whose VIP is not, and counts the live ones of each backend and idle time.
    void sweep(const core::ForwardingTables& tables, std::size_t buckets) noexcept;
    /// No entry of this worker names a backend or VIP absent from this generation. Any thread.
    [[nodiscard]] std::uint64_t scanned() const noexcept { return scanned_.get(); }

    [[nodiscard]] std::uint32_t workers() const noexcept { return workers_; }

    /// Whether one more flow may be remembered now; counts it when not. Half of the burst is kept for flows
    /// that may evict any other: handshakes.
    [[nodiscard]] bool may_insert(core::MayEvict may_evict) noexcept {
        if (inserts_.rate() == 0) return true;
        const std::uint64_t reserve = may_evict == core::MayEvict::kConfirmed ? 0 : inserts_.burst() / 2;
        if (inserts_.available(now_ns_, reserve)) {
            inserts_.spend();
            return true;
        }
        not_inserted.add(1);
        return false;
    }

    /// All budgets are full again.
    void refill() noexcept;

    core::FlowTableV4 flows_v4;
    core::FlowTableV6 flows_v6;
    core::SynTable syns_v4;
    core::SynTable syns_v6;
    core::FragmentCache fragments;
    core::TokenBucket resets;
    core::TokenBucket icmp;                         ///< errors that we send
    core::TokenBucket icmp_forwarded;               ///< errors that we pass on
    core::TokenBucket echoes;                       ///< answers to echo requests
    std::array<core::TokenBucket, 256> site_flows;  ///< new flows, where a limit is in force
    std::vector<core::TokenBucket> pool_flows;      ///< by PoolId
    core::SegmentQueue segments;                    ///< to be sent by the io layer, then cleared
    WayBack way_back;
    StrandSweep strand_sweep;
    SweptTally swept;

    FlowTally flow_tally;
    Tally not_inserted;  ///< flows that went by their hash, for the bound on new entries
    std::array<Tally, api::kReasonCount> counters;
    std::array<SiteSignals, 256> sites;
    std::array<PrefixTallies, 256> prefixes;  ///< by site
    std::vector<PoolTally> pools;             ///< by PoolId
    std::vector<BackendTally> backends;       ///< by BackendId

  private:
    void sweep_one(const core::ForwardingTables& tables, std::size_t position) noexcept;
    void publish_counts(std::size_t step) noexcept;
    void begin_pass(std::uint64_t generation, std::size_t steps) noexcept;

    std::uint64_t now_ns_ = 0;
    std::uint16_t tick_ = 0;
    std::uint16_t syn_time_ = 1;
    std::uint32_t workers_ = 1;
    std::uint64_t used_generation_ = 0;
    std::uint64_t sweep_generation_ = 0;
    std::size_t sweep_position_ = 0;
    std::vector<const WorkerState*> others_;
    std::size_t sweep_left_ =
        0;  ///< steps until a whole pass for sweep_generation_ is done; 0: none is under way
    bool lost_backends_ = false;  ///< met in the pass that is under way
    FlowCounts counting_;         ///< of the pass that is under way
    core::TokenBucket inserts_;
    Tally scanned_;
};

}  // namespace detour::stages
