// Durations, times and figures as operators write and read them. Pure, any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "control/api/messages.h"

namespace detour::lbctl {

/// "90s", "30m", "1h30m", "2d", "500ms"; a number alone has no unit and is refused. nullopt: not a duration.
[[nodiscard]] std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);
/// The two widest units that count: "45s", "3m20s", "2h05m", "3d4h".
[[nodiscard]] std::string duration_text(std::chrono::milliseconds duration);
/// "03:04:05Z (12s ago)", from yesterday back "2026-05-01 03:04Z (3d4h ago)"; empty for the zero time.
[[nodiscard]] std::string since_text(control::Time time, control::Time now);
/// "03:34:05Z (in 29m10s)", or the same with the date.
[[nodiscard]] std::string until_text(control::Time time, control::Time now);
/// 0.125 -> "12.5 %", 1 -> "100 %"; what is not quite 0 or 1 never looks like it.
[[nodiscard]] std::string percent_text(double share);
/// 1234567 -> "1,234,567".
[[nodiscard]] std::string count_text(std::uint64_t count);
/// Rounded, with thousands; empty when not known.
[[nodiscard]] std::string rate_text(const std::optional<double>& rate);
/// "1 site", "2 sites".
[[nodiscard]] std::string plural(std::uint64_t count, std::string_view noun);

}  // namespace detour::lbctl
