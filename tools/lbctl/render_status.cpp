// Status, sites, pools, backends, flows: what is true now (render.h).
#include <fmt/format.h>

#include <algorithm>

#include "tools/lbctl/render.h"
#include "tools/lbctl/text.h"

namespace detour::lbctl {

using namespace detour::control;

namespace {

Tone tone_of(std::string_view state) {
    if (state == "healthy" || state == "up" || state == "ok") return Tone::kGood;
    if (state == "dark" || state == "down" || state == "alarm") return Tone::kBad;
    if (state == "unknown") return Tone::kPlain;
    return Tone::kWarning;
}

Cell state_cell(const std::string& state) {
    return {state, tone_of(state)};
}

std::string up_text(std::uint32_t up, std::uint32_t all) {
    return fmt::format("{}/{}", up, all);
}

Cell up_cell(std::uint32_t up, std::uint32_t all) {
    const Tone tone = up == all ? Tone::kPlain : up == 0 ? Tone::kBad : Tone::kWarning;
    return {up_text(up, all), tone};
}

Cell bfd_cell(const std::vector<BfdSession>& sessions) {
    if (sessions.empty()) return {};
    const auto up = std::ranges::count(sessions, "up", &BfdSession::state);
    return up_cell(static_cast<std::uint32_t>(up), static_cast<std::uint32_t>(sessions.size()));
}

std::string gigabits(const std::optional<double>& bits) {
    return bits ? fmt::format("{:.3f}", *bits / 1e9) : "";
}

std::string known_count(const std::optional<std::uint64_t>& count) {
    return count ? count_text(*count) : "";
}

Cell admit_cell(double admit) {
    return {percent_text(admit), admit >= 1 ? Tone::kPlain : Tone::kWarning};
}

Table site_table(std::span<const SiteStatus> sites, const View& view) {
    Table table({{"SITE"},
                 {"VERDICT"},
                 {"SINCE"},
                 {"ADMIT", Align::kRight},
                 {"KEEP"},
                 {"BACKENDS UP", Align::kRight},
                 {"BFD UP", Align::kRight},
                 {"NEW FLOWS/S", Align::kRight},
                 {"PACKETS/S", Align::kRight},
                 {"GBIT/S", Align::kRight},
                 {"FLOWS", Align::kRight},
                 {"REASON"}});
    for (const SiteStatus& site : sites) {
        table.row({{site.name},
                   state_cell(site.verdict),
                   {since_text(site.since, view.now)},
                   admit_cell(site.admit),
                   {site.keep ? "yes" : "no", site.keep ? Tone::kPlain : Tone::kBad},
                   up_cell(site.backends_up, site.backends),
                   bfd_cell(site.bfd),
                   {rate_text(site.new_flows_per_second)},
                   {rate_text(site.packets_per_second)},
                   {gigabits(site.bits_per_second)},
                   {known_count(site.flows)},
                   {site.reason}});
    }
    return table;
}

/// Those that hold more than one site: the others say what their site says.
std::string domains_text(std::span<const DomainStatus> domains, const View& view) {
    Table table({{"DOMAIN"}, {"VERDICT"}, {"SITES TAKING", Align::kRight}, {"BACKENDS UP", Align::kRight}});
    bool any = false;
    for (const DomainStatus& domain : domains) {
        if (domain.sites < 2) continue;
        any = true;
        table.row({{domain.path},
                   state_cell(domain.verdict),
                   up_cell(domain.taking, domain.sites),
                   up_cell(domain.backends_up, domain.backends)});
    }
    return any ? "\n" + table.render(view.colour) : "";
}

Table drain_table(std::span<const Drain> drains, const View& view) {
    Table table({{"DRAIN"},
                 {"KIND"},
                 {"TAKES", Align::kRight},
                 {"SINCE"},
                 {"EXPIRES"},
                 {"FLOWS END"},
                 {"NEW FLOWS/S", Align::kRight},
                 {"FLOWS LEFT", Align::kRight},
                 {"FAST PATH"},
                 {"BY"},
                 {"REASON"}});
    for (const Drain& drain : drains) {
        std::string reason = drain.reason;
        if (drain.forced) reason += " [forced]";
        if (drain.last_resort) reason += " [last resort]";
        if (drain.here) reason += " [this PoP alone]";
        table.row({{drain.target},
                   {drain.kind},
                   {fmt::format("{} %", drain.percent)},
                   {since_text(drain.since, view.now)},
                   {drain.expires ? until_text(*drain.expires, view.now) : "never"},
                   {drain.deadline ? until_text(*drain.deadline, view.now) : ""},
                   {rate_text(drain.new_flows_per_second)},
                   {known_count(drain.flows_left)},
                   {drain.acknowledged ? "acknowledged" : "not yet",
                    drain.acknowledged ? Tone::kPlain : Tone::kBad},
                   {drain.by},
                   {reason}});
    }
    return table;
}

Table weight_table(std::span<const WeightOverride> weights, const View& view) {
    Table table({{"WEIGHT OF"}, {"WEIGHT", Align::kRight}, {"SINCE"}, {"EXPIRES"}, {"BY"}, {"REASON"}});
    for (const WeightOverride& weight : weights) {
        table.row({{weight.target},
                   {fmt::format("{}", weight.weight), Tone::kWarning},
                   {since_text(weight.since, view.now)},
                   {until_text(weight.expires, view.now)},
                   {weight.by},
                   {weight.reason + (weight.here ? " [this PoP alone]" : "")}});
    }
    return table;
}

std::string hold_line(const Hold& hold, const View& view) {
    std::string text = fmt::format("AUTOMATION IS ON HOLD until {}", until_text(hold.expires, view.now));
    if (!hold.by.empty()) text += ", by " + printable(hold.by);
    if (!hold.reason.empty()) text += ": " + printable(hold.reason);
    if (hold.here) text += " [this PoP alone]";
    return toned(text, Tone::kBad, view.colour) + "\n";
}

std::string fast_path_line(const DataplaneStatus& fast, const View& view) {
    if (!fast.connected) {
        return "fast path  " +
               toned("NOT CONNECTED: it forwards on as it was told last, and no switch reaches it",
                     Tone::kBad, view.colour) +
               (fast.problem.empty() ? "" : " (" + printable(fast.problem) + ")");
    }
    std::uint64_t flows = 0;
    std::size_t on_time = 0;
    for (const WorkerStatus& worker : fast.workers) {
        flows += worker.flows_v4 + worker.flows_v6;
        if (worker.acknowledged >= fast.generation) ++on_time;
    }
    const bool lags = fast.acknowledged < fast.generation;
    std::string text = fmt::format("fast path  connected{}, plan {}",
                                   fast.restored ? ", restored from its disk" : "", fast.generation);
    text += toned(fmt::format(" acknowledged by {} of {} workers", on_time, fast.workers.size()),
                  lags ? Tone::kWarning : Tone::kPlain, view.colour);
    text += fmt::format(", {}", plural(flows, "flow"));
    if (!fast.problem.empty()) text += "; " + toned(printable(fast.problem), Tone::kBad, view.colour);
    return text;
}

/// The command that is likely next; empty when all is well.
std::string next_command(const Status& status) {
    const auto with = [&status](std::string_view verdict) {
        return std::ranges::find(status.sites, verdict, &SiteStatus::verdict);
    };
    if (!status.dataplane.connected) return "systemctl status detour-dataplane";
    if (!status.incidents.empty()) {
        return fmt::format("lbctl incidents {}     its timeline, and by which rule it was decided",
                           status.incidents.front().number);
    }
    if (with("dark") != status.sites.end() || with("suspect") != status.sites.end()) {
        return "lbctl events --since 15m     what happened, in order";
    }
    const auto held = with("recovering");
    if (held != status.sites.end() && held->admit <= 0) {
        return fmt::format("lbctl undrain {}     it answers again, and is held back until you say so",
                           shell_word(held->name));
    }
    if (status.hold) return "lbctl release     automation goes on";
    if (!status.drains.empty()) {
        return fmt::format("lbctl undrain {}     gives its traffic back",
                           shell_word(status.drains.front().target));
    }
    if (status.pools_not_ok > 0) return "lbctl pools";
    return "";
}

}  // namespace

std::string shell_word(const std::string& word) {
    constexpr std::string_view kPlain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@:";
    const bool plain = !word.empty() && word.find_first_not_of(kPlain) == std::string::npos;
    return plain ? word : "'" + printable(word) + "'";
}

std::string render(const Status& status, const View& view) {
    std::string out = fmt::format(
        "PoP {}     detour-control {}, up {}     state: {}\n", printable(status.version.pop),
        printable(status.version.version),
        duration_text(std::chrono::floor<std::chrono::milliseconds>(status.now - status.version.started)),
        toned(status.state, tone_of(status.state), view.colour));
    if (status.hold) out += hold_line(*status.hold, view);
    out += fast_path_line(status.dataplane, view) + "\n";
    out +=
        fmt::format("pools      {}, {} not ok\n", count_text(status.pools), count_text(status.pools_not_ok));
    for (const std::string& alarm : status.alarms) {
        out += toned("ALARM  " + printable(alarm), Tone::kBad, view.colour) + "\n";
    }
    for (const IncidentSummary& incident : status.incidents) {
        out += fmt::format("incident {} is open since {}: {}\n", incident.number,
                           since_text(incident.opened, view.now), printable(incident.text));
    }
    out += "\n" + site_table(status.sites, view).render(view.colour);
    out += domains_text(status.domains, view);
    if (!status.drains.empty()) out += "\n" + drain_table(status.drains, view).render(view.colour);
    if (!status.weights.empty()) out += "\n" + weight_table(status.weights, view).render(view.colour);
    const std::string next = next_command(status);
    if (!next.empty()) out += "\nnext: " + next + "\n";
    return out;
}

namespace {

/// How full a flow table is. It is made to be half full; somewhat beyond, flows begin to find no place.
Cell full_cell(std::uint64_t flows, std::uint64_t entries) {
    if (entries == 0) return {""};
    const double share = static_cast<double>(flows) / static_cast<double>(entries);
    return {percent_text(share), share > 0.6 ? Tone::kWarning : Tone::kPlain};
}

/// How long the flows that were lost had been idle, on average.
std::string idle_text(const WorkerStatus& worker) {
    if (worker.evicted_confirmed == 0) return "";
    return duration_text(std::chrono::seconds(worker.evicted_idle_seconds / worker.evicted_confirmed));
}

}  // namespace

std::string render_flows(const Status& status, const View& view) {
    const std::string hold = status.hold ? hold_line(*status.hold, view) : "";
    if (!status.dataplane.connected) return hold + fast_path_line(status.dataplane, view) + "\n";
    Table workers({{"WORKER"},
                   {"IPV4 FLOWS", Align::kRight},
                   {"FULL", Align::kRight},
                   {"IPV6 FLOWS", Align::kRight},
                   {"FULL", Align::kRight},
                   {"LOST", Align::kRight},
                   {"AFTER IDLE", Align::kRight},
                   {"UNCONFIRMED LOST", Align::kRight},
                   {"PLAN", Align::kRight}});
    for (const WorkerStatus& worker : status.dataplane.workers) {
        workers.row({{fmt::format("{}", worker.worker)},
                     {count_text(worker.flows_v4)},
                     full_cell(worker.flows_v4, worker.entries_v4),
                     {count_text(worker.flows_v6)},
                     full_cell(worker.flows_v6, worker.entries_v6),
                     {count_text(worker.evicted_confirmed),
                      worker.evicted_confirmed == 0 ? Tone::kPlain : Tone::kWarning},
                     {idle_text(worker)},
                     {count_text(worker.evicted_unconfirmed)},
                     {fmt::format("{}", worker.acknowledged)}});
    }
    Table sites({{"SITE"},
                 {"NEW FLOWS/S", Align::kRight},
                 {"CAPACITY FLOWS/S", Align::kRight},
                 {"PACKETS/S", Align::kRight},
                 {"GBIT/S", Align::kRight},
                 {"FLOWS", Align::kRight}});
    for (const SiteStatus& site : status.sites) {
        sites.row({{site.name},
                   {rate_text(site.new_flows_per_second)},
                   {site.capacity_new_flows == 0 ? "" : count_text(site.capacity_new_flows)},
                   {rate_text(site.packets_per_second)},
                   {gigabits(site.bits_per_second)},
                   {known_count(site.flows)}});
    }
    return hold + workers.render(view.colour) + "\n" + sites.render(view.colour);
}

std::string render(std::span<const SiteStatus> sites, const View& view) {
    std::string out = site_table(sites, view).render(view.colour);
    Table places({{"SITE"}, {"TIER"}, {"DOMAIN"}, {"CAPACITY FLOWS/S", Align::kRight}, {"DRAIN EXPIRES"}});
    for (const SiteStatus& site : sites) {
        std::string domain;
        for (const std::string& part : site.domain) domain += (domain.empty() ? "" : "/") + part;
        std::string expires;
        if (site.drain) expires = site.drain->expires ? until_text(*site.drain->expires, view.now) : "never";
        places.row({{site.name},
                    {site.tier},
                    {domain},
                    {site.capacity_new_flows == 0 ? "" : count_text(site.capacity_new_flows)},
                    {expires}});
    }
    return out + "\n" + places.render(view.colour);
}

std::string render(std::span<const PoolStatus> pools, const View& view) {
    Table table({{"POOL"},
                 {"STATE"},
                 {"VIP"},
                 {"SITE"},
                 {"TIER"},
                 {"SHARE", Align::kRight},
                 {"ADMIT", Align::kRight},
                 {"BACKENDS UP", Align::kRight},
                 {"REASON"}});
    for (const PoolStatus& pool : pools) {
        std::string vip = pool.vips.empty() ? "" : pool.vips.front();
        if (pool.vips.size() > 1) vip += fmt::format(" +{}", pool.vips.size() - 1);
        bool first = true;
        for (const PoolSite& site : pool.sites) {
            table.row({{first ? pool.name : " "},
                       first ? state_cell(pool.state) : Cell{" "},
                       {first ? vip : " "},
                       {site.site},
                       {site.tier},
                       {site.share ? percent_text(*site.share) : ""},
                       admit_cell(site.admit),
                       up_cell(site.backends_up, site.backends),
                       {first ? pool.reason : " "}});
            first = false;
        }
        if (first) table.row({{pool.name}, state_cell(pool.state), {vip}, {}, {}, {}, {}, {}, {pool.reason}});
    }
    return table.render(view.colour);
}

std::string render(std::span<const BackendStatus> backends, const View& view) {
    Table table({{"POOL"},
                 {"SITE"},
                 {"ADDRESS"},
                 {"STATE"},
                 {"SINCE"},
                 {"WEIGHT", Align::kRight},
                 {"PROBE MS", Align::kRight},
                 {"KEEP"},
                 {"LAST PROBE"}});
    for (const BackendStatus& backend : backends) {
        table.row({{backend.pool},
                   {backend.site},
                   {backend.address},
                   state_cell(backend.state),
                   {since_text(backend.since, view.now)},
                   {fmt::format("{}", backend.weight)},
                   {backend.probe_ms ? fmt::format("{:.1f}", *backend.probe_ms) : ""},
                   {backend.keep ? "yes" : "no", backend.keep ? Tone::kPlain : Tone::kBad},
                   {backend.reason}});
    }
    return table.render(view.colour);
}

}  // namespace detour::lbctl
