// The ideal NIC and the worker behind it: mbufs are taken from a pool, filled with a packet, run through the
// pipeline and given back. With the pipeline left out the same loop measures what is not the pipeline.
//
// One thread. Pool and host stay the caller's and outlive the rig.
#pragma once

#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataplane/core/batch.h"
#include "dataplane/io/fast_path.h"
#include "dataplane/stages/capture.h"
#include "dataplane/stages/worker_state.h"
#include "tests/bench/host.h"
#include "tests/bench/instructions.h"
#include "tests/bench/scenario.h"
#include "tests/bench/traffic.h"

namespace detour::bench {

enum class Pipeline { kOff, kOn, kTimed };

/// What a number of bursts cost.
struct Cost {
    std::uint64_t packets = 0;
    std::uint64_t cpu_ns = 0;
    std::uint64_t instructions = 0;
    [[nodiscard]] double ns() const { return static_cast<double>(cpu_ns) / static_cast<double>(packets); }
};

/// Where the packets of the measured bursts went.
struct Outcome {
    std::uint64_t packets = 0;
    std::uint64_t missed = 0;  ///< that did not end as the scenario says
    std::uint64_t established = 0;
    std::uint64_t established_missed = 0;  ///< of them, not forwarded by their flow's entry
    std::uint64_t evictions = 0;           ///< live entries that gave way
    std::uint64_t lost = 0;                ///< that were not forwarded
};

class Rig {
  public:
    /// Builds frames and makes the flows known. `index`: which of the host's workers it is. Throws
    /// std::bad_alloc.
    Rig(const Scenario& scenario, Host& host, unsigned index, rte_mempool* pool);

    /// One round: alternates bursts with and without the pipeline until the first took `seconds` of this
    /// thread's time, or `packets` of them were made when that is not 0.
    struct Round {
        Cost on;
        Cost off;
        [[nodiscard]] double net_ns() const { return on.ns() - off.ns(); }
    };
    [[nodiscard]] Round round(double seconds, std::uint64_t packets);

    /// Ticks of the time stamp counter that a step of the pipeline takes for a burst.
    struct Step {
        std::string name;
        std::vector<std::uint32_t> ticks;  ///< one for each burst
    };
    /// One round in which the clock is read between the stages. What reading it costs is taken off.
    [[nodiscard]] std::vector<Step> profile(double seconds, std::uint64_t packets);

    [[nodiscard]] const Outcome& outcome() const noexcept { return outcome_; }
    /// Share of the flow table's entries in use.
    [[nodiscard]] double occupancy() const noexcept;
    [[nodiscard]] bool counts_instructions() const noexcept { return instructions_.works(); }

  private:
    struct Counts {
        std::uint64_t pinned = 0;
        std::uint64_t fresh = 0;
        std::uint64_t mid = 0;
        std::uint64_t malformed = 0;
        std::uint64_t errors = 0;
        std::uint64_t later_fragments = 0;
        std::uint64_t forwarded = 0;  ///< all of them
        std::uint64_t evictions = 0;
    };

    template <Pipeline kPipeline>
    void run_burst(std::span<rte_mbuf*> mbufs) noexcept;
    void run_stages(const stages::Context& context) noexcept;
    void time_stages(const stages::Context& context) noexcept;
    void lap() noexcept;
    void apply_verdicts() noexcept;
    void resume_held(const stages::Context& context) noexcept;
    template <Pipeline kPipeline>
    void drive(std::uint64_t bursts, Cursor& cursor);
    template <Pipeline kPipeline>
    void measure(std::uint64_t bursts, Cursor& cursor, Cost& cost);
    void know_flows();
    void start_anew();
    [[nodiscard]] Counts counts() const noexcept;
    void note(std::uint64_t packets, std::size_t first, const Counts& before);

    Scenario scenario_;
    rte_mempool* pool_;
    Host& host_;
    const unsigned index_;
    std::unique_ptr<stages::WorkerState> worker_;
    Traffic traffic_;
    std::unique_ptr<core::Batch> batch_;
    std::array<rte_mbuf*, core::FragmentCache::kSlots> held_{};  ///< fragments of this burst, by slot
    std::unique_ptr<stages::CaptureSession> session_;
    io::CapturePointer capture_{nullptr};
    InstructionCounter instructions_;
    std::vector<Step> steps_;        ///< filled while a round is timed
    std::size_t timed_ = 0;          ///< bursts of it
    std::size_t step_ = 0;           ///< the next to be timed
    std::uint64_t lap_started_ = 0;  ///< ticks
    Cursor on_;
    Cursor off_;
    Outcome outcome_;
    unsigned bursts_ = 0;
};

/// What taking and giving back an mbuf costs alone, in ns, over so many.
[[nodiscard]] double pool_cost(rte_mempool* pool, std::uint64_t packets);

}  // namespace detour::bench
