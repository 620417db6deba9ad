// What the workers of a host share, for benchmarks: the tables in force, the switches, and whoever applies
// plans.
//
// Host: as io::Publication and core::HostState say. Planner: made, started and stopped by one thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "dataplane/core/host_state.h"
#include "dataplane/io/publication.h"
#include "tests/bench/scenario.h"

namespace detour::bench {

struct Host {
    /// Throws std::runtime_error when the plan is refused.
    Host(const Scenario& scenario, unsigned workers);

    core::HostState switches;
    io::Publication publication;
};

/// Applies a plan every 100 ms on a thread and CPU of its own: each time another backend has another weight.
class Planner {
  public:
    Planner(Host& host, const Scenario& scenario, unsigned cpu);
    ~Planner() { halt(); }
    Planner(const Planner&) = delete;
    Planner& operator=(const Planner&) = delete;

    void start();
    /// Returns when a plan was applied since start(), and no other will be. Throws std::runtime_error when
    /// one was refused or a worker did not pass it.
    void stop();
    [[nodiscard]] unsigned applied() const noexcept { return applied_; }

  private:
    void work(std::stop_token stop);
    void apply();
    void halt();

    Host& host_;
    const unsigned cpu_;
    api::ForwardingPlan plan_;
    std::string problem_;
    unsigned applied_ = 0;  ///< like problem_ the thread's while it runs
    std::mutex mutex_;
    std::condition_variable_any wake_;
    std::jthread thread_;
};

}  // namespace detour::bench
