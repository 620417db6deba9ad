// The real stages over real tables for packet tests: one packet in, its verdict, reason and bytes out.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "dataplane/api/plan.h"
#include "dataplane/core/host_state.h"
#include "dataplane/core/tables.h"
#include "dataplane/stages/pipeline.h"
#include "tests/support/packets.h"

namespace detour::support {

struct Out {
    core::Verdict verdict = core::Verdict::kPending;
    api::Reason reason = api::Reason::kCount;
    Bytes bytes;  ///< empty unless transmitted
    std::uint8_t port = 0;
    std::uint16_t backend = 65535;
    std::uint8_t site = 255;
};

/// A frame that the fast path made by itself.
struct Made {
    Bytes bytes;
    std::uint8_t port = 0;
};

class FastPath {
  public:
    explicit FastPath(const api::ForwardingPlan& plan, std::size_t flows = 4096, std::uint64_t inserts = 0,
                      std::size_t syns = 1024);

    /// Replaces the plan; flow tables stay.
    void apply(const api::ForwardingPlan& plan);
    Out send(const Bytes& frame, std::uint16_t headroom = 128);
    /// Sends again what was held and need not wait any longer, as a worker does; those that waited in vain
    /// are counted and gone.
    std::vector<Out> resume();
    [[nodiscard]] std::uint64_t now() const { return now_; }
    void advance(std::chrono::nanoseconds by) { now_ += static_cast<std::uint64_t>(by.count()); }
    [[nodiscard]] std::uint64_t count(api::Reason reason) const {
        return worker->counters[static_cast<std::size_t>(reason)].get();
    }
    /// A whole pass of the ageing sweep.
    void sweep();
    /// One step of the sweep of stranded flows; what it sends is in made().
    stages::SweepResult sweep_stranded(std::size_t buckets = 1U << 20U);
    /// Frames of our own making since the last call, in order.
    std::vector<Made> made() { return std::exchange(made_, {}); }

    core::HostState host;
    std::unique_ptr<stages::WorkerState> worker;
    std::unique_ptr<const core::ForwardingTables> tables;

  private:
    void take_segments();

    std::vector<Made> made_;
    std::map<std::uint16_t, Bytes> held_;  ///< by slot
    std::uint64_t now_ = 1'000'000'000'000ULL;
};

// The plan of most tests: two sites of two backends each, IPv4 and IPv6 VIPs.
inline constexpr std::string_view kRouterMac = "02:00:00:00:00:01";   ///< sent the client's packet
inline constexpr std::string_view kHostMac = "02:00:00:00:00:02";     ///< our port
inline constexpr std::string_view kNextHopMac = "02:00:00:00:00:03";  ///< towards the backends
inline constexpr std::string_view kOutMac = "02:00:00:00:00:04";      ///< our port towards the backends

struct PlanOptions {
    api::Encap encap = api::Encap::kGue;
    bool v6_backends = false;
    api::Stranded stranded = api::Stranded::kReset;
    api::HashKey hash = api::HashKey::kFiveTuple;
    api::Refusal on_empty = api::Refusal::kDrop;
    std::size_t sites = 2;
    std::size_t backends = 2;  ///< per site
    std::uint32_t mtu = 1500;
};

/// VIPs 203.0.113.10:443/tcp, [2001:db8:f::10]:443/tcp, 203.0.113.10:53/udp, [2001:db8:f::10]:53/udp (a
/// second pool). Backends 10.SITE.0.INDEX+10 or 2001:db8:SITE::INDEX+10 with SITE from 1; sources 192.0.2.1
/// and 2001:db8::1.
[[nodiscard]] api::ForwardingPlan make_plan(const PlanOptions& options = {});
/// With hash = quic-cid each backend has two server ids: SITE, INDEX under configuration 0, and 0xee, SITE,
/// INDEX under configuration 1. This is a connection id that the backend's server makes.
[[nodiscard]] Bytes server_cid(std::uint16_t backend, unsigned rotation = 0);
[[nodiscard]] std::string backend_address(std::size_t site, std::size_t index, bool v6);

}  // namespace detour::support
