// What would become of one packet: the very same stages, over what the workers know of its flow.
//
// The packet runs through run() with a worker state of the tracer's own. Before that the flow's entry and its
// SYN are copied there from the worker that has them; afterwards all is wiped. So nothing that a worker reads
// or writes changes, nothing is counted, and no budget is spent: budgets are those of a host at rest.
// Workers' tables are read while their owners write them (core/flow_table.h); what is torn counts as not
// there.
//
// One thread, no worker. Takes some MiB at construction.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/api/types.h"
#include "dataplane/stages/pipeline.h"

namespace detour::stages {

/// What a worker had of the packet's flow. The reason says whether that decided.
enum class Known : std::uint8_t { kNothing, kFlow, kSyn };

struct Traced {
    std::optional<api::Reason> reason;  ///< absent: a fragment that would wait for its datagram's first one
    std::optional<api::PoolId> pool;
    std::optional<api::SiteId> site;
    std::optional<api::BackendId> backend;
    Known known = Known::kNothing;
    unsigned worker = 0;                    ///< that knows it
    std::span<const std::uint8_t> frame{};  ///< what would be sent, until the next trace; empty: nothing
    std::uint8_t port = 0;                  ///< it would leave by
};

class Tracer {
  public:
    /// `workers` outlive the tracer.
    explicit Tracer(std::vector<const WorkerState*> workers);

    /// Longest IP packet.
    static constexpr std::size_t kMaxPacket = 9978;

    /// `packet` from its IP header on, as if received on the first port; at most kMaxPacket bytes, the rest
    /// is cut off. `tables` and `host` are those in force, `now_ns` is the workers' clock.
    [[nodiscard]] Traced trace(std::span<const std::uint8_t> packet, const core::ForwardingTables& tables,
                               const core::HostState& host, std::uint64_t now_ns) noexcept;

  private:
    void load(std::span<const std::uint8_t> packet) noexcept;
    void recall(const Context& context, Traced& out) noexcept;
    template <class Keyed>
    void recall_flow(const core::Packet& p, Traced& out) noexcept;
    void wipe() noexcept;

    static constexpr std::size_t kHeadroom = 128;

    std::vector<const WorkerState*> workers_;
    std::unique_ptr<WorkerState> scratch_;
    std::unique_ptr<core::Batch> batch_;
    std::array<std::uint8_t, kHeadroom + 14 + kMaxPacket + 64> buffer_{};
};

}  // namespace detour::stages
