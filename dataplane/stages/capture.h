// Copies of packets on their way through the stages, for somebody who looks on: before and after, with their
// reason.
//
// A session is made by the control channel and published to the workers as one pointer; without one a worker
// reads that pointer once a burst, and that is all. Each worker writes a lane of its own, a ring of slots of
// fixed size that one other thread empties. All memory is taken at the start: kSlots x (2 x snap + 64 bytes)
// a worker. A full ring, or more than kPacesPerSecond of the host, costs the copy and never the packet: it is
// counted as missed.
//
// Lane: begin() and end() by its worker, take() by one other thread. Session: any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/api/types.h"
#include "dataplane/core/batch.h"
#include "dataplane/core/token_bucket.h"
#include "dataplane/stages/pipeline.h"

namespace detour::stages {

/// Which packets: all that are given have to fit.
struct CaptureFilter {
    std::optional<api::PoolId> pool;
    std::optional<api::SiteId> site;
    std::optional<api::Reason> reason;
    std::uint32_t sample = 1;  ///< one of so many, at random
    std::uint16_t snap = 192;  ///< bytes kept of a frame
};

struct Captured {
    std::uint64_t time_ns = 0;  ///< the worker's clock at the burst's start
    std::uint16_t pool = 0;
    std::uint16_t backend = 0;
    std::uint8_t site = 0;
    api::Reason reason = api::Reason::kCount;
    std::uint8_t port = 0;       ///< received on
    std::uint8_t sent_port = 0;  ///< sent on, where `after` is not empty
    std::uint16_t before_length = 0;
    std::uint16_t after_length = 0;  ///< 0: not sent
    std::span<const std::uint8_t> before{};
    std::span<const std::uint8_t> after{};
};

class CaptureLane {
  public:
    static constexpr std::size_t kSlots = 256;
    static constexpr std::uint64_t kPacesPerSecond = 5'000;

    CaptureLane(const CaptureFilter& filter, std::uint32_t workers, std::uint64_t seed);

    /// Worker, before the stages: keeps the heads of those chosen, for an answer is written over its packet.
    void begin(const core::Batch& batch) noexcept;
    /// Worker, after the stages, with the same batch.
    void end(const core::Batch& batch, std::uint64_t now_ns) noexcept;

    /// Reader: calls use(const Captured&) for each, oldest first, until it returns false (that one stays).
    template <class Use>
    void take(Use use) {
        const std::uint32_t written = written_.load(std::memory_order_acquire);
        std::uint32_t taken = taken_.load(std::memory_order_relaxed);
        for (; taken != written && use(at(taken)); ++taken) {
        }
        taken_.store(taken, std::memory_order_release);
    }
    [[nodiscard]] std::uint64_t sampled() const noexcept { return sampled_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t missed() const noexcept { return missed_.load(std::memory_order_relaxed); }

  private:
    /// Enough for the headers of what may be answered: Ethernet, tags, IPv6 and extensions, TCP.
    static constexpr std::size_t kHead = 160;
    struct Chosen {
        std::uint32_t index = 0;
        std::uint16_t length = 0;
        std::uint8_t port = 0;
        const std::uint8_t* data = nullptr;
        std::array<std::uint8_t, kHead> head;
    };
    struct Slot {
        Captured packet;
        std::uint16_t before_kept = 0;
        std::uint16_t after_kept = 0;
    };

    [[nodiscard]] bool wanted(const core::Packet& p) const noexcept;
    void write(const Chosen& chosen, const core::Packet& p, std::uint64_t now_ns) noexcept;
    [[nodiscard]] std::uint32_t next_gap() noexcept;
    [[nodiscard]] Captured at(std::uint32_t position) const noexcept;

    const CaptureFilter filter_;
    std::uint64_t random_;
    std::uint32_t gap_ = 1;  ///< packets until the next one is chosen
    std::uint32_t chosen_count_ = 0;
    std::array<Chosen, api::kMaxBurst> chosen_;
    core::TokenBucket pace_;
    std::vector<Slot> slots_;
    std::vector<std::uint8_t> bytes_;  ///< of slot i from 2 * snap * i: before, then after
    // Counts that wrap; written_ by the worker, taken_ by the reader.
    alignas(64) std::atomic<std::uint32_t> written_{0};
    std::atomic<std::uint64_t> sampled_{0};
    std::atomic<std::uint64_t> missed_{0};
    alignas(64) std::atomic<std::uint32_t> taken_{0};
};

class CaptureSession {
  public:
    /// Throws std::bad_alloc. `id` is the session's name; it also seeds the sampling.
    CaptureSession(std::uint64_t id, const CaptureFilter& filter, std::uint32_t workers,
                   std::uint64_t until_ns);

    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] CaptureLane& lane(unsigned worker) noexcept { return *lanes_[worker]; }
    [[nodiscard]] std::size_t lanes() const noexcept { return lanes_.size(); }
    /// After this, on the workers' clock, nothing is copied.
    [[nodiscard]] bool over(std::uint64_t now_ns) const noexcept {
        return now_ns > until_ns_.load(std::memory_order_relaxed);
    }
    void extend(std::uint64_t until_ns) noexcept { until_ns_.store(until_ns, std::memory_order_relaxed); }

  private:
    const std::uint64_t id_;
    std::atomic<std::uint64_t> until_ns_;
    std::vector<std::unique_ptr<CaptureLane>> lanes_;
};

/// run() of pipeline.h, and copies for whoever captures; null: nobody does. By worker number `worker`.
inline void run_captured(core::Batch& batch, const Context& context, CaptureSession* session,
                         unsigned worker) noexcept {
    const std::uint64_t now = context.worker.now_ns();
    if (session == nullptr || session->over(now)) [[likely]]
        return run(batch, context);
    CaptureLane& lane = session->lane(worker);
    lane.begin(batch);
    run(batch, context);
    lane.end(batch, now);
}

}  // namespace detour::stages
