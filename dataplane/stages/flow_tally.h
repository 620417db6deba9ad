// What an operator wants to know of a worker's flow tables beyond how full they are: which flows had to give
// way, how long those had been idle, and how long the ones that are there have been.
//
// Nothing of it is touched for a packet of a known flow: evictions are counted where one happens, idle times
// by the ageing sweep. Written by the worker, read by any thread. Times are as fine as the table's: 2 s.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/api/limits.h"
#include "dataplane/core/flow_table.h"
#include "dataplane/stages/tally.h"

namespace detour::stages {

/// Upper bounds of the classes of idle time in ticks, the last one's left out: 10 s, 1 min, 10 min, 1 h.
inline constexpr std::array<std::uint16_t, api::kIdleClasses - 1> kIdleBounds{5, 30, 300, 1800};

/// The class of an idle time in ticks.
[[nodiscard]] constexpr std::size_t idle_class(std::uint16_t ticks) noexcept {
    std::size_t c = 0;
    for (const std::uint16_t bound : kIdleBounds) c += ticks >= bound ? 1 : 0;
    return c;
}

struct FlowTally {
    Tally evicted_confirmed;
    Tally evicted_unconfirmed;  ///< seen once, ending, or reset
    Tally evicted_idle_s;       ///< of the confirmed ones: how long they had been idle, summed
    Tally no_place;             ///< not remembered: only confirmed ones could have given way
    /// Confirmed flows by class, as the last whole pass of the sweep found them.
    std::array<Tally, api::kIdleClasses> idle;

    /// What FlowTable::insert() did at `now`, a tick.
    void count(const core::Inserted& inserted, std::uint16_t now) noexcept {
        if (!inserted.made) return no_place.add(1);
        const core::FlowState state = inserted.gone.state();
        if (state == core::FlowState::kEmpty) [[likely]]
            return;
        if (!core::is_confirmed(state)) return evicted_unconfirmed.add(1);
        evicted_confirmed.add(1);
        evicted_idle_s.add(core::age_of(inserted.gone.tick(), now) * (core::kTickNs / 1'000'000'000ULL));
    }
};

}  // namespace detour::stages
