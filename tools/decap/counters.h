// What detour-decap counts: name and meaning of each counter of decap_maps.h, once.
//
// `detour-decap stats` prints the names, docs/backends.md holds the same table (a test compares them). Pure
// data.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "tools/decap/decap_maps.h"

namespace detour::decap {

struct CounterInfo {
    decap_counter counter;
    std::string_view name;     ///< snake_case, stable: scripts read it
    std::string_view meaning;  ///< one sentence
};

/// Indexed by decap_counter.
extern const std::array<CounterInfo, DECAP_COUNTERS> kCounters;

/// Values of one interface, summed over the CPUs, indexed by decap_counter.
using CounterValues = std::array<std::uint64_t, DECAP_COUNTERS>;

}  // namespace detour::decap
