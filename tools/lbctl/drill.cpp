// lbctl drill: takes a domain away from a part of the new flows for a while, measures, reports, gives it
// back.
//
// It is a drain with a short life: whatever becomes of this program or of the network to it, the drain ends
// by itself.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "control/api/json.h"
#include "tools/lbctl/interrupt.h"
#include "tools/lbctl/text.h"
#include "tools/lbctl/verbs.h"

namespace detour::lbctl {

using namespace detour::control;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::seconds kDeadline{10};
constexpr std::chrono::seconds kCommandDeadline{40};
constexpr std::chrono::milliseconds kSampleEvery{1000};
constexpr int kBaseline = 3;  ///< samples before
/// The drain outlives the drill by this, if nobody takes it back.
constexpr std::chrono::seconds kMargin{30};

struct SiteFigures {
    double before = 0, during = 0;  ///< new flows a second, mean
    std::size_t before_samples = 0, during_samples = 0;
    std::uint64_t capacity = 0;
    std::set<std::string> verdicts;  ///< seen during the drill
};

struct Report {
    std::string target;
    std::uint32_t percent = 0;
    Time begun, ended;
    std::vector<Move> moves;
    std::map<std::string, SiteFigures> sites;
    std::set<std::uint64_t> incidents;  ///< opened during the drill
    std::size_t blind = 0;              ///< samples that could not be taken
    bool undone = false;
    std::string problem;  ///< of taking it back
};

void take(double& mean, std::size_t& samples, const std::optional<double>& value) {
    if (!value) return;
    ++samples;
    mean += (*value - mean) / static_cast<double>(samples);
}

Outcome<Status> get_status(const Settings& settings) {
    auto body = settings.client().get("/v1/status", kDeadline);
    if (!body) return tl::unexpected(body.error());
    auto status = from_json<Status>(*body);
    if (!status) return tl::unexpected(ApiError(status.error()));
    return *status;
}

Time now() {
    return std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now());
}

Outcome<void> measure_before(const Settings& settings, Report& report, std::set<std::uint64_t>& known) {
    for (int i = 0; i < kBaseline; ++i) {
        const auto status = get_status(settings);
        if (!status) return tl::unexpected(status.error());
        const auto drained = std::ranges::find(status->drains, report.target, &Drain::target);
        if (drained != status->drains.end()) {
            return tl::unexpected(ApiError(api::ErrorCode::kRefused, "drilling " + report.target,
                                           "it is drained already, and the drill would end that drain"));
        }
        for (const SiteStatus& site : status->sites) {
            SiteFigures& figures = report.sites[site.name];
            take(figures.before, figures.before_samples, site.new_flows_per_second);
            figures.capacity = site.capacity_new_flows;
        }
        for (const IncidentSummary& incident : status->incidents) known.insert(incident.number);
        std::this_thread::sleep_for(kSampleEvery);
    }
    return {};
}

void measure_during(const Settings& settings, Report& report, const std::set<std::uint64_t>& known,
                    Clock::time_point end) {
    while (Clock::now() < end) {
        std::this_thread::sleep_for(std::min<Clock::duration>(kSampleEvery, end - Clock::now()));
        const auto status = get_status(settings);
        if (!status) {
            ++report.blind;
            continue;
        }
        for (const SiteStatus& site : status->sites) {
            SiteFigures& figures = report.sites[site.name];
            take(figures.during, figures.during_samples, site.new_flows_per_second);
            figures.verdicts.insert(site.verdict);
        }
        for (const IncidentSummary& incident : status->incidents) {
            if (!known.contains(incident.number)) report.incidents.insert(incident.number);
        }
    }
}

std::string joined(const std::set<std::string>& words) {
    std::string out;
    for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
    return out;
}

std::string text_of(const Report& report, Colour colour) {
    std::string out = fmt::format(
        "drill of {}: {} % of its new flows, {}\n\n", printable(report.target), report.percent,
        duration_text(std::chrono::floor<std::chrono::milliseconds>(report.ended - report.begun)));
    Table moves({{"POOL"}, {"FROM"}, {"TO"}, {"SHARE OF POOL", Align::kRight}});
    for (const Move& move : report.moves)
        moves.row({{move.pool}, {move.from}, {move.to}, {percent_text(move.share)}});
    if (!moves.empty()) out += moves.render(colour) + "\n";
    Table sites({{"SITE"},
                 {"FLOWS/S BEFORE", Align::kRight},
                 {"FLOWS/S DURING", Align::kRight},
                 {"CAPACITY FLOWS/S", Align::kRight},
                 {"VERDICTS"}});
    for (const auto& [name, site] : report.sites) {
        const auto rate = [](double mean, std::size_t samples) {
            return rate_text(samples == 0 ? std::nullopt : std::optional(mean));
        };
        sites.row({{name},
                   {rate(site.before, site.before_samples)},
                   {rate(site.during, site.during_samples)},
                   {site.capacity == 0 ? "" : count_text(site.capacity)},
                   {joined(site.verdicts)}});
    }
    out += sites.render(colour);
    for (const std::uint64_t number : report.incidents) {
        out += toned(fmt::format("INCIDENT {} began meanwhile: lbctl incidents {}", number, number),
                     Tone::kBad, colour) +
               "\n";
    }
    if (report.blind > 0) out += fmt::format("{} could not be taken\n", plural(report.blind, "sample"));
    if (report.undone) return out + "given back, by ramp\n";
    return out +
           toned("NOT given back: " + printable(report.problem) + "; its drain ends by itself", Tone::kBad,
                 colour) +
           "\n";
}

std::string json_of(const Report& report) {
    std::string out = R"({"target":)";
    append_json_string(out, report.target);
    out += fmt::format(R"(,"percent":{},"begun":)", report.percent);
    append_json_string(out, to_text(report.begun));
    out += R"(,"ended":)";
    append_json_string(out, to_text(report.ended));
    out += fmt::format(R"(,"undone":{},"blind_samples":{},"sites":[)", report.undone, report.blind);
    const char* separator = "";
    for (const auto& [name, site] : report.sites) {
        out += separator;
        out += R"({"site":)";
        append_json_string(out, name);
        out += fmt::format(R"(,"new_flows_before":{},"new_flows_during":{},"verdicts":)", site.before,
                           site.during);
        append_json_string(out, joined(site.verdicts));
        out += '}';
        separator = ",";
    }
    out += R"(],"incidents":[)";
    separator = "";
    for (const std::uint64_t number : report.incidents) {
        out += fmt::format("{}{}", separator, number);
        separator = ",";
    }
    return out + "]}\n";
}

void give_back(const Settings& settings, Report& report) {
    const UndrainRequest request{.target = report.target, .by = person()};
    const auto undone = settings.client().post("/v1/undrain", to_json(request), kCommandDeadline);
    report.undone = undone.has_value();
    if (!undone) report.problem = undone.error().to_string();
}

}  // namespace

ExitCode drill(const Settings& settings, const DrillCommand& command) {
    Report made;
    made.target = command.target;
    made.percent = command.percent;
    std::set<std::uint64_t> known;
    if (auto measured = measure_before(settings, made, known); !measured)
        return report(settings, measured.error());
    const auto whole = std::chrono::ceil<std::chrono::seconds>(command.duration + kMargin);
    DrainRequest request;
    request.target = command.target;
    request.for_s = static_cast<std::uint64_t>(whole.count());
    request.percent = command.percent;
    request.reason = "drill" + (command.reason.empty() ? "" : ": " + command.reason);
    request.by = person();
    request.here = command.here;
    const InterruptNote interrupted(
        fmt::format("lbctl: interrupted; the drill of {} ends by itself within {}. At once: lbctl undrain {}",
                    printable(command.target), duration_text(whole), shell_word(command.target)));
    auto body = settings.client().post("/v1/drain", to_json(request), kCommandDeadline);
    if (!body) return report(settings, body.error());
    const auto drained = from_json<DrainReply>(*body);
    if (drained) {
        made.moves = drained->moves;
        made.target = drained->drain.target;
    }
    made.begun = now();
    measure_during(settings, made, known, Clock::now() + command.duration);
    made.ended = now();
    give_back(settings, made);
    print(settings.json() ? json_of(made) : text_of(made, settings.colour));
    return made.undone ? ExitCode::kDone : ExitCode::kFailed;
}

}  // namespace detour::lbctl
