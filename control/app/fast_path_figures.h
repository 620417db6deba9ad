// What the fast path last said of itself, and the rates between two moments about a second apart.
//
// Pure: fed with StatsReply messages, no clock and no socket. One thread. Counters of a fast path that was
// started anew begin at zero: a counter that falls makes no rate.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/app/engine.h"

namespace detour::wire {
class HelloReply;
class StateReply;
class StatsReply;
}  // namespace detour::wire

namespace detour::app {

struct SiteTotals {
    std::uint64_t syns = 0;
    std::uint64_t syns_repeated = 0;
    std::uint64_t handshakes = 0;
    std::uint64_t ack_advanced = 0;
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;
    std::uint64_t syns_forgotten = 0;
    std::uint64_t forgotten_ms = 0;
};

struct SiteRates {
    double new_flows = 0;  ///< per second
    double packets = 0;
    double bits = 0;  ///< client to site
};

/// From the wire, bounds checked. Error kInvalidArgument: the state holds something that is not a plan or a
/// switch.
[[nodiscard]] api::Result<FastPathState> read_state(const wire::HelloReply& hello,
                                                    const wire::StateReply& state);

/// Totals by site, summed over workers.
[[nodiscard]] std::map<api::SiteId, SiteTotals> site_totals(const wire::StatsReply& stats);
/// What the engine wants to know.
[[nodiscard]] Signals signals_of(const wire::StatsReply& stats);

class FastPathFigures {
  public:
    FastPathFigures();
    ~FastPathFigures();
    FastPathFigures(const FastPathFigures&) = delete;
    FastPathFigures& operator=(const FastPathFigures&) = delete;

    void on_up(const wire::HelloReply& hello);
    void on_down(const api::Error& why);
    void on_stats(wire::StatsReply stats);

    [[nodiscard]] bool up() const noexcept { return up_; }
    [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
    /// The last ones; empty messages before the first.
    [[nodiscard]] const wire::HelloReply& hello() const noexcept { return *hello_; }
    [[nodiscard]] const wire::StatsReply& stats() const noexcept;
    /// nullopt until two samples of one run of the fast path are there.
    [[nodiscard]] std::optional<SiteRates> rates(api::SiteId site) const;

  private:
    struct Sample {
        std::uint64_t at_ns = 0;
        std::map<api::SiteId, SiteTotals> sites;
    };
    std::unique_ptr<wire::HelloReply> hello_;
    std::unique_ptr<wire::StatsReply> stats_;
    std::deque<Sample> samples_;  ///< oldest first, about a second in all
    std::string problem_ = "not connected yet";
    bool up_ = false;
};

}  // namespace detour::app
