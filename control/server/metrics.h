// /metrics: the figures of one moment in Prometheus' text format 0.0.4.
//
// Handlers fill MetricsInput; render() writes each family once with HELP and TYPE. docs/metrics.md lists the
// same families, and a test compares the two. Counters are totals since the counting process's start. Pure,
// any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dataplane/api/counters.h"
#include "dataplane/api/limits.h"

namespace detour::control {

struct WorkerMetrics {
    std::uint32_t worker = 0;
    std::uint64_t acknowledged = 0;  ///< generation
    std::uint64_t flows_v4 = 0;
    std::uint64_t flows_v6 = 0;
    std::array<std::uint64_t, api::kReasonCount> packets{};  ///< by Reason
    std::uint64_t not_inserted = 0;
    /// What the sweep of stranded flows did: resets, asked, answered, repeated, backends, undelivered.
    std::array<std::uint64_t, 6> swept{};
    std::uint64_t entries_v4 = 0;  ///< places of the flow table
    std::uint64_t entries_v6 = 0;
    std::uint64_t evicted_confirmed = 0;
    std::uint64_t evicted_unconfirmed = 0;
    std::uint64_t evicted_idle_seconds = 0;               ///< of the confirmed ones, summed
    std::uint64_t no_place = 0;                           ///< flows not remembered for want of a place
    std::array<std::uint64_t, api::kIdleClasses> idle{};  ///< confirmed flows by class of idle time
};

struct PortMetrics {
    std::string name;
    bool up = false;
    std::uint64_t rx_packets = 0;
    std::uint64_t tx_packets = 0;
    std::uint64_t rx_missed = 0;
    std::uint64_t rx_no_mbuf = 0;
    std::uint64_t tx_full = 0;
    std::uint64_t kernel_received = 0;
    std::uint64_t kernel_sent = 0;
    std::uint64_t kernel_lost = 0;
};

struct PoolSiteMetrics {
    std::string pool;
    std::string site;
    std::uint64_t flows = 0;  ///< live ones, some seconds old
};

struct SiteMetrics {
    std::string site;
    std::string verdict;
    double admit = 1;
    bool keep = true;
    bool drained = false;
    std::uint32_t backends = 0;
    std::uint32_t backends_up = 0;
    std::uint64_t switches = 0;  ///< set-site sent and applied
    std::uint64_t verdict_changes = 0;
    std::uint64_t syns = 0;
    std::uint64_t syns_repeated = 0;
    std::uint64_t syns_forgotten = 0;
    std::uint64_t handshakes = 0;
    std::uint64_t ack_advanced = 0;
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;
    bool trickle = false;
};

struct BfdMetrics {
    std::string site;
    std::string address;
    std::string state;  ///< up, down, unknown
};

/// Of all BFD sessions.
struct BfdPackets {
    std::uint64_t received = 0;  ///< accepted
    std::uint64_t sent = 0;
    std::uint64_t send_failed = 0;
    std::vector<std::pair<std::string, std::uint64_t>> dropped;  ///< by reason
};

struct PoolMetrics {
    std::string pool;
    std::uint32_t sites_admitted = 0;
    std::uint32_t backends = 0;
    std::uint32_t backends_up = 0;
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;
    std::uint64_t too_big = 0;
    std::uint64_t shed = 0;
};

struct ProbeMetrics {
    std::string site;
    std::string outcome;  ///< answered, refused, timeout, bad_status, unreachable, …
    std::uint64_t count = 0;
};

struct MetricsInput {
    std::string version;
    std::string pop;
    double started_seconds = 0;        ///< Unix time
    double config_loaded_seconds = 0;  ///< Unix time
    std::uint64_t config_reloads = 0;
    std::uint64_t config_refused = 0;
    bool dataplane_connected = false;
    bool dataplane_restored = false;
    std::uint64_t generation = 0;    ///< published
    std::uint64_t acknowledged = 0;  ///< by every worker
    double ack_lag_seconds = 0;      ///< last publish to last acknowledgement; while one is missing: so far
    double last_switch_seconds = 0;  ///< the last set-site: first store to last worker
    std::uint64_t plans = 0;
    std::uint64_t plans_refused = 0;
    std::uint64_t rebuilds = 0;
    double loop_lag_seconds = 0;
    std::uint64_t probes_shed = 0;
    std::uint32_t drains = 0;
    std::uint32_t weights = 0;  ///< set by operators
    bool hold = false;
    std::uint64_t incidents = 0;  ///< ever
    std::uint32_t incidents_open = 0;
    std::uint64_t events = 0;
    std::uint64_t events_not_written = 0;  ///< to disk
    std::vector<WorkerMetrics> workers;
    std::vector<PortMetrics> ports;
    std::vector<SiteMetrics> sites;
    std::vector<PoolMetrics> pools;
    std::vector<PoolSiteMetrics> pool_sites;
    std::vector<ProbeMetrics> probes;
    std::vector<BfdMetrics> bfd;
    std::optional<BfdPackets> bfd_packets;  ///< absent: no session is configured
    /// Of probes through the tunnel: sent, refused, too_big, unknown. Absent: there are none.
    std::optional<std::array<std::uint64_t, 4>> probe_tunnel;
};

/// The server's own counts.
struct ApiMetrics {
    struct Requests {
        std::string path;
        unsigned status = 0;
        std::uint64_t count = 0;
    };
    std::vector<Requests> requests;
    std::uint64_t connections = 0;  ///< open now
    std::uint64_t refused = 0;      ///< over the limit
};

struct MetricFamily {
    std::string_view name;
    std::string_view type;  ///< counter, gauge
    std::string_view help;
};

/// Every family that render() may write, in its order.
[[nodiscard]] std::span<const MetricFamily> metric_families() noexcept;
[[nodiscard]] std::string render_metrics(const MetricsInput& input, const ApiMetrics& api);

}  // namespace detour::control
