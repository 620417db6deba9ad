#include "control/server/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <initializer_list>
#include <stdexcept>
#include <utility>

namespace detour::control {

namespace {

constexpr std::string_view kCounter = "counter";
constexpr std::string_view kGauge = "gauge";
constexpr std::string_view kUnknown = "unknown";

/// The one list of families: order of the page, and what docs/metrics.md is compared with.
constexpr std::array kFamilies{
    MetricFamily{"detour_build_info", kGauge, "Always 1; the labels say what runs."},
    MetricFamily{"detour_start_time_seconds", kGauge, "When the control process started, Unix time."},
    MetricFamily{"detour_config_loaded_time_seconds", kGauge, "When the running configuration was loaded."},
    MetricFamily{"detour_config_reloads_total", kCounter, "Configurations asked for, by result."},
    MetricFamily{"detour_dataplane_connected", kGauge,
                 "1 while the fast path answers on its control channel."},
    MetricFamily{"detour_dataplane_restored", kGauge, "1 when the fast path started from its own disk."},
    MetricFamily{"detour_plan_generation", kGauge, "The last forwarding plan published."},
    MetricFamily{"detour_plan_acknowledged_generation", kGauge, "The plan that every worker runs on."},
    MetricFamily{
        "detour_plan_ack_lag_seconds", kGauge,
        "Publication of the last plan to every worker's acknowledgement; while one is missing, so far."},
    MetricFamily{"detour_plans_total", kCounter, "Plans sent to the fast path, by result."},
    MetricFamily{"detour_tables_built_total", kCounter, "Lookup tables built by the fast path."},
    MetricFamily{"detour_switch_duration_seconds", kGauge,
                 "The last set-site: first store to the last worker's acknowledgement."},
    MetricFamily{"detour_loop_lag_seconds", kGauge, "How late the control loop ran its last tick."},
    MetricFamily{"detour_probes_total", kCounter, "Probes of backends, by site and outcome."},
    MetricFamily{"detour_probes_shed_total", kCounter,
                 "Probes left out because the control process was overloaded."},
    MetricFamily{"detour_drains", kGauge, "Drains in force."},
    MetricFamily{"detour_weight_overrides", kGauge, "Weights that operators have set and that are in force."},
    MetricFamily{"detour_hold", kGauge, "1 while automation is on hold."},
    MetricFamily{"detour_incidents_total", kCounter, "Incidents that were given a number."},
    MetricFamily{"detour_incidents_open", kGauge, "Incidents that are not closed."},
    MetricFamily{"detour_events_total", kCounter, "Events recorded."},
    MetricFamily{"detour_events_not_written_total", kCounter, "Events that the file on disk lacks."},
    MetricFamily{"detour_site_verdict", kGauge, "1 for the verdict that the site has, 0 for the others."},
    MetricFamily{"detour_site_verdict_changes_total", kCounter, "Changes of the site's verdict."},
    MetricFamily{"detour_site_admit_ratio", kGauge, "Share of its new flows that the site takes, 0 to 1."},
    MetricFamily{"detour_site_keep", kGauge, "1 while established flows stay at the site."},
    MetricFamily{"detour_site_drained", kGauge, "1 while an operator's drain covers the site."},
    MetricFamily{"detour_site_backends", kGauge, "Backends of the site, over all pools."},
    MetricFamily{"detour_site_backends_up", kGauge, "Backends of the site that are up."},
    MetricFamily{"detour_site_switches_total", kCounter, "Times that the site's admit or keep was set."},
    MetricFamily{"detour_site_syns_total", kCounter, "SYNs forwarded to the site, repeats left out."},
    MetricFamily{"detour_site_syns_repeated_total", kCounter, "Repeated SYNs forwarded to the site."},
    MetricFamily{"detour_site_syns_forgotten_total", kCounter,
                 "SYNs to the site that gave way to newer ones within a second, before a handshake."},
    MetricFamily{"detour_site_handshakes_total", kCounter, "Handshakes to the site that were completed."},
    MetricFamily{"detour_site_ack_advanced_total", kCounter,
                 "Packets whose ACK moved on: proof that the site reaches its clients."},
    MetricFamily{"detour_site_packets_total", kCounter, "Packets forwarded to the site."},
    MetricFamily{"detour_site_bytes_total", kCounter, "Bytes forwarded to the site, inner IP."},
    MetricFamily{"detour_site_trickle", kGauge,
                 "1 while the site is dark because clients don't get through, and a trickle of flows stays."},
    MetricFamily{"detour_bfd_session_up", kGauge,
                 "1 while the BFD session is up, 0 while it is down; absent while it is neither."},
    MetricFamily{"detour_bfd_packets_total", kCounter, "BFD packets, by what became of them."},
    MetricFamily{"detour_bfd_dropped_packets_total", kCounter, "BFD packets that were dropped, by reason."},
    MetricFamily{"detour_probe_tunnel_packets_total", kCounter,
                 "Packets of probes through the tunnel, by what became of them."},
    MetricFamily{"detour_pool_sites_admitted", kGauge, "Sites that take new flows of the pool."},
    MetricFamily{"detour_pool_backends", kGauge, "Backends of the pool."},
    MetricFamily{"detour_pool_backends_up", kGauge, "Backends of the pool that are up."},
    MetricFamily{"detour_pool_packets_total", kCounter, "Packets forwarded for the pool."},
    MetricFamily{"detour_pool_bytes_total", kCounter, "Bytes forwarded for the pool, inner IP."},
    MetricFamily{"detour_pool_too_big_total", kCounter,
                 "Packets of the pool that were too big for the tunnel."},
    MetricFamily{"detour_pool_shed_total", kCounter, "New flows of the pool refused for a limit."},
    MetricFamily{"detour_pool_flows", kGauge, "Live flows pinned to the pool in a site, some seconds old."},
    MetricFamily{"detour_worker_packets_total", kCounter,
                 "Packets by worker, outcome and reason; each ends in one."},
    MetricFamily{"detour_worker_flows", kGauge, "Flows remembered by the worker, by IP family."},
    MetricFamily{"detour_worker_flow_entries", kGauge,
                 "Places of the worker's flow table, by IP family; it is made to be half full."},
    MetricFamily{"detour_worker_flows_idle", kGauge,
                 "Confirmed flows of the worker by how long they have been idle, some seconds old."},
    MetricFamily{"detour_worker_flows_evicted_total", kCounter,
                 "Remembered flows that gave way to new ones because the table was full, by kind."},
    MetricFamily{"detour_worker_flows_evicted_idle_seconds_total", kCounter,
                 "How long the confirmed flows that were evicted had been idle, summed."},
    MetricFamily{"detour_worker_flows_not_inserted_total", kCounter,
                 "Flows that were forwarded but not remembered, by reason."},
    MetricFamily{"detour_worker_swept_total", kCounter,
                 "Clients of stranded flows that the sweep told, by what came of it."},
    MetricFamily{"detour_worker_generation", kGauge, "The plan that the worker runs on."},
    MetricFamily{"detour_port_up", kGauge, "1 while the port has a link."},
    MetricFamily{"detour_port_received_packets_total", kCounter, "Packets received."},
    MetricFamily{"detour_port_transmitted_packets_total", kCounter, "Packets sent."},
    MetricFamily{"detour_port_missed_packets_total", kCounter,
                 "Packets lost because a receive queue was full."},
    MetricFamily{"detour_port_no_buffer_total", kCounter, "Packets lost because no packet buffer was free."},
    MetricFamily{"detour_port_transmit_full_total", kCounter,
                 "Packets lost because a transmit queue was full."},
    MetricFamily{"detour_port_kernel_received_packets_total", kCounter,
                 "Packets of the host itself: those that its kernel received."},
    MetricFamily{"detour_port_kernel_sent_packets_total", kCounter,
                 "Packets of the host itself: those that its kernel sent."},
    MetricFamily{
        "detour_port_kernel_lost_packets_total", kCounter,
        "Packets of the host itself: those that the kernel refused or the transmit queue had no room for."},
    MetricFamily{"detour_api_connections", kGauge, "Open connections to the API's socket."},
    MetricFamily{"detour_api_connections_refused_total", kCounter, "Connections beyond the limit."},
    MetricFamily{"detour_api_requests_total", kCounter, "Requests answered, by path and HTTP status."},
};

constexpr std::array<std::string_view, 7> kVerdicts{"healthy",    "degraded", "suspect", "dark",
                                                    "recovering", "drained",  "unknown"};

/// In the order of WorkerMetrics::swept.
constexpr std::array<std::string_view, 6> kSwept{"reset",    "asked",   "answered",
                                                 "repeated", "backend", "undelivered"};

/// In the order of WorkerMetrics::idle.
constexpr std::array<std::string_view, api::kIdleClasses> kIdle{"under_10s", "under_1m", "under_10m",
                                                                "under_1h", "longer"};

struct Label {
    std::string_view name;
    std::string_view value;
};

/// Writes samples family by family; a family without samples is left out.
class Page {
  public:
    /// Families must be begun in kFamilies' order, so that none is forgotten or written twice.
    void family(std::string_view name) {
        const auto* found =
            std::find_if(next_, kFamilies.end(), [name](const auto& f) { return f.name == name; });
        if (found == kFamilies.end()) {  // a broken invariant, found by the first test that renders
            throw std::logic_error(fmt::format("metric family {} is not listed, or not in order", name));
        }
        next_ = found + 1;
        current_ = found;
        announced_ = false;
    }
    void sample(std::initializer_list<Label> labels, double value) { line(labels, number(value)); }
    template <std::integral T>
    void sample(std::initializer_list<Label> labels, T value) {
        line(labels, fmt::format("{}", static_cast<std::uint64_t>(value)));
    }
    [[nodiscard]] std::string take() { return std::move(text_); }

  private:
    void line(std::initializer_list<Label> labels, std::string_view value) {
        if (!announced_) {
            text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", current_->name, current_->help,
                                 current_->name, current_->type);
            announced_ = true;
        }
        text_ += current_->name;
        const char* separator = "{";
        for (const Label& label : labels) {
            text_ += fmt::format("{}{}=\"", separator, label.name);
            append_escaped(label.value);
            text_ += '"';
            separator = ",";
        }
        if (labels.size() > 0) text_ += '}';
        text_ += fmt::format(" {}\n", value);
    }
    static std::string number(double value) {
        if (std::isnan(value)) return "NaN";
        if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
        return fmt::format("{}", value);
    }
    void append_escaped(std::string_view value) {
        for (const char c : value) {
            if (c == '\n') {
                text_ += "\\n";
                continue;
            }
            if (c == '"' || c == '\\') text_ += '\\';
            text_ += c;
        }
    }

    std::string text_;
    const MetricFamily* next_ = kFamilies.begin();
    const MetricFamily* current_ = kFamilies.begin();
    bool announced_ = true;
};

/// One family with one sample per element.
template <class T, class Value>
void each(Page& page, std::string_view name, std::string_view label, const std::vector<T>& all,
          std::string T::*key, Value value) {
    page.family(name);
    for (const T& one : all) page.sample({{label, one.*key}}, one.*value);
}

void write_process(Page& page, const MetricsInput& in) {
    const auto single = [&page](std::string_view name, auto value) {
        page.family(name);
        page.sample({}, value);
    };
    page.family("detour_build_info");
    page.sample({{"version", in.version}, {"pop", in.pop}}, 1U);
    single("detour_start_time_seconds", in.started_seconds);
    single("detour_config_loaded_time_seconds", in.config_loaded_seconds);
    page.family("detour_config_reloads_total");
    page.sample({{"result", "applied"}}, in.config_reloads);
    page.sample({{"result", "refused"}}, in.config_refused);
    single("detour_dataplane_connected", in.dataplane_connected);
    single("detour_dataplane_restored", in.dataplane_restored);
    single("detour_plan_generation", in.generation);
    single("detour_plan_acknowledged_generation", in.acknowledged);
    single("detour_plan_ack_lag_seconds", in.ack_lag_seconds);
    page.family("detour_plans_total");
    page.sample({{"result", "applied"}}, in.plans);
    page.sample({{"result", "refused"}}, in.plans_refused);
    single("detour_tables_built_total", in.rebuilds);
    single("detour_switch_duration_seconds", in.last_switch_seconds);
    single("detour_loop_lag_seconds", in.loop_lag_seconds);
    page.family("detour_probes_total");
    for (const auto& probe : in.probes) {
        page.sample({{"site", probe.site}, {"outcome", probe.outcome}}, probe.count);
    }
    single("detour_probes_shed_total", in.probes_shed);
    single("detour_drains", in.drains);
    single("detour_weight_overrides", in.weights);
    single("detour_hold", in.hold ? 1 : 0);
    single("detour_incidents_total", in.incidents);
    single("detour_incidents_open", in.incidents_open);
    single("detour_events_total", in.events);
    single("detour_events_not_written_total", in.events_not_written);
}

void write_sites(Page& page, const std::vector<SiteMetrics>& sites) {
    page.family("detour_site_verdict");
    for (const SiteMetrics& site : sites) {
        const bool known = std::ranges::find(kVerdicts, site.verdict) != kVerdicts.end();
        for (const std::string_view verdict : kVerdicts) {
            const bool is = site.verdict == verdict || (!known && verdict == kUnknown);
            page.sample({{"site", site.site}, {"verdict", verdict}}, is);
        }
    }
    using S = SiteMetrics;
    const auto sited = [&](std::string_view name, auto member) {
        each(page, name, "site", sites, &S::site, member);
    };
    sited("detour_site_verdict_changes_total", &S::verdict_changes);
    sited("detour_site_admit_ratio", &S::admit);
    sited("detour_site_keep", &S::keep);
    sited("detour_site_drained", &S::drained);
    sited("detour_site_backends", &S::backends);
    sited("detour_site_backends_up", &S::backends_up);
    sited("detour_site_switches_total", &S::switches);
    sited("detour_site_syns_total", &S::syns);
    sited("detour_site_syns_repeated_total", &S::syns_repeated);
    sited("detour_site_syns_forgotten_total", &S::syns_forgotten);
    sited("detour_site_handshakes_total", &S::handshakes);
    sited("detour_site_ack_advanced_total", &S::ack_advanced);
    sited("detour_site_packets_total", &S::packets);
    sited("detour_site_bytes_total", &S::bytes);
    sited("detour_site_trickle", &S::trickle);
}

void write_tunnel(Page& page, const MetricsInput& in) {
    if (!in.probe_tunnel) return;
    constexpr std::array<std::string_view, 4> kResults{"sent", "refused", "too_big", "unknown"};
    page.family("detour_probe_tunnel_packets_total");
    for (std::size_t i = 0; i < kResults.size(); ++i)
        page.sample({{"result", kResults[i]}}, (*in.probe_tunnel)[i]);
}

void write_bfd(Page& page, const MetricsInput& in) {
    page.family("detour_bfd_session_up");
    for (const BfdMetrics& session : in.bfd) {
        if (session.state == kUnknown) continue;
        page.sample({{"site", session.site}, {"address", session.address}}, session.state == "up");
    }
    if (!in.bfd_packets) return;
    page.family("detour_bfd_packets_total");
    page.sample({{"result", "received"}}, in.bfd_packets->received);
    page.sample({{"result", "sent"}}, in.bfd_packets->sent);
    page.sample({{"result", "not_sent"}}, in.bfd_packets->send_failed);
    page.family("detour_bfd_dropped_packets_total");
    for (const auto& [reason, count] : in.bfd_packets->dropped) page.sample({{"reason", reason}}, count);
}

void write_pools(Page& page, const std::vector<PoolMetrics>& pools) {
    using P = PoolMetrics;
    const auto pooled = [&](std::string_view name, auto member) {
        each(page, name, "pool", pools, &P::pool, member);
    };
    pooled("detour_pool_sites_admitted", &P::sites_admitted);
    pooled("detour_pool_backends", &P::backends);
    pooled("detour_pool_backends_up", &P::backends_up);
    pooled("detour_pool_packets_total", &P::packets);
    pooled("detour_pool_bytes_total", &P::bytes);
    pooled("detour_pool_too_big_total", &P::too_big);
    pooled("detour_pool_shed_total", &P::shed);
}

std::string_view outcome_name(api::Outcome outcome) noexcept {
    switch (outcome) {
        case api::Outcome::kForwarded:
            return "forwarded";
        case api::Outcome::kAnswered:
            return "answered";
        case api::Outcome::kKernel:
            return "kernel";
        case api::Outcome::kDropped:
            return "dropped";
    }
    return kUnknown;
}

void write_pool_sites(Page& page, const std::vector<PoolSiteMetrics>& rows) {
    page.family("detour_pool_flows");
    for (const PoolSiteMetrics& row : rows) page.sample({{"pool", row.pool}, {"site", row.site}}, row.flows);
}

void write_flow_tables(Page& page, const std::vector<WorkerMetrics>& workers) {
    using W = WorkerMetrics;
    const auto by = [&](std::string_view name, std::string_view label,
                        std::initializer_list<std::pair<std::string_view, std::uint64_t W::*>> members) {
        page.family(name);
        for (const W& worker : workers) {
            const std::string id = fmt::format("{}", worker.worker);
            for (const auto& [value, member] : members)
                page.sample({{"worker", id}, {label, value}}, worker.*member);
        }
    };
    by("detour_worker_flow_entries", "family", {{"v4", &W::entries_v4}, {"v6", &W::entries_v6}});
    page.family("detour_worker_flows_idle");
    for (const W& worker : workers) {
        for (std::size_t i = 0; i < kIdle.size(); ++i)
            page.sample({{"worker", fmt::format("{}", worker.worker)}, {"idle", kIdle[i]}}, worker.idle[i]);
    }
    by("detour_worker_flows_evicted_total", "kind",
       {{"confirmed", &W::evicted_confirmed}, {"unconfirmed", &W::evicted_unconfirmed}});
    page.family("detour_worker_flows_evicted_idle_seconds_total");
    for (const W& worker : workers)
        page.sample({{"worker", fmt::format("{}", worker.worker)}}, worker.evicted_idle_seconds);
    by("detour_worker_flows_not_inserted_total", "reason",
       {{"rate", &W::not_inserted}, {"full", &W::no_place}});
}

void write_workers(Page& page, const std::vector<WorkerMetrics>& workers) {
    page.family("detour_worker_packets_total");
    for (const WorkerMetrics& worker : workers) {
        const std::string id = fmt::format("{}", worker.worker);
        for (const api::ReasonInfo& reason : api::kReasons) {
            page.sample({{"worker", id}, {"outcome", outcome_name(reason.outcome)}, {"reason", reason.name}},
                        worker.packets[static_cast<std::size_t>(reason.reason)]);
        }
    }
    page.family("detour_worker_flows");
    for (const WorkerMetrics& worker : workers) {
        const std::string id = fmt::format("{}", worker.worker);
        page.sample({{"worker", id}, {"family", "v4"}}, worker.flows_v4);
        page.sample({{"worker", id}, {"family", "v6"}}, worker.flows_v6);
    }
    write_flow_tables(page, workers);
    page.family("detour_worker_swept_total");
    for (const WorkerMetrics& worker : workers) {
        for (std::size_t i = 0; i < kSwept.size(); ++i)
            page.sample({{"worker", fmt::format("{}", worker.worker)}, {"result", kSwept[i]}},
                        worker.swept[i]);
    }
    page.family("detour_worker_generation");
    for (const WorkerMetrics& worker : workers) {
        page.sample({{"worker", fmt::format("{}", worker.worker)}}, worker.acknowledged);
    }
}

void write_ports(Page& page, const std::vector<PortMetrics>& ports) {
    using P = PortMetrics;
    const auto ported = [&](std::string_view name, auto member) {
        each(page, name, "port", ports, &P::name, member);
    };
    ported("detour_port_up", &P::up);
    ported("detour_port_received_packets_total", &P::rx_packets);
    ported("detour_port_transmitted_packets_total", &P::tx_packets);
    ported("detour_port_missed_packets_total", &P::rx_missed);
    ported("detour_port_no_buffer_total", &P::rx_no_mbuf);
    ported("detour_port_transmit_full_total", &P::tx_full);
    ported("detour_port_kernel_received_packets_total", &P::kernel_received);
    ported("detour_port_kernel_sent_packets_total", &P::kernel_sent);
    ported("detour_port_kernel_lost_packets_total", &P::kernel_lost);
}

void write_api(Page& page, const ApiMetrics& api) {
    page.family("detour_api_connections");
    page.sample({}, api.connections);
    page.family("detour_api_connections_refused_total");
    page.sample({}, api.refused);
    page.family("detour_api_requests_total");
    for (const auto& one : api.requests) {
        page.sample({{"path", one.path}, {"code", fmt::format("{}", one.status)}}, one.count);
    }
}

}  // namespace

std::span<const MetricFamily> metric_families() noexcept {
    return kFamilies;
}

std::string render_metrics(const MetricsInput& input, const ApiMetrics& api) {
    Page page;
    write_process(page, input);
    write_sites(page, input.sites);
    write_bfd(page, input);
    write_tunnel(page, input);
    write_pools(page, input.pools);
    write_pool_sites(page, input.pool_sites);
    write_workers(page, input.workers);
    write_ports(page, input.ports);
    write_api(page, api);
    return page.take();
}

}  // namespace detour::control
