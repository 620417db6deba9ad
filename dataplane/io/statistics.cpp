#include "dataplane/io/statistics.h"

#include <algorithm>

#include "dataplane.pb.h"
#include "dataplane/api/limits.h"

namespace detour::io {
namespace {

using Workers = std::span<const std::unique_ptr<Worker>>;

void collect_sites(const stages::WorkerState& state, wire::WorkerStats& out) {
    for (std::uint32_t id = 0; id < state.sites.size(); ++id) {
        const stages::SiteSignals& s = state.sites[id];
        if (s.packets.get() == 0 && s.syns.get() == 0) continue;
        wire::SiteSignals& row = *out.add_sites();
        row.set_site(id);
        row.set_syns(s.syns.get());
        row.set_syns_repeated(s.syns_repeated.get());
        row.set_handshakes(s.handshakes.get());
        row.set_ack_advanced(s.ack_advanced.get());
        row.set_packets(s.packets.get());
        row.set_bytes(s.bytes.get());
        row.set_syns_forgotten(s.syns_forgotten.get());
        row.set_forgotten_ms(s.forgotten_ms.get());
    }
}

void collect_flow_table(const stages::WorkerState& state, wire::FlowTableStats& out) {
    const stages::FlowTally& tally = state.flow_tally;
    out.set_entries_v4(state.flows_v4.capacity());
    out.set_entries_v6(state.flows_v6.capacity());
    out.set_evicted_confirmed(tally.evicted_confirmed.get());
    out.set_evicted_unconfirmed(tally.evicted_unconfirmed.get());
    out.set_evicted_idle_s(tally.evicted_idle_s.get());
    out.set_no_place(tally.no_place.get());
    for (const stages::Tally& flows : tally.idle) out.add_idle(flows.get());
}

void collect_worker(const Worker& worker, wire::WorkerStats& out) {
    const stages::WorkerState& state = worker.state();
    out.set_acknowledged(worker.acknowledged());
    out.set_scanned(state.scanned());
    out.set_flows_v4(worker.flows_v4());
    out.set_flows_v6(worker.flows_v6());
    for (std::uint32_t reason = 0; reason < state.counters.size(); ++reason) {
        const std::uint64_t value = state.counters[reason].get();
        if (value == 0) continue;
        wire::Counter& row = *out.add_counters();
        row.set_reason(reason);
        row.set_value(value);
    }
    out.set_not_inserted(state.not_inserted.get());
    collect_flow_table(state, *out.mutable_flow_table());
    wire::SweepStats& sweep = *out.mutable_sweep();
    sweep.set_resets(state.swept.resets.get());
    sweep.set_asked(state.swept.asked.get());
    sweep.set_answered(state.swept.answered.get());
    sweep.set_repeated(state.swept.repeated.get());
    sweep.set_backends(state.swept.backends.get());
    sweep.set_undelivered(state.swept.undelivered.get());
    collect_sites(state, out);
}

void collect_prefixes(Workers workers, wire::StatsReply& reply) {
    for (std::uint32_t id = 0; id < api::kMaxSites; ++id) {
        const auto knows = [&](const auto& worker) { return worker->state().sites[id].syns.get() != 0; };
        if (std::ranges::none_of(workers, knows)) continue;
        wire::SitePrefixes& row = *reply.add_prefixes();
        row.set_site(id);
        for (std::size_t bucket = 0; bucket < api::kPrefixBuckets; ++bucket) {
            std::uint32_t syns = 0;
            std::uint32_t handshakes = 0;
            for (const auto& worker : workers) {
                const stages::PrefixTallies& tallies = worker->state().prefixes[id];
                syns += tallies.syns[bucket].get();
                handshakes += tallies.handshakes[bucket].get();
            }
            row.add_syns(syns);
            row.add_handshakes(handshakes);
        }
    }
}

void collect_pools(Workers workers, wire::StatsReply& reply) {
    for (std::uint32_t id = 0; id < api::kMaxPools; ++id) {
        std::uint64_t packets = 0;
        std::uint64_t bytes = 0;
        std::uint64_t too_big = 0;
        std::uint64_t new_flows = 0;
        std::uint64_t shed = 0;
        for (const auto& worker : workers) {
            const stages::PoolTally& tally = worker->state().pools[id];
            packets += tally.packets.get();
            bytes += tally.bytes.get();
            too_big += tally.too_big.get();
            new_flows += tally.new_flows.get();
            shed += tally.shed.get();
        }
        if (packets == 0 && too_big == 0 && shed == 0) continue;
        wire::PoolStats& row = *reply.add_pools();
        row.set_pool(id);
        row.set_packets(packets);
        row.set_bytes(bytes);
        row.set_too_big(too_big);
        row.set_new_flows(new_flows);
        row.set_shed(shed);
    }
}

void collect_backends(Workers workers, wire::StatsReply& reply) {
    for (std::uint32_t id = 0; id < api::kMaxBackends; ++id) {
        std::uint64_t packets = 0;
        std::uint64_t bytes = 0;
        std::uint64_t flows = 0;
        std::uint64_t syns = 0;
        std::uint64_t handshakes = 0;
        for (const auto& worker : workers) {
            const stages::BackendTally& tally = worker->state().backends[id];
            packets += tally.packets.get();
            bytes += tally.bytes.get();
            flows += tally.flows.get();
            syns += tally.syns.get();
            handshakes += tally.handshakes.get();
        }
        if (packets == 0 && flows == 0) continue;
        wire::BackendStats& row = *reply.add_backends();
        row.set_backend(id);
        row.set_packets(packets);
        row.set_bytes(bytes);
        row.set_flows(flows);
        row.set_syns(syns);
        row.set_handshakes(handshakes);
    }
}

}  // namespace

void collect_statistics(const StatisticsOf& of, wire::StatsReply& reply) {
    const Workers workers = of.workers;
    const std::span<const EthernetPort> ports = of.ports;
    for (std::size_t i = 0; i < workers.size(); ++i) {
        wire::WorkerStats& row = *reply.add_workers();
        row.set_worker(static_cast<std::uint32_t>(i));
        collect_worker(*workers[i], row);
    }
    for (std::size_t i = 0; i < ports.size(); ++i) {
        wire::PortStats& row = *reply.add_ports();
        row.set_port(static_cast<std::uint32_t>(i));
        ports[i].collect(row);
        std::uint64_t full = 0;
        for (const auto& worker : workers) full += worker->transmit_full(i);
        row.set_tx_full(full);
        const KernelPath::Figures kernel = of.kernel.figures(i);
        row.set_kernel_received(kernel.received);
        row.set_kernel_sent(kernel.sent);
        row.set_kernel_lost(kernel.lost);
    }
    collect_prefixes(workers, reply);
    collect_pools(workers, reply);
    collect_backends(workers, reply);
}

}  // namespace detour::io
