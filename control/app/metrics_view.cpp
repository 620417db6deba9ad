// The part of the views that fills /metrics.
#include <algorithm>
#include <map>

#include "control/app/api_view.h"
#include "dataplane.pb.h"

namespace detour::app {

namespace {

double seconds(health::nanoseconds value) {
    return std::chrono::duration<double>(value).count();
}

template <class Map, class Key>
auto value_of(const Map& map, const Key& key) {
    const auto found = map.find(key);
    return found == map.end() ? typename Map::mapped_type{} : found->second;
}

void fill_host(const ViewInput& in, control::MetricsInput& out) {
    out.version = in.options.version;
    out.pop = in.config.pop.name;
    out.started_seconds = seconds(in.counters.started.value);
    out.config_loaded_seconds = seconds(in.counters.config_loaded.value);
    out.config_reloads = in.counters.reloads;
    out.config_refused = in.counters.reloads_refused;
    out.dataplane_connected = in.figures.up();
    out.dataplane_restored = in.figures.hello().restored();
    out.generation = in.snapshot.generation.value();
    out.acknowledged = in.snapshot.acknowledged.value();
    if (in.counters.plan_lag)
        out.ack_lag_seconds = seconds(*in.counters.plan_lag);
    else if (in.counters.plans > 0)
        out.ack_lag_seconds = seconds(in.snapshot.at.monotonic - in.counters.plan_sent);
    out.last_switch_seconds = seconds(in.counters.last_switch);
    out.plans = in.counters.plans;
    out.plans_refused = in.counters.plans_refused;
    out.rebuilds = in.figures.stats().rebuilds();
    out.loop_lag_seconds = seconds(in.counters.loop_lag);
    out.probes_shed = in.probes_shed + in.snapshot.probes_shed;
    out.drains = static_cast<std::uint32_t>(in.snapshot.drains.size());
    out.incidents = in.incidents.last();
    out.incidents_open = static_cast<std::uint32_t>(in.incidents.open());
    out.weights = static_cast<std::uint32_t>(in.snapshot.weights.size());
    out.hold = in.snapshot.hold.has_value();
    out.events = in.events;
    out.events_not_written = in.events_not_written;
}

void fill_flow_table(const wire::FlowTableStats& in, control::WorkerMetrics& out) {
    out.entries_v4 = in.entries_v4();
    out.entries_v6 = in.entries_v6();
    out.evicted_confirmed = in.evicted_confirmed();
    out.evicted_unconfirmed = in.evicted_unconfirmed();
    out.evicted_idle_seconds = in.evicted_idle_s();
    out.no_place = in.no_place();
    const int classes = std::min(in.idle_size(), static_cast<int>(out.idle.size()));
    for (int i = 0; i < classes; ++i) out.idle[static_cast<std::size_t>(i)] = in.idle(i);
}

void fill_workers_and_ports(const ViewInput& in, control::MetricsInput& out) {
    for (const auto& worker : in.figures.stats().workers()) {
        control::WorkerMetrics metrics{.worker = worker.worker(),
                                       .acknowledged = worker.acknowledged(),
                                       .flows_v4 = worker.flows_v4(),
                                       .flows_v6 = worker.flows_v6(),
                                       .not_inserted = worker.not_inserted()};
        const auto& swept = worker.sweep();
        fill_flow_table(worker.flow_table(), metrics);
        metrics.swept = {swept.resets(),   swept.asked(),    swept.answered(),
                         swept.repeated(), swept.backends(), swept.undelivered()};
        for (const auto& counter : worker.counters()) {
            if (counter.reason() < api::kReasonCount) metrics.packets[counter.reason()] = counter.value();
        }
        out.workers.push_back(metrics);
    }
    for (const auto& port : in.figures.stats().ports()) {
        control::PortMetrics metrics{std::to_string(port.port()),
                                     false,
                                     port.rx_packets(),
                                     port.tx_packets(),
                                     port.rx_missed(),
                                     port.rx_no_mbuf(),
                                     port.tx_full(),
                                     port.kernel_received(),
                                     port.kernel_sent(),
                                     port.kernel_lost()};
        for (const auto& known : in.figures.hello().ports()) {
            if (known.index() != port.port()) continue;
            metrics.name = known.name();
            metrics.up = known.link_up();
        }
        out.ports.push_back(std::move(metrics));
    }
}

void fill_sites(const ViewInput& in, control::MetricsInput& out) {
    const auto totals = site_totals(in.figures.stats());
    for (const auto& site : in.snapshot.sites) {
        control::SiteMetrics metrics;
        metrics.site = site.name;
        metrics.verdict = to_string(site.verdict);
        metrics.admit = static_cast<double>(site.gate.admit.value()) / api::kAdmitAll.value();
        metrics.keep = site.gate.keep;
        metrics.drained = std::ranges::any_of(in.snapshot.drains, [&](const DrainStatus& drain) {
            return std::ranges::find(drain.sites, site.name) != drain.sites.end();
        });
        metrics.backends = site.up + site.down + site.unknown;
        metrics.backends_up = site.up;
        metrics.switches = value_of(in.counters.switches, site.name);
        metrics.verdict_changes = value_of(in.counters.verdict_changes, site.name);
        const SiteTotals total = value_of(totals, site.id);
        metrics.syns = total.syns;
        metrics.syns_repeated = total.syns_repeated;
        metrics.syns_forgotten = total.syns_forgotten;
        metrics.handshakes = total.handshakes;
        metrics.ack_advanced = total.ack_advanced;
        metrics.packets = total.packets;
        metrics.bytes = total.bytes;
        metrics.trickle = site.trickle;
        for (const BfdStatus& session : site.bfd) {
            out.bfd.push_back(
                {site.name, session.peer.address.to_string(), std::string(to_string(session.path))});
        }
        out.sites.push_back(std::move(metrics));
    }
}

void fill_pools(const ViewInput& in, control::MetricsInput& out) {
    for (const auto& pool : in.snapshot.pools) {
        control::PoolMetrics metrics;
        metrics.pool = pool.name;
        metrics.sites_admitted = pool.admitted_sites;
        for (const auto& site : pool.sites) {
            metrics.backends += site.up + site.down + site.unknown;
            metrics.backends_up += site.up;
        }
        for (const auto& counted : in.figures.stats().pools()) {
            if (counted.pool() != pool.id.value()) continue;
            metrics.packets = counted.packets();
            metrics.bytes = counted.bytes();
            metrics.too_big = counted.too_big();
            metrics.shed = counted.shed();
        }
        out.pools.push_back(std::move(metrics));
    }
}

void fill_pool_sites(const ViewInput& in, control::MetricsInput& out) {
    std::map<std::uint32_t, std::uint64_t> flows;
    for (const auto& backend : in.figures.stats().backends()) flows[backend.backend()] = backend.flows();
    std::map<std::pair<std::string, std::string>, std::uint64_t> sums;
    for (const auto& backend : in.snapshot.backends)
        sums[{backend.pool, backend.site}] += value_of(flows, std::uint32_t{backend.id.value()});
    for (const auto& [key, sum] : sums) out.pool_sites.push_back({key.first, key.second, sum});
}

void fill_tunnel(const ViewInput& in, control::MetricsInput& out) {
    if (in.tunnel == nullptr) return;
    const health::TunnelCounters& counters = in.tunnel->counters();
    out.probe_tunnel = {{counters.sent, counters.refused, counters.too_big, counters.unknown}};
}

void fill_bfd(const ViewInput& in, control::MetricsInput& out) {
    if (!in.bfd) return;
    control::BfdPackets packets{in.bfd->packets.received, in.bfd->sent, in.bfd->send_failed, {}};
    for (std::size_t i = 0; i < bfd::kDropCount; ++i) {
        const auto reason = static_cast<bfd::Drop>(i);
        packets.dropped.emplace_back(to_string(reason), in.bfd->packets.of(reason));
    }
    out.bfd_packets = std::move(packets);
}

}  // namespace

control::MetricsInput view_metrics(const ViewInput& in) {
    control::MetricsInput out;
    fill_host(in, out);
    fill_workers_and_ports(in, out);
    fill_sites(in, out);
    fill_bfd(in, out);
    fill_tunnel(in, out);
    fill_pools(in, out);
    fill_pool_sites(in, out);
    for (const auto& [key, count] : in.counters.probes) out.probes.push_back({key.first, key.second, count});
    return out;
}

}  // namespace detour::app
