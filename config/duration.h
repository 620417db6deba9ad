// Durations as the configuration and the command line write them: "200ms", "1.5s", "5m", "2h".
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace detour::config {

/// A decimal number without sign and one unit of ms, s, m, h; whole milliseconds, at most a year. Else
/// nothing.
[[nodiscard]] std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);
/// The shortest exact form in the largest unit that divides it: 90000 -> "90s", 300000 -> "5m".
[[nodiscard]] std::string duration_text(std::chrono::milliseconds value);

}  // namespace detour::config
