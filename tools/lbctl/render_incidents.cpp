// Incidents: the list, and the timeline of one (render.h).
#include <fmt/format.h>

#include "control/api/json.h"
#include "tools/lbctl/render.h"
#include "tools/lbctl/text.h"

namespace detour::lbctl {

using namespace detour::control;

namespace {

/// 402.5 -> "402.5 ms", 12345.6 -> "12.346 s".
std::string since_start(double ms) {
    return ms < 10'000 ? fmt::format("{:.1f} ms", ms) : fmt::format("{:.3f} s", ms / 1000);
}

std::string lasted(Time opened, Time closed) {
    return duration_text(std::chrono::floor<std::chrono::milliseconds>(closed - opened));
}

/// 2026-05-01T03:04:05.678901Z -> 03:04:05.678Z
std::string clock_text(Time time) {
    return to_text(time).substr(11, 12) + "Z";
}

Tone tone_of_line(const IncidentLine& line) {
    if (line.kind == "closed" || line.kind == "ramp_done") return Tone::kGood;
    if (line.text.find("is dark") != std::string::npos || line.kind == "alarm") return Tone::kBad;
    return line.kind == "probe_missed" || line.kind == "backend_down" ? Tone::kWarning : Tone::kPlain;
}

}  // namespace

std::string render(std::span<const IncidentSummary> incidents, const View& view) {
    if (incidents.empty()) return "no incident is kept\n";
    Table table({{"INCIDENT", Align::kRight},
                 {"BEGAN"},
                 {"STATE"},
                 {"LASTED"},
                 {"SWITCHED AFTER", Align::kRight},
                 {"WHAT"}});
    for (const IncidentSummary& incident : incidents) {
        const bool open = !incident.closed;
        table.row({{fmt::format("{}", incident.number)},
                   {since_text(incident.opened, view.now)},
                   {open ? "OPEN" : "closed", open ? Tone::kBad : Tone::kPlain},
                   {lasted(incident.opened, incident.closed.value_or(view.now))},
                   {incident.switched_ms ? since_start(*incident.switched_ms) : ""},
                   {incident.text}});
    }
    return table.render(view.colour) +
           fmt::format("\nnext: lbctl incidents {}     its timeline\n", incidents.front().number);
}

std::string render(const Incident& incident, const View& view) {
    std::string out = fmt::format("incident {}: {}\nbegan   {}\n", incident.number, printable(incident.text),
                                  since_text(incident.opened, view.now));
    out += incident.closed ? fmt::format("closed  {}, after {}\n", since_text(*incident.closed, view.now),
                                         lasted(incident.opened, *incident.closed))
                           : toned("OPEN", Tone::kBad, view.colour) + "\n";
    if (incident.switched_ms) {
        out += fmt::format("switched away {} after its first sign\n", since_start(*incident.switched_ms));
    }
    Table table({{"AFTER", Align::kRight}, {"AT"}, {"WHAT HAPPENED"}, {"RULE"}});
    for (const IncidentLine& line : incident.lines) {
        table.row({{since_start(line.at_ms)},
                   {clock_text(line.time)},
                   {line.text, tone_of_line(line)},
                   {line.rule}});
    }
    out += "\n" + table.render(view.colour);
    if (incident.left_out > 0) {
        out += fmt::format("{} left out here; see lbctl events\n", plural(incident.left_out, "line"));
    }
    return out;
}

}  // namespace detour::lbctl
