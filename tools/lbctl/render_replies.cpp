// Events and the answers to commands (render.h).
#include <fmt/format.h>

#include "control/api/json.h"
#include "tools/lbctl/render.h"
#include "tools/lbctl/text.h"

namespace detour::lbctl {

using namespace detour::control;

namespace {

Tone tone_of_severity(std::string_view severity) {
    if (severity == "alarm") return Tone::kBad;
    return severity == "warning" ? Tone::kWarning : Tone::kPlain;
}

/// Figures alone: the words are in the text already. `monotonic_us` is for programs that measure.
std::string figure_text(const std::string& name, const EventValue& value) {
    if (name == "monotonic_us") return "";
    if (const auto* whole = std::get_if<std::int64_t>(&value)) {
        return fmt::format("{}={}", printable(name), *whole);
    }
    if (const auto* number = std::get_if<double>(&value))
        return fmt::format("{}={}", printable(name), *number);
    return "";
}

std::string missing_lines(std::span<const Missing> missing, const View& view) {
    std::string out;
    for (const Missing& one : missing) {
        out += toned(fmt::format("NOT DONE at {}: {}", printable(one.where), printable(one.why)), Tone::kBad,
                     view.colour) +
               "\n";
    }
    return out;
}

}  // namespace

std::string render(const Event& event, const View& view) {
    // 2026-05-01T03:04:05.678901Z -> 2026-05-01 03:04:05.678Z
    const std::string time = to_text(event.time);
    std::string subject = event.site;
    if (!event.pool.empty()) subject = subject.empty() ? event.pool : event.pool + "@" + subject;
    if (!event.backend.empty()) subject += (subject.empty() ? "" : " ") + event.backend;
    std::string line = fmt::format("{} {}Z  {:<14}  {:<18}  {}", time.substr(0, 10), time.substr(11, 12),
                                   printable(event.kind), printable(subject), printable(event.text));
    std::string figures;
    for (const auto& [name, value] : event.data) {
        const std::string figure = figure_text(name, value);
        if (!figure.empty()) figures += (figures.empty() ? "" : " ") + figure;
    }
    if (!figures.empty()) line += "  [" + figures + "]";
    return toned(line, tone_of_severity(event.severity), view.colour);
}

std::string render(const DrainReply& reply, const View& view) {
    const Drain& drain = reply.drain;
    std::string out = fmt::format("drained {} ({}): {}\n", printable(drain.target), printable(drain.kind),
                                  printable(reply.effect));
    Table moves({{"POOL"}, {"FROM"}, {"TO"}, {"SHARE OF POOL", Align::kRight}});
    for (const Move& move : reply.moves) {
        moves.row({{move.pool}, {move.from}, {move.to}, {percent_text(move.share)}});
    }
    if (!moves.empty()) out += moves.render(view.colour);
    std::string state = drain.acknowledged ? "every worker has acknowledged it" : "NOT acknowledged yet";
    if (reply.switch_us) state += fmt::format(", {} us after the first store", count_text(*reply.switch_us));
    out += fmt::format("fast path   {}\n", state);
    out += fmt::format("flows left  {}\n", drain.flows_left ? count_text(*drain.flows_left) : "not counted");
    if (drain.deadline) {
        out += fmt::format("flows end   {}: established ones are reset\n",
                           *drain.deadline <= view.now ? "now" : until_text(*drain.deadline, view.now));
    }
    out += fmt::format("expires     {}\n", drain.expires ? until_text(*drain.expires, view.now) : "never");
    if (!drain.reason.empty()) out += fmt::format("reason      {}\n", printable(drain.reason));
    out += missing_lines(reply.not_done, view);
    return out + fmt::format("undo:  lbctl undrain {}\n", shell_word(drain.target));
}

std::string render(const UndrainReply& reply, const View& view) {
    std::string out = fmt::format("undrained {}: {}\n", printable(reply.target), printable(reply.effect));
    if (reply.full_at) out += fmt::format("full again  {}\n", until_text(*reply.full_at, view.now));
    return out + missing_lines(reply.not_done, view);
}

std::string render(const IntentReply& reply, const View& view) {
    std::string out = printable(reply.effect) + "\n";
    if (reply.expires) out += fmt::format("expires     {}\n", until_text(*reply.expires, view.now));
    return out + missing_lines(reply.not_done, view);
}

std::string render(const ReloadReply& reply, const View& view) {
    if (!reply.changed) return "the configuration on disk is the one that runs; nothing changed\n";
    std::string out = fmt::format("loaded; plan {}\n", reply.generation);
    for (const std::string& change : reply.changes) out += "  " + printable(change) + "\n";
    if (!reply.confirm_until) return out;
    return out +
           toned(fmt::format("it is taken back at {} unless you say:  lbctl config confirm",
                             until_text(*reply.confirm_until, view.now)),
                 Tone::kWarning, view.colour) +
           "\n";
}

namespace {

/// `tone` when there are any.
Cell flows_cell(const std::optional<std::uint64_t>& flows, Tone tone) {
    return {flows ? count_text(*flows) : "not known", flows.value_or(0) > 0 ? tone : Tone::kPlain};
}

std::string site_changes(const std::vector<PoolSiteDiff>& sites, const View& view) {
    Table table({{"POOL"},
                 {"SITE"},
                 {"NEW FLOWS NOW", Align::kRight},
                 {"THEN", Align::kRight},
                 {"ESTABLISHED FLOWS", Align::kRight},
                 {"LOST", Align::kRight}});
    for (const PoolSiteDiff& site : sites) {
        table.row({{site.pool},
                   {site.site},
                   {percent_text(site.before)},
                   {percent_text(site.after), site.after == 0 ? Tone::kWarning : Tone::kPlain},
                   flows_cell(site.flows, Tone::kPlain),
                   flows_cell(site.flows_lost, Tone::kBad)});
    }
    return table.render(view.colour);
}

}  // namespace

std::string render(const ConfigDiff& diff, const View& view) {
    if (!diff.changed) return "it says what the running configuration says; nothing would change\n";
    std::string out = plural(diff.changes.size(), "change") + "\n";
    for (const std::string& change : diff.changes) out += "  " + printable(change) + "\n";
    if (diff.pools.empty()) return out + "no flow would move\n";
    Table pools({{"POOL"},
                 {"NEW FLOWS THAT MOVE", Align::kRight},
                 {"OTHER BACKEND, SAME SITE", Align::kRight},
                 {"ESTABLISHED FLOWS LOST", Align::kRight}});
    for (const PoolDiff& pool : diff.pools) {
        pools.row({{pool.pool},
                   {percent_text(pool.moved), pool.moved > 0 ? Tone::kWarning : Tone::kPlain},
                   {percent_text(pool.reshuffled)},
                   flows_cell(pool.flows_lost, Tone::kBad)});
    }
    out += "\n" + pools.render(view.colour);
    if (!diff.sites.empty()) out += "\n" + site_changes(diff.sites, view);
    Table moves({{"POOL"}, {"FROM"}, {"TO"}, {"SHARE OF POOL", Align::kRight}});
    for (const Move& move : diff.moves) {
        const std::string nowhere = "(nowhere)";
        moves.row({{move.pool},
                   {move.from.empty() ? nowhere : move.from},
                   {move.to.empty() ? nowhere : move.to, move.to.empty() ? Tone::kBad : Tone::kPlain},
                   {percent_text(move.share)}});
    }
    if (!moves.empty()) out += "\n" + moves.render(view.colour);
    for (const std::string& warning : diff.warnings) {
        out += toned("WARNING  " + printable(warning), Tone::kWarning, view.colour) + "\n";
    }
    return out;
}

std::string render(const ConfigInfo& config, const View& view) {
    std::string out = fmt::format("{}, loaded {}: {}, {}, {}\n", printable(config.path),
                                  since_text(config.loaded, view.now), plural(config.sites, "site"),
                                  plural(config.pools, "pool"), plural(config.backends, "backend"));
    if (config.taken_back) {
        out +=
            toned("what is on disk was NOT CONFIRMED in time and is not in force", Tone::kBad, view.colour) +
            "\n";
    } else if (config.confirm_until) {
        out += toned(fmt::format("taken back at {} unless you say:  lbctl config confirm",
                                 until_text(*config.confirm_until, view.now)),
                     Tone::kWarning, view.colour) +
               "\n";
    }
    if (config.refused) {
        out += toned(fmt::format("REFUSED {}: a newer version of it; what ran goes on running",
                                 since_text(*config.refused, view.now)),
                     Tone::kBad, view.colour) +
               "\n";
        for (const std::string& mistake : config.mistakes) out += printable(mistake) + "\n";
        out += fmt::format("next: lbctl config check {}\n", shell_word(config.path));
    }
    return out;
}

namespace {

/// What this host would ask of each site.
std::string loads_text(const PlanFailReply& forecast, const View& view) {
    if (forecast.loads.empty()) return "";
    Table table({{"SITE"},
                 {"NEW FLOWS/S", Align::kRight},
                 {"AFTER", Align::kRight},
                 {"OF AT MOST", Align::kRight},
                 {"GBIT/S AFTER", Align::kRight},
                 {"OF AT MOST", Align::kRight}});
    for (const SiteLoad& load : forecast.loads) {
        const bool flows = load.new_flows_capacity && load.new_flows_after > *load.new_flows_capacity;
        const bool bytes = load.gbps_capacity && load.gbps_after > *load.gbps_capacity;
        table.row({{load.site},
                   {fmt::format("{:.0f}", load.new_flows_now)},
                   {fmt::format("{:.0f}", load.new_flows_after), flows ? Tone::kBad : Tone::kPlain},
                   {load.new_flows_capacity ? fmt::format("{:.0f}", *load.new_flows_capacity) : ""},
                   {fmt::format("{:.3g}", load.gbps_after), bytes ? Tone::kBad : Tone::kPlain},
                   {load.gbps_capacity ? fmt::format("{:.3g}", *load.gbps_capacity) : ""}});
    }
    return "\n" + table.render(view.colour);
}

}  // namespace

std::string render(const PlanFailReply& forecast, const View& view) {
    std::string failing;
    for (const std::string& site : forecast.failing)
        failing += (failing.empty() ? "" : ", ") + printable(site);
    std::string out = fmt::format("if {} fails: {}\n\n", printable(forecast.domain),
                                  failing.empty() ? "no site lies in it" : failing + " would be dark");
    Table table({{"POOL"},
                 {"SITE"},
                 {"NOW", Align::kRight},
                 {"AFTER", Align::kRight},
                 {"LOAD AFTER", Align::kRight},
                 {"NOTE"}});
    for (const PoolForecast& pool : forecast.pools) {
        for (const SiteShare& site : pool.sites) {
            const bool over = site.load_after && *site.load_after > 1;
            std::string note = site.fails ? "fails" : over ? "OVERLOADED" : "";
            if (pool.lost) note = "NO SITE LEFT";
            if (pool.shed && !pool.lost) note = fmt::format("SHEDS {}", percent_text(*pool.shed));
            table.row(
                {{pool.pool},
                 {site.site},
                 {percent_text(site.now)},
                 {percent_text(site.after)},
                 {site.load_after ? percent_text(*site.load_after) : ""},
                 {note.empty() ? " " : note, over || pool.lost || pool.shed ? Tone::kBad : Tone::kPlain}});
        }
    }
    out += table.render(view.colour);
    out += loads_text(forecast, view);
    for (const std::string& warning : forecast.warnings) {
        out += toned("WARNING  " + printable(warning), Tone::kWarning, view.colour) + "\n";
    }
    return out;
}

std::string render(const Version& version, const View& view) {
    return fmt::format("detour-control {}, API {}, PoP {}, started {}\n", printable(version.version),
                       version.api, printable(version.pop), since_text(version.started, view.now));
}

std::string render(const ApiError& error, const View& view) {
    const bool refused = error.code == api::ErrorCode::kRefused;
    std::string out = fmt::format("lbctl: {}{}\n", toned(refused ? "refused: " : "", Tone::kBad, view.colour),
                                  printable(error.to_string()));
    for (const std::string& detail : error.details) out += printable(detail) + "\n";
    if (!error.rail.empty()) out += fmt::format("rail: {}\n", printable(error.rail));
    if (refused) {
        out += error.override_by.empty()
                   ? (error.rail.empty() ? "" : "nothing overrides it\n")
                   : fmt::format("to do it all the same: {}\n", printable(error.override_by));
    }
    return out;
}

}  // namespace detour::lbctl
