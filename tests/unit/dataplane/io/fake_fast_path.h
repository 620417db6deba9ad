// A fast path without workers: remembers what was published and asked for. One thread.
#pragma once

#include <memory>
#include <vector>

#include "dataplane/io/fast_path.h"

namespace detour::io {

class FakeFastPath final : public FastPath {
  public:
    [[nodiscard]] core::HostState& host() noexcept override { return *host_; }
    [[nodiscard]] const core::ForwardingTables& tables() const noexcept override { return *tables_; }
    [[nodiscard]] api::Result<std::chrono::nanoseconds> publish(
        std::unique_ptr<const core::ForwardingTables> tables, const api::ForwardingPlan& plan) override {
        tables_ = std::move(tables);
        published.push_back(plan.generation.value());
        if (publish_error) return tl::unexpected(*publish_error);
        return std::chrono::microseconds(7);
    }
    [[nodiscard]] api::Result<void> wait_until_passed() override {
        ++waits;
        return {};
    }
    void collect(wire::StatsReply&) const override {}
    [[nodiscard]] CapturePointer& capture() noexcept override { return capture_; }
    [[nodiscard]] std::vector<const stages::WorkerState*> worker_states() const override { return {}; }
    [[nodiscard]] std::vector<PortState> ports() const override {
        return {{"eth1", {{2, 0, 0, 0, 0, 1}}, true}};
    }
    [[nodiscard]] std::uint32_t workers() const noexcept override { return 1; }

    std::vector<std::uint64_t> published;
    std::optional<api::Error> publish_error;
    int waits = 0;

  private:
    CapturePointer capture_{nullptr};
    // On the heap: 64 KiB and more.
    std::unique_ptr<core::HostState> host_ = std::make_unique<core::HostState>();
    std::unique_ptr<const core::ForwardingTables> tables_ = std::make_unique<core::ForwardingTables>();
};

}  // namespace detour::io
