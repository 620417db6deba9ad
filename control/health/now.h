// The time, passed in: nothing below control/app's shell reads a clock.
//
// Two clocks, since each is wrong for the other's work: the monotonic one measures timeouts and never jumps;
// the wall clock is what survives a restart and what hosts share (ramps, a drain's end). Plain values, any
// thread.
#pragma once

#include <chrono>
#include <compare>

namespace detour::health {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

/// CLOCK_MONOTONIC.
struct Monotonic {
    nanoseconds value{0};
    auto operator<=>(const Monotonic&) const = default;
    friend Monotonic operator+(Monotonic a, nanoseconds b) { return {a.value + b}; }
    friend nanoseconds operator-(Monotonic a, Monotonic b) { return a.value - b.value; }
};

/// CLOCK_REALTIME, since 1970-01-01 UTC.
struct WallTime {
    nanoseconds value{0};
    auto operator<=>(const WallTime&) const = default;
    friend WallTime operator+(WallTime a, nanoseconds b) { return {a.value + b}; }
    friend nanoseconds operator-(WallTime a, WallTime b) { return a.value - b.value; }
};

struct Now {
    Monotonic monotonic;
    WallTime wall;
};

inline constexpr Monotonic kNever{nanoseconds::max()};

}  // namespace detour::health
