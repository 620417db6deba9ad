// Up or down by misses and answers in a row.
//
// `fall` misses in a row make a backend down, `rise` answers in a row make it up. A backend starts unknown,
// which is neither: a restart, a reload or a new backend takes no live site out and brings no dead one in.
// Probes may overlap (a burst does not wait for answers), so results carry the serial of their probe: a late
// miss of a probe that was sent before one that was answered says nothing about now, and the other way round.
// Pure, not thread safe.
#pragma once

#include <cstdint>
#include <string_view>

#include "control/health/outcome.h"

namespace detour::health {

enum class State : std::uint8_t { kUnknown, kUp, kDown };
[[nodiscard]] std::string_view to_string(State state) noexcept;

struct Thresholds {
    std::uint32_t fall = 3;
    std::uint32_t rise = 2;
};

class RiseFall {
  public:
    /// What one result did.
    struct Step {
        bool changed = false;     ///< the state is another one now
        bool first_miss = false;  ///< the first miss after an answer (or at all): suspicion starts
    };

    /// kNotSent changes nothing. `serial` grows with the order of sending.
    Step on_result(Cause cause, std::uint64_t serial, Thresholds thresholds) noexcept;

    /// Takes a state over (from the fast path, or forgetting what was seen with kUnknown); runs start anew.
    void set(State state) noexcept;

    [[nodiscard]] State state() const noexcept { return state_; }
    [[nodiscard]] std::uint32_t misses() const noexcept { return misses_; }    ///< in a row
    [[nodiscard]] std::uint32_t answers() const noexcept { return answers_; }  ///< in a row
    /// The last result that counted.
    [[nodiscard]] Cause last() const noexcept { return last_; }

  private:
    State state_ = State::kUnknown;
    Cause last_ = Cause::kNotSent;
    std::uint32_t misses_ = 0;
    std::uint32_t answers_ = 0;
    std::uint64_t newest_miss_ = 0;
    std::uint64_t newest_answer_ = 0;
};

}  // namespace detour::health
