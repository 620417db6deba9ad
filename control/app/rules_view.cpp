#include "control/app/rules_view.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace detour::app {

namespace {

using failover::WriterAlarm;

std::string writer_text(const PoolStatus& pool) {
    const std::string where = pool.writer.empty() ? "it takes no new flow" : "it stays at " + pool.writer;
    if (pool.writer_alarm == WriterAlarm::kTwo)
        return "more than one site says that its data is primary: " + where;
    return "no site says that its data is primary: " + where;
}

void worsen(control::PoolStatus& out, const std::string& reason) {
    if (out.state == "ok") out.state = "degraded";
    out.reason += (out.reason.empty() ? "" : "; ") + reason;
}

}  // namespace

void add_rules(const PoolStatus& pool, const config::Config& config, control::PoolStatus& out) {
    out.depends_on = pool.depends_on;
    out.without = pool.without;
    out.data = pool.single_writer ? "single-writer" : "any";
    out.writer = pool.writer;
    if (pool.shed > 0) out.shed = pool.shed;
    // A pool of one writer is whole with one site.
    const auto down = std::ranges::any_of(pool.sites, [](const auto& site) { return site.down > 0; });
    const bool one_is_enough = pool.single_writer && pool.admitted_sites == 1 && pool.min_sites <= 1;
    if (one_is_enough && !down) {
        out.state = "ok";
        out.reason = "its data is primary at " + pool.writer;
    }
    if (pool.writer_alarm != WriterAlarm::kNone) worsen(out, writer_text(pool));
    if (pool.shed > 0)
        worsen(out, fmt::format("sheds {:.0f} % of its new flows", std::max(1.0, 100 * pool.shed)));
    if (!pool.without.empty()) {
        worsen(out, fmt::format("depends on {}, which no site serves", fmt::join(pool.without, ", ")));
    }
    const auto* described = config.find_pool(pool.name);
    if (described != nullptr && described->follow && pool.follow_dropped)
        worsen(out, "what it follows is served at none of its sites");
}

std::vector<std::string> pool_alarms(const Snapshot& snapshot) {
    std::vector<std::string> alarms;
    for (const auto& pool : snapshot.pools) {
        if (pool.admitted_sites == 0) alarms.push_back("pool " + pool.name + " has no site");
    }
    for (const auto& pool : snapshot.pools) {
        if (pool.writer_alarm != WriterAlarm::kNone)
            alarms.push_back(fmt::format("pool {}: {}", pool.name, writer_text(pool)));
        if (pool.shed > 0) {
            alarms.push_back(fmt::format("pool {} sheds {:.0f} % of its new flows: no site has room",
                                         pool.name, std::max(1.0, 100 * pool.shed)));
        }
        if (!pool.without.empty()) {
            alarms.push_back(fmt::format("pool {} depends on {}, which no site serves", pool.name,
                                         fmt::join(pool.without, ", ")));
        }
    }
    for (const auto& site : snapshot.sites) {
        if (site.full)
            alarms.push_back(site.name + " is full: more is offered than this host may send there");
    }
    return alarms;
}

std::vector<control::DomainStatus> view_domains(const Snapshot& snapshot) {
    std::vector<control::DomainStatus> out;
    for (const auto& domain : snapshot.domains) {
        out.push_back({domain.path, std::string(failover::to_string(domain.verdict)), domain.sites,
                       domain.taking, domain.up, domain.backends});
    }
    return out;
}

}  // namespace detour::app
