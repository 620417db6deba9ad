#include "control/app/incident_book.h"

#include <algorithm>
#include <array>
#include <utility>

namespace detour::app {

namespace {

using control::Event;
using control::Incident;

constexpr std::size_t kMaxBefore = 16;
constexpr std::chrono::seconds kBefore{30};

std::string_view word(const Event& event, const char* name) {
    const auto found = event.data.find(name);
    if (found == event.data.end()) return {};
    const auto* text = std::get_if<std::string>(&found->second);
    return text == nullptr ? std::string_view{} : std::string_view(*text);
}

std::optional<std::int64_t> figure(const Event& event, const char* name) {
    const auto found = event.data.find(name);
    if (found == event.data.end()) return std::nullopt;
    const auto* value = std::get_if<std::int64_t>(&found->second);
    return value == nullptr ? std::nullopt : std::optional(*value);
}

bool goes_dark(const Event& event) {
    return (event.kind == "verdict" || event.kind == "pool_verdict") && word(event, "to") == "dark";
}

/// Something has failed, not only missed a probe.
bool is_failure(const Event& event) {
    return event.kind == "backend_down" || event.kind == "fast_path_lost" || goes_dark(event);
}

bool may_be_the_beginning(const Event& event) {
    return event.kind == "probe_missed" || event.kind == "suspect" || event.kind == "bfd";
}

bool is_end(const Event& event) {
    if (event.site.empty()) return event.kind == "adopted";
    return event.kind == "verdict" && word(event, "to") == "healthy";
}

bool is_noise(const Event& event) {
    return event.kind == "probe_missed" || event.kind == "backend_down" || event.kind == "backend_up" ||
           event.kind == "suspect";
}

/// Of interest to every failure, whatever site it names: one that is made ready, takes over the data, has no
/// room, or is kept from going dark by a rail.
bool concerns_all(const Event& event) {
    return event.kind == "activation" || event.kind == "writer" || event.kind == "alarm";
}

/// Of no interest in a timeline of failures: the plan's own business.
bool is_left_out(const Event& event) {
    return event.kind == "plan" || event.kind == "plan_applied";
}

std::string where_of(const Event& event) {
    std::string where = event.pool;
    if (!event.site.empty()) where += (where.empty() ? "" : "@") + event.site;
    return where.empty() ? "the fast path of this host" : where;
}

std::string summary_of(const Event& event) {
    if (event.kind == "fast_path_lost") return "the fast path of this host is lost";
    if (goes_dark(event)) return where_of(event) + " is dark";
    return event.backend + " (" + where_of(event) + ") is down";
}

struct Rule {
    std::string_view kind;
    std::string_view to;      ///< empty: any
    std::string_view reason;  ///< part of it; empty: any
    std::string_view text;
};
constexpr std::array kRules{
    Rule{"suspect", "", "clients don't get through",
         "passive signal: few of the handshakes that the other sites let expect; a burst asks"},
    Rule{"suspect", "", "BFD", "BFD: all its sessions are down; a burst asks"},
    Rule{"suspect", "", "same domain", "a site of the same narrowest domain went dark; a burst asks"},
    Rule{"suspect", "", "", "the first miss starts a burst to up to 16 backends"},
    Rule{"backend_down", "", "", "`fall` misses in a row"},
    Rule{"backend_up", "", "", "`rise` answers in a row"},
    Rule{"verdict", "recovering", "",
         "it answers again: `ramp`, or held after auto_return_within or a drain"},
    Rule{"pool_verdict", "dark", "", "none of the pool's backends here is in service, another site takes it"},
    Rule{"switch", "0", "", "what is dark or drained takes no new flow"},
    Rule{"switch", "65535", "", "nothing stands against its whole share"},
    Rule{"switch", "", "", "its share grows over `ramp`, or follows what is healthy there and has room"},
    Rule{"strand", "", "", "nothing heard for strand_after, or a drain's deadline"},
    Rule{"ramp_started", "", "", "dark for less than auto_return_within, or undrained"},
    Rule{"drain", "", "", "an operator said so"},
    Rule{"undrain", "", "", "an operator said so"},
    Rule{"hold", "", "", "an operator said so"},
    Rule{"release", "", "", "an operator said so, or its time was up"},
    Rule{"weight", "", "", "an operator said so, or its time was up"},
    Rule{"drain_expired", "", "", "its time was up"},
};

}  // namespace

std::string_view rule_of(const Event& event) {
    if (const std::string_view said = word(event, "rule"); !said.empty()) return said;
    for (const Rule& rule : kRules) {
        const bool to = rule.to.empty() || rule.to == word(event, "to");
        if (rule.kind == event.kind && to &&
            word(event, "reason").find(rule.reason) != std::string_view::npos)
            return rule.text;
    }
    return {};
}

IncidentBook::IncidentBook(std::vector<Incident> stored, IncidentBounds bounds) : bounds_(bounds) {
    for (Incident& incident : stored) {
        const std::uint64_t number = incident.number;
        last_ = std::max(last_, number);
        if (!incident.closed) {
            Open& open = open_[incident.site];
            // Of two of one site, which only a damaged folder has, the newer goes on.
            if (open.number < number) open = {number, std::nullopt, false, false, 0};
            for (const control::IncidentLine& line : incident.lines) {
                open.dark |= line.kind == "verdict" && line.text.find("is dark") != std::string::npos;
                open.flows_gone |= line.kind == "flows_gone";
            }
        }
        incidents_[number] = std::move(incident);
    }
    forget_old();
}

std::uint64_t IncidentBook::on_event(const Event& event) {
    if (is_left_out(event)) return 0;
    const std::string site = event.kind == "fast_path_lost" ? "" : event.site;
    const auto open = open_.find(site);
    if (open == open_.end() && is_failure(event)) {
        open_one(site, event);
        return last_;
    }
    if (concerns_all(event) || (event.site.empty() && !is_failure(event))) {
        const std::uint64_t newest = add_to_all(event);
        if (is_end(event) && open_.contains("")) close("", event);
        return newest;
    }
    if (open != open_.end()) {
        const std::uint64_t number = open->second.number;
        add(open->second, event);
        if (is_end(event)) close(site, event);
        return number;
    }
    if (may_be_the_beginning(event)) {
        auto& before = before_[site];
        before.push_back(event);
        if (before.size() > kMaxBefore) before.pop_front();
    } else if (is_end(event)) {
        before_.erase(site);
    }
    return 0;
}

/// To every incident that is open; what is about a pool or another site is no business of this host's fast
/// path.
std::uint64_t IncidentBook::add_to_all(const Event& event) {
    std::uint64_t newest = 0;
    for (auto& [name, one] : open_) {
        if (name.empty() && !(event.pool.empty() && event.site.empty())) continue;
        add(one, event);
        newest = std::max(newest, one.number);
    }
    return newest;
}

void IncidentBook::open_one(const std::string& site, const Event& event) {
    std::deque<Event> before;
    if (auto found = before_.extract(site); !found.empty()) before = std::move(found.mapped());
    std::erase_if(before, [&](const Event& early) { return event.time - early.time > kBefore; });
    const Event& first = before.empty() ? event : before.front();
    Incident& incident = incidents_[++last_];
    incident.number = last_;
    incident.site = site;
    incident.opened = first.time;
    incident.text = summary_of(event);
    Open& open = open_[site];
    open = {last_, figure(first, "monotonic_us"), false, false, 0};
    for (const Event& early : before) add(open, early);
    add(open, event);
    forget_old();
}

void IncidentBook::add(Open& open, const Event& event) {
    Incident& incident = incidents_.at(open.number);
    control::IncidentLine line;
    line.time = event.time;
    line.kind = event.kind;
    line.text = event.text;
    line.rule = rule_of(event);
    const auto us = figure(event, "monotonic_us");
    const auto wall =
        std::chrono::duration_cast<std::chrono::microseconds>(event.time - incident.opened).count();
    // The monotonic clock measures; after a restart it goes on from where the wall clock says it is.
    if (us && !open.start_us) open.start_us = *us - wall;
    line.at_ms = static_cast<double>(us ? *us - *open.start_us : wall) / 1000;
    if (goes_dark(event) && event.kind == "verdict") {
        open.dark = true;
        open.flows_gone = false;
        incident.text = summary_of(event);
    }
    if (event.kind == "verdict" && word(event, "to") != "dark") open.dark = false;
    if (event.kind == "switch_done" && open.dark && !incident.switched_ms) incident.switched_ms = line.at_ms;
    add_line(open, std::move(line), is_noise(event));
}

void IncidentBook::add_line(Open& open, control::IncidentLine line, bool noise) {
    Incident& incident = incidents_.at(open.number);
    changed_.insert(open.number);
    open.noise += noise ? 1 : 0;
    const bool full = incident.lines.size() >= bounds_.lines || (noise && open.noise > bounds_.lines / 2);
    if (full)
        ++incident.left_out;
    else
        incident.lines.push_back(std::move(line));
}

void IncidentBook::on_flows(const std::string& site, std::uint64_t flows, control::Time now) {
    const auto found = open_.find(site);
    if (found == open_.end() || flows > 0) return;
    Open& open = found->second;
    if (!open.dark || std::exchange(open.flows_gone, true)) return;
    const Incident& incident = incidents_.at(open.number);
    control::IncidentLine line;
    line.time = now;
    line.at_ms = std::chrono::duration<double, std::milli>(now - incident.opened).count();
    line.kind = "flows_gone";
    line.text = site + ": its last established flow is gone";
    add_line(open, std::move(line), false);
}

std::vector<std::string> IncidentBook::open_sites() const {
    std::vector<std::string> result;
    for (const auto& [site, open] : open_) {
        if (!site.empty()) result.push_back(site);
    }
    return result;
}

void IncidentBook::close(const std::string& site, const Event& event) {
    const Open open = open_.at(site);
    open_.erase(site);
    before_.erase(site);
    Incident& incident = incidents_.at(open.number);
    incident.closed = event.time;
    control::IncidentLine line;
    line.time = event.time;
    line.at_ms = incident.lines.empty() ? 0 : incident.lines.back().at_ms;
    line.kind = "closed";
    line.text = "incident " + std::to_string(open.number) + " is closed";
    incident.lines.push_back(std::move(line));  // also over the bound: it is the last one
    changed_.insert(open.number);
}

void IncidentBook::keep_sites(const std::set<std::string>& known, control::Time now) {
    for (const std::string& site : open_sites()) {
        if (known.contains(site)) continue;
        Event event;
        event.time = now;
        event.kind = "reload";
        event.site = site;
        event.text = site + " is no longer in the configuration";
        add(open_.at(site), event);
        close(site, event);
    }
}

/// The oldest that are closed go first; open ones only when there is nothing else.
void IncidentBook::forget_old() {
    while (incidents_.size() > bounds_.incidents) {
        auto oldest = std::find_if(incidents_.begin(), incidents_.end(),
                                   [](const auto& entry) { return entry.second.closed.has_value(); });
        if (oldest == incidents_.end()) oldest = incidents_.begin();
        std::erase_if(open_, [&](const auto& entry) { return entry.second.number == oldest->first; });
        forgotten_.insert(oldest->first);
        changed_.erase(oldest->first);
        incidents_.erase(oldest);
    }
}

std::set<std::uint64_t> IncidentBook::take_changed() {
    return std::exchange(changed_, {});
}

std::set<std::uint64_t> IncidentBook::take_forgotten() {
    return std::exchange(forgotten_, {});
}

const Incident* IncidentBook::find(std::uint64_t number) const {
    const auto found = incidents_.find(number);
    return found == incidents_.end() ? nullptr : &found->second;
}

std::vector<control::IncidentSummary> IncidentBook::list() const {
    std::vector<control::IncidentSummary> result;
    for (auto it = incidents_.rbegin(); it != incidents_.rend(); ++it) {
        const Incident& incident = it->second;
        result.push_back({incident.number, incident.site, incident.opened, incident.closed, incident.text,
                          incident.switched_ms});
    }
    return result;
}

}  // namespace detour::app
