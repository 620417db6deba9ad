// Incidents: each failure gets a number and a timeline, from the first missed probe to its end.
//
// Fed with every event of the log, in order. A failure begins with a backend that is down, a pool or a site
// that goes dark, or a fast path that is lost; what came just before at the same site (missed probes, the
// burst) is part of it. It ends when the site is healthy again, so that a site has at most one incident at a
// time. Alarms, activations with their output, data that goes to another site, and events that name no site
// go to every incident that is open. A restart is no event: an open incident goes on. Bounded: incidents in
// number, the oldest closed ones go first; lines of each, the noise goes first. Other parts add a line by an
// event that names the site. Pure, not thread safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "control/api/messages.h"

namespace detour::app {

struct IncidentBounds {
    std::size_t incidents = 200;
    std::size_t lines = 500;  ///< of each; half of them at most for missed probes and single backends
};

class IncidentBook {
  public:
    /// `stored`: as they were written, in any order.
    explicit IncidentBook(std::vector<control::Incident> stored = {}, IncidentBounds bounds = {});

    /// The number of the incident that the event belongs to (of several the newest), 0: none.
    std::uint64_t on_event(const control::Event& event);
    /// Flows that are still pinned to a site: once they are gone from one that is dark, a line says so.
    void on_flows(const std::string& site, std::uint64_t flows, control::Time now);
    /// Sites with an incident, open.
    [[nodiscard]] std::vector<std::string> open_sites() const;
    /// After a reload: closes those of sites that are gone.
    void keep_sites(const std::set<std::string>& known, control::Time now);

    /// What has changed, or is to be forgotten, since the last call: for the disk.
    [[nodiscard]] std::set<std::uint64_t> take_changed();
    [[nodiscard]] std::set<std::uint64_t> take_forgotten();

    [[nodiscard]] const control::Incident* find(std::uint64_t number) const;
    /// Newest first.
    [[nodiscard]] std::vector<control::IncidentSummary> list() const;
    [[nodiscard]] std::size_t open() const { return open_.size(); }
    [[nodiscard]] std::uint64_t last() const { return last_; }

  private:
    struct Open {
        std::uint64_t number = 0;
        std::optional<std::int64_t>
            start_us;  ///< monotonic time of the incident's beginning, in this process
        bool dark = false;
        bool flows_gone = false;
        std::size_t noise = 0;
    };
    std::uint64_t add_to_all(const control::Event& event);
    void open_one(const std::string& site, const control::Event& event);
    void add(Open& open, const control::Event& event);
    void add_line(Open& open, control::IncidentLine line, bool noise);
    void close(const std::string& site, const control::Event& event);
    void forget_old();

    IncidentBounds bounds_;
    std::map<std::uint64_t, control::Incident> incidents_;
    std::map<std::string, Open> open_;                          ///< by site; "": this host's fast path
    std::map<std::string, std::deque<control::Event>> before_;  ///< by site: may become the beginning of one
    std::set<std::uint64_t> changed_, forgotten_;
    std::uint64_t last_ = 0;
};

/// The rule by which this was decided, in words; empty where nothing was.
[[nodiscard]] std::string_view rule_of(const control::Event& event);

}  // namespace detour::app
