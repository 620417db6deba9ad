// The seam between the control channel and the forwarding workers: what a request may do to the fast path.
//
// The live one (live_path.h) publishes by RCU to DPDK workers; the tests use one without threads.
// publish() is called by one thread at a time, the other calls by any.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/api/plan.h"
#include "dataplane/api/result.h"
#include "dataplane/core/host_state.h"
#include "dataplane/core/tables.h"

namespace detour::wire {
class StatsReply;
}

namespace detour::stages {
class CaptureSession;
class WorkerState;
}  // namespace detour::stages

namespace detour::io {

/// Where the workers find what to copy packets to; null: nobody captures.
using CapturePointer = std::atomic<stages::CaptureSession*>;
inline const CapturePointer kNobodyCaptures{nullptr};

struct PortState {
    std::string name;
    api::Mac mac;
    bool link_up = false;
};

class FastPath {
  public:
    FastPath() = default;
    FastPath(const FastPath&) = delete;
    FastPath& operator=(const FastPath&) = delete;
    virtual ~FastPath() = default;

    /// The switches; written under the SwitchBook's lock alone.
    [[nodiscard]] virtual core::HostState& host() noexcept = 0;

    /// The tables in force; valid until the next publish().
    [[nodiscard]] virtual const core::ForwardingTables& tables() const noexcept = 0;

    /// Makes `tables`, built from `plan`, the ones in force and frees the old ones once no worker reads them.
    /// Returns the time from publication to the last worker's acknowledgement. Error kTimeout when a worker
    /// does not pass in time (the tables are in force all the same), kSystem when the kernel can't be told
    /// which traffic is ours.
    [[nodiscard]] virtual api::Result<std::chrono::nanoseconds> publish(
        std::unique_ptr<const core::ForwardingTables> tables, const api::ForwardingPlan& plan) = 0;

    /// Returns when every worker has begun a burst after this call: what was stored before is what it reads.
    /// Error kTimeout names the worker's plight.
    [[nodiscard]] virtual api::Result<void> wait_until_passed() = 0;

    /// Fills workers, ports, pools and backends.
    virtual void collect(wire::StatsReply& reply) const = 0;

    /// Written by Introspection; a session is freed only after wait_until_passed().
    [[nodiscard]] virtual CapturePointer& capture() noexcept = 0;
    /// Whose flow tables may be looked into; they live as long as this.
    [[nodiscard]] virtual std::vector<const stages::WorkerState*> worker_states() const = 0;

    [[nodiscard]] virtual std::vector<PortState> ports() const = 0;
    [[nodiscard]] virtual std::uint32_t workers() const noexcept = 0;
};

}  // namespace detour::io
