#include "control/app/api_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "control/api/json.h"
#include "control/app/event_text.h"
#include "control/app/forecast.h"
#include "control/app/rules_view.h"
#include "dataplane.pb.h"

namespace detour::app {

namespace {

double ratio(api::Admit admit) {
    return static_cast<double>(admit.value()) / api::kAdmitAll.value();
}

std::string tier_name(config::SiteTier tier) {
    switch (tier) {
        case config::SiteTier::kActive:
            return "active";
        case config::SiteTier::kHot:
            return "hot";
        case config::SiteTier::kWarm:
            return "warm";
        case config::SiteTier::kCold:
            return "cold";
    }
    return "active";
}

std::string kind_name(failover::TargetKind kind) {
    switch (kind) {
        case failover::TargetKind::kSite:
            return "site";
        case failover::TargetKind::kPoolSite:
            return "pool";
        case failover::TargetKind::kBackend:
            return "backend";
        case failover::TargetKind::kDomain:
            return "domain";
    }
    return "site";
}

/// Flows pinned to the backends that `counts`, as the fast path last counted them; absent: it has not.
template <class Counts>
std::optional<std::uint64_t> flows_of(const ViewInput& in, Counts counts) {
    if (!in.snapshot.connected || in.figures.stats().backends().empty()) return std::nullopt;
    std::map<std::uint32_t, std::uint64_t> flows;
    for (const auto& backend : in.figures.stats().backends()) flows[backend.backend()] = backend.flows();
    std::uint64_t sum = 0;
    for (const auto& backend : in.snapshot.backends) {
        const auto found = flows.find(backend.id.value());
        if (found != flows.end() && counts(backend)) sum += found->second;
    }
    return sum;
}

bool covers(const DrainStatus& drain, const BackendStatus& backend) {
    const failover::Target& target = drain.drain.target;
    if (target.kind == failover::TargetKind::kBackend) return backend.address == target.address;
    if (target.kind == failover::TargetKind::kPoolSite && backend.pool != target.pool) return false;
    return std::ranges::find(drain.sites, backend.site) != drain.sites.end();
}

control::Drain view_drain(const ViewInput& in, const DrainStatus& status) {
    control::Drain drain;
    drain.target = status.target;
    drain.kind = kind_name(status.drain.target.kind);
    drain.since = to_api(status.drain.since);
    drain.expires = to_api(status.drain.until);
    drain.reason = status.drain.reason;
    drain.by = status.drain.by;
    drain.forced = status.drain.forced;
    drain.last_resort = status.drain.last_resort;
    drain.percent = status.drain.percent;
    if (status.drain.deadline) drain.deadline = to_api(*status.drain.deadline);
    drain.here = status.drain.here;
    drain.flows_left = flows_of(in, [&](const BackendStatus& backend) { return covers(status, backend); });
    drain.acknowledged = in.snapshot.connected && !in.switches_pending;
    if (status.drain.target.kind == failover::TargetKind::kSite && status.sites.size() == 1) {
        const auto site = std::ranges::find(in.snapshot.sites, status.sites.front(), &SiteStatus::name);
        if (site != in.snapshot.sites.end()) {
            if (const auto rates = in.figures.rates(site->id)) drain.new_flows_per_second = rates->new_flows;
        }
    }
    return drain;
}

/// Every line says that automation stands still, since nothing on it means what it usually does.
std::string with_hold(const ViewInput& in, const std::string& reason) {
    if (!in.snapshot.hold) return reason;
    return reason.empty() ? "automation on hold" : "automation on hold; " + reason;
}

/// A drain of the whole site, itself or by its domain.
std::optional<control::Drain> drain_of_site(const ViewInput& in, const std::string& site) {
    for (const auto& drain : in.snapshot.drains) {
        const auto kind = drain.drain.target.kind;
        if (kind != failover::TargetKind::kSite && kind != failover::TargetKind::kDomain) continue;
        if (std::ranges::find(drain.sites, site) != drain.sites.end()) return view_drain(in, drain);
    }
    return std::nullopt;
}

std::vector<control::BfdSession> view_bfd(const ViewInput& in, const SiteStatus& site) {
    std::vector<control::BfdSession> out;
    for (const BfdStatus& session : site.bfd) {
        const bool known = session.since.value.count() > 0;
        out.push_back({session.peer.address.to_string(), std::string(to_string(session.path)),
                       known ? to_api(session.since) : to_api(in.counters.started), session.why});
    }
    return out;
}

control::SiteStatus view_site(const ViewInput& in, const SiteStatus& site) {
    control::SiteStatus out;
    out.name = site.name;
    out.domain = site.domain;
    out.tier = tier_name(site.tier);
    out.verdict = to_string(site.verdict);
    out.since = to_api(site.since);
    out.admit = ratio(site.gate.admit);
    out.keep = site.gate.keep;
    out.reason = with_hold(in, site.reason);
    out.backends_up = site.up;
    out.backends = site.up + site.down + site.unknown;
    if (const auto rates = in.figures.rates(site.id)) {
        out.new_flows_per_second = rates->new_flows;
        out.packets_per_second = rates->packets;
        out.bits_per_second = rates->bits;
    }
    out.flows = flows_of(in, [&](const BackendStatus& backend) { return backend.site == site.name; });
    if (const auto* config = in.config.find_site(site.name))
        out.capacity_new_flows = config->capacity.new_flows;
    out.drain = drain_of_site(in, site.name);
    if (site.budget.new_flows > 0) out.load = site.load.new_flows / site.budget.new_flows;
    if (site.budget.gbps > 0) out.load = std::max(out.load.value_or(0), site.load.gbps / site.budget.gbps);
    out.full = site.full;
    out.bfd = view_bfd(in, site);
    out.trickle = site.trickle;
    return out;
}

void judge_pool(const PoolStatus& pool, control::PoolStatus& out) {
    std::uint32_t down = 0;
    for (const auto& site : pool.sites) down += site.down;
    if (pool.admitted_sites == 0) {
        out.state = "down";
        out.reason = "no site takes it";
    } else if (pool.admitted_sites < std::max(pool.min_sites, 1U)) {
        out.state = "degraded";
        out.reason = fmt::format("{} of at least {} sites", pool.admitted_sites, pool.min_sites);
    } else if (pool.admitted_sites < pool.sites.size() || down > 0) {
        out.state = "degraded";
        out.reason = fmt::format("{} of {} sites take it, {} backends are down", pool.admitted_sites,
                                 pool.sites.size(), down);
    } else {
        out.state = "ok";
    }
}

control::PoolStatus view_pool(const ViewInput& in, const PoolStatus& pool) {
    control::PoolStatus out;
    out.name = pool.name;
    for (const auto& vip : pool.vips) out.vips.push_back(vip.to_string());
    out.min_sites = pool.min_sites;
    if (const auto* config = in.config.find_pool(pool.name)) {
        out.encap = api::to_string(config->encap);
        out.hash = api::to_string(config->hash);
        out.stranded = api::to_string(config->stranded);
        out.priority = config->priority;
    }
    judge_pool(pool, out);
    add_rules(pool, in.config, out);
    out.reason = with_hold(in, out.reason);
    const auto share = shares(parts_of(pool, in.snapshot));
    for (std::size_t i = 0; i < pool.sites.size(); ++i) {
        const auto& site = pool.sites[i];
        const auto known = std::ranges::find(in.snapshot.sites, site.site, &SiteStatus::name);
        control::PoolSite part;
        part.site = site.site;
        if (known != in.snapshot.sites.end()) part.tier = tier_name(known->tier);
        part.weight = site.weight;
        part.admit = ratio(site.effective.admit);
        part.backends_up = site.up;
        part.backends = site.up + site.down + site.unknown;
        part.share = share[i];
        out.sites.push_back(std::move(part));
    }
    return out;
}

control::BackendStatus view_backend(const ViewInput& in, const BackendStatus& backend) {
    control::BackendStatus out;
    out.pool = backend.pool;
    out.site = backend.site;
    out.address = backend.address.to_string();
    out.weight = backend.weight;
    out.state = backend.drained ? "drained" : to_string(backend.state);
    out.since = to_api(backend.since);
    out.reason = backend.last_outcome;
    const auto hop = in.next_hops.find(backend.address);
    if (!backend.resolved && hop != in.next_hops.end() && !hop->second.resolved) {
        out.reason += (out.reason.empty() ? "" : "; ") + hop->second.problem;
    }
    out.up = backend.up;
    out.keep = backend.keep;
    if (backend.round_trip.count() > 0) {
        out.probe_ms = std::chrono::duration<double, std::milli>(backend.round_trip).count();
    }
    for (const auto& drain : in.snapshot.drains) {
        const auto& target = drain.drain.target;
        if (target.kind == failover::TargetKind::kBackend && target.address == backend.address) {
            out.drain = view_drain(in, drain);
        }
    }
    return out;
}

control::DataplaneStatus view_dataplane(const ViewInput& in) {
    control::DataplaneStatus out;
    out.connected = in.figures.up();
    out.problem = in.figures.problem();
    out.version = in.figures.hello().version();
    out.restored = in.figures.hello().restored();
    out.generation = in.snapshot.generation.value();
    out.acknowledged = in.snapshot.acknowledged.value();
    out.rebuilds = in.figures.stats().rebuilds();
    for (const auto& worker : in.figures.stats().workers()) {
        const auto& table = worker.flow_table();
        out.workers.push_back({.worker = worker.worker(),
                               .acknowledged = worker.acknowledged(),
                               .flows_v4 = worker.flows_v4(),
                               .flows_v6 = worker.flows_v6(),
                               .entries_v4 = table.entries_v4(),
                               .entries_v6 = table.entries_v6(),
                               .evicted_confirmed = table.evicted_confirmed(),
                               .evicted_unconfirmed = table.evicted_unconfirmed(),
                               .evicted_idle_seconds = table.evicted_idle_s()});
    }
    return out;
}

std::vector<std::string> find_alarms(const ViewInput& in) {
    std::vector<std::string> alarms;
    if (!in.figures.up()) alarms.push_back("the fast path is not connected: " + in.figures.problem());
    if (in.snapshot.fail_static) {
        alarms.push_back(
            "every site looks dark from here: nothing is switched, the fault is probably this host's");
    }
    if (in.snapshot.hold) {
        const auto& hold = *in.snapshot.hold;
        alarms.push_back(fmt::format(
            "automation is on hold until {} ({}{})", control::to_text(to_api(hold.until)),
            hold.reason.empty() ? "no reason given" : hold.reason, hold.by.empty() ? "" : ", by " + hold.by));
    }
    for (auto& alarm : pool_alarms(in.snapshot)) alarms.push_back(std::move(alarm));
    for (const auto& site : in.snapshot.sites) {
        if (site.verdict == failover::Verdict::kDark)
            alarms.push_back(site.name + " is dark: " + site.reason);
        if (site.held) alarms.push_back(site.name + " answers again and is held until it is undrained");
    }
    std::size_t unresolved = 0;
    for (const auto& [address, hop] : in.next_hops) unresolved += hop.resolved ? 0 : 1;
    if (unresolved > 0) alarms.push_back(fmt::format("{} backend addresses have no next hop", unresolved));
    if (in.counters.trial && in.counters.trial->taken_back) {
        alarms.push_back(
            "the configuration on disk was not confirmed in time and is not in force: mend it, then lbctl "
            "config apply");
    } else if (in.counters.trial) {
        alarms.push_back(
            fmt::format("the configuration is taken back at {} unless you say: lbctl config confirm",
                        control::to_text(to_api(in.counters.trial->until))));
    }
    if (in.counters.config_refused) alarms.push_back("the configuration on disk was refused");
    if (in.events_not_written > 0)
        alarms.push_back("events are missing in the file: the disk is too slow or full");
    return alarms;
}

}  // namespace

control::Version view_version(const ViewInput& in) {
    return {in.options.version, control::kApiVersion, in.config.pop.name, to_api(in.counters.started)};
}

control::Status view_status(const ViewInput& in) {
    control::Status out;
    out.version = view_version(in);
    out.now = to_api(in.snapshot.at.wall);
    out.alarms = find_alarms(in);
    out.dataplane = view_dataplane(in);
    out.sites = view_sites(in);
    out.pools = static_cast<std::uint32_t>(in.snapshot.pools.size());
    for (const auto& pool : in.snapshot.pools) out.pools_not_ok += view_pool(in, pool).state == "ok" ? 0 : 1;
    out.drains = view_drains(in);
    out.domains = view_domains(in.snapshot);
    for (auto& incident : in.incidents.list()) {
        if (!incident.closed) out.incidents.push_back(std::move(incident));
    }
    if (in.snapshot.hold) {
        const auto& hold = *in.snapshot.hold;
        out.hold = control::Hold{to_api(hold.since), to_api(hold.until), hold.reason, hold.by, hold.here};
    }
    for (const auto& [target, weight] : in.snapshot.weights) {
        out.weights.push_back({target, weight.weight, to_api(weight.since), to_api(weight.until),
                               weight.reason, weight.by, weight.here});
    }
    const bool all_healthy = std::ranges::all_of(
        in.snapshot.sites, [](const auto& site) { return site.verdict == failover::Verdict::kHealthy; });
    out.state = !out.alarms.empty() ? "alarm" : all_healthy ? "ok" : "degraded";
    return out;
}

std::vector<control::SiteStatus> view_sites(const ViewInput& in) {
    std::vector<control::SiteStatus> out;
    for (const auto& site : in.snapshot.sites) out.push_back(view_site(in, site));
    return out;
}

std::vector<control::PoolStatus> view_pools(const ViewInput& in) {
    std::vector<control::PoolStatus> out;
    for (const auto& pool : in.snapshot.pools) out.push_back(view_pool(in, pool));
    return out;
}

std::vector<control::BackendStatus> view_backends(const ViewInput& in) {
    std::vector<control::BackendStatus> out;
    for (const auto& backend : in.snapshot.backends) out.push_back(view_backend(in, backend));
    return out;
}

std::vector<control::Drain> view_drains(const ViewInput& in) {
    std::vector<control::Drain> out;
    for (const auto& drain : in.snapshot.drains) out.push_back(view_drain(in, drain));
    return out;
}

control::ConfigInfo view_config(const ViewInput& in) {
    control::ConfigInfo out;
    out.path = in.options.config_path;
    out.loaded = to_api(in.counters.config_loaded);
    out.sites = static_cast<std::uint32_t>(in.config.sites.size());
    out.pools = static_cast<std::uint32_t>(in.config.pools.size());
    out.backends = static_cast<std::uint32_t>(in.snapshot.backends.size());
    if (in.counters.config_refused) out.refused = to_api(*in.counters.config_refused);
    out.mistakes = in.counters.mistakes;
    if (in.counters.trial) {
        out.taken_back = in.counters.trial->taken_back;
        if (!out.taken_back) out.confirm_until = to_api(in.counters.trial->until);
    }
    return out;
}

}  // namespace detour::app
