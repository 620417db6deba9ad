// A worker: one thread that receives, runs the pipeline and transmits, to completion, burst by burst.
//
// Owns receive queues index, index + workers, … and transmit queue `index` of every port. No lock and no
// allocation in the loop; a system call only to sleep when idle, and to wake the kernel path. Segments of our
// own making (resets of the sweep) take their buffers from the ports' pool. An idle worker sleeps longer and
// longer up to `idle_sleep`; it is offline for RCU meanwhile. run() on the worker's thread; stop() and the
// getters from any.
#pragma once

#include <rte_mbuf.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "dataplane/core/batch.h"
#include "dataplane/core/host_state.h"
#include "dataplane/core/token_bucket.h"
#include "dataplane/io/ethernet_port.h"
#include "dataplane/io/fast_path.h"
#include "dataplane/io/kernel_path.h"
#include "dataplane/io/publication.h"
#include "dataplane/stages/worker_state.h"

struct rte_mempool;

namespace detour::io {

struct WorkerSetup {
    unsigned index = 0;
    std::span<const EthernetPort> ports;
    Publication& publication;
    const core::HostState& host;
    KernelPath& kernel;
    rte_mempool* pool = nullptr;  ///< of the ports; outlives the worker
    std::chrono::microseconds idle_sleep{100};
    stages::WorkerLimits limits;
    const CapturePointer& capture = kNobodyCaptures;
};

class alignas(64) Worker {
  public:
    explicit Worker(const WorkerSetup& setup);
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    /// The states of the other workers, whose flow tables this one may look into; before any of them runs.
    void know_others(std::vector<const stages::WorkerState*> others) {
        state_.know_others(std::move(others));
    }
    /// Returns after stop().
    void run() noexcept;
    void stop() noexcept { stop_.store(true, std::memory_order_relaxed); }

    [[nodiscard]] const stages::WorkerState& state() const noexcept { return state_; }
    /// Generation of the tables that this worker last read.
    [[nodiscard]] std::uint64_t acknowledged() const noexcept { return acknowledged_.get(); }
    [[nodiscard]] std::uint64_t flows_v4() const noexcept { return flows_v4_.get(); }
    [[nodiscard]] std::uint64_t flows_v6() const noexcept { return flows_v6_.get(); }
    /// Frames that this port's transmit queue had no room for.
    [[nodiscard]] std::uint64_t transmit_full(std::size_t port) const noexcept { return full_[port].get(); }

  private:
    /// Frames on their way to one place.
    struct Outbox {
        std::uint16_t count = 0;
        std::array<rte_mbuf*, api::kMaxBurst> mbufs;
        void push(rte_mbuf* mbuf) noexcept { mbufs[count++] = mbuf; }
        [[nodiscard]] std::span<rte_mbuf*> span() noexcept { return {mbufs.data(), count}; }
    };

    [[nodiscard]] unsigned poll_port(std::uint8_t port, const core::ForwardingTables& tables) noexcept;
    [[nodiscard]] std::uint16_t poll(std::uint8_t port, std::uint16_t queue,
                                     const core::ForwardingTables& tables) noexcept;
    /// The stages, and a copy for whoever captures.
    void run_stages(const core::ForwardingTables& tables) noexcept;
    void dispatch() noexcept;
    /// Fragments that waited long enough: through the stages again, or freed.
    void resume_fragments(const core::ForwardingTables& tables) noexcept;
    [[nodiscard]] unsigned flush(std::size_t port) noexcept;
    [[nodiscard]] unsigned send_for_kernel() noexcept;
    /// Looks for stranded flows. True when there is more to do at once.
    [[nodiscard]] bool sweep_stranded(const core::ForwardingTables& tables, std::size_t buckets) noexcept;
    /// Sends the segments that the stages made.
    void send_segments(const core::ForwardingTables& tables) noexcept;
    [[nodiscard]] bool send_segment(const core::Segment& segment,
                                    const core::ForwardingTables& tables) noexcept;
    void flush_kernel(Outbox& frames) noexcept;
    void count(api::Reason reason, std::uint64_t n) noexcept;
    void rest() noexcept;

    const unsigned index_;
    const unsigned workers_;
    const std::span<const EthernetPort> ports_;
    Publication& publication_;
    const core::HostState& host_;
    KernelPath& kernel_;
    const CapturePointer& capture_;
    rte_mempool* const pool_;
    const std::chrono::nanoseconds longest_sleep_;

    stages::WorkerState state_;
    core::Batch batch_;
    std::array<Outbox, api::kMaxPorts> outboxes_;
    Outbox to_kernel_;
    Outbox strays_;  ///< to the kernel too, from a budget of their own: kNoService
    Outbox to_free_;
    std::array<rte_mbuf*, core::FragmentCache::kSlots> held_{};  ///< fragments, by slot
    core::TokenBucket injector_budget_;
    core::TokenBucket tap_budget_;
    core::TokenBucket stray_budget_;
    unsigned idle_polls_ = 0;
    unsigned bursts_ = 0;
    std::chrono::nanoseconds sleep_{0};

    std::array<stages::Tally, api::kMaxPorts> full_;
    stages::Tally acknowledged_;
    stages::Tally flows_v4_;
    stages::Tally flows_v6_;
    alignas(64) std::atomic<bool> stop_{false};
};

}  // namespace detour::io
