// From a scenario to its row: rounds, medians, and whether the row counts. One thread, the EAL's main lcore.
#pragma once

#include <rte_mempool.h>

#include <csignal>
#include <cstdint>
#include <optional>
#include <string>

#include "tests/bench/scenario.h"

namespace detour::bench {

struct How {
    double seconds = 0.3;  ///< of each round, with the pipeline
    int rounds = 7;
    std::uint64_t packets = 0;       ///< of each round instead of `seconds`; 0: not
    unsigned cpu = 0;                ///< this thread's
    std::optional<unsigned> second;  ///< another CPU; where workers are two, lcore kSecondLcore runs on it
    const volatile std::sig_atomic_t* interrupted = nullptr;
};

inline constexpr unsigned kSecondLcore = 1;

/// The scenario's row as JSON, one line. Throws std::runtime_error, also when interrupted.
[[nodiscard]] std::string measure(const Scenario& scenario, const How& how, rte_mempool* pool);

}  // namespace detour::bench
