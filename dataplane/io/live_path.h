// The running fast path: ports, workers, tables and switches joined.
//
// Built by the main thread, which is EAL's; start() lets the workers run, the destructor stops them, then
// closes the ports. See fast_path.h for who may call what.
#pragma once

#include <memory>
#include <vector>

#include "dataplane/io/arguments.h"
#include "dataplane/io/ethernet_port.h"
#include "dataplane/io/fast_path.h"
#include "dataplane/io/kernel_path.h"
#include "dataplane/io/kernel_side.h"
#include "dataplane/io/publication.h"
#include "dataplane/io/worker.h"

namespace detour::io {

class LivePath final : public FastPath {
  public:
    /// Opens the ports and takes all memory; EAL runs. `kernel` has taken over.
    [[nodiscard]] static api::Result<std::unique_ptr<LivePath>> open(const Arguments& arguments,
                                                                     KernelSide kernel);
    ~LivePath() override;

    /// Lets the workers run. Error kSystem when one can't be started.
    [[nodiscard]] api::Result<void> start();

    [[nodiscard]] core::HostState& host() noexcept override { return host_; }
    [[nodiscard]] const core::ForwardingTables& tables() const noexcept override {
        return publication_.owned();
    }
    [[nodiscard]] api::Result<std::chrono::nanoseconds> publish(
        std::unique_ptr<const core::ForwardingTables> tables, const api::ForwardingPlan& plan) override;
    [[nodiscard]] api::Result<void> wait_until_passed() override { return publication_.wait_until_passed(); }
    void collect(wire::StatsReply& reply) const override;
    [[nodiscard]] CapturePointer& capture() noexcept override { return capture_; }
    [[nodiscard]] std::vector<const stages::WorkerState*> worker_states() const override;
    [[nodiscard]] std::vector<PortState> ports() const override;
    [[nodiscard]] std::uint32_t workers() const noexcept override {
        return static_cast<std::uint32_t>(workers_.size());
    }

  private:
    LivePath(const Arguments& arguments, KernelSide kernel);
    [[nodiscard]] api::Result<void> open_ports(const Arguments& arguments);
    void make_workers(const Arguments& arguments);

    KernelSide kernel_side_;
    rte_mempool* pool_ = nullptr;  ///< EAL's; packet buffers of ports and workers
    std::vector<EthernetPort> ports_;
    core::HostState host_;
    Publication publication_;
    std::unique_ptr<KernelPath> kernel_path_;
    CapturePointer capture_{nullptr};
    std::vector<std::unique_ptr<Worker>> workers_;
    unsigned started_ = 0;
    const bool release_;
};

}  // namespace detour::io
