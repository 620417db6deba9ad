#include "tools/lbctl/text.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>

#include "control/api/json.h"

namespace detour::lbctl {

using std::chrono::milliseconds;

namespace {

struct Unit {
    std::string_view name;
    std::int64_t ms;
};

constexpr std::array kUnits{Unit{"d", 86'400'000}, Unit{"h", 3'600'000}, Unit{"m", 60'000}, Unit{"s", 1000}};
constexpr std::int64_t kLongest = 400LL * 86'400'000;

std::int64_t unit_ms(std::string_view name) noexcept {
    for (const Unit& unit : kUnits) {
        if (unit.name == name) return unit.ms;
    }
    return name == "ms" ? 1 : 0;
}

/// "03:04:05Z", with the date when it is another day than `now`'s.
std::string clock_text(control::Time time, control::Time now) {
    const std::string text = control::to_text(time);  // 2026-05-01T03:04:05.678901Z
    const bool today = text.substr(0, 10) == control::to_text(now).substr(0, 10);
    return today ? text.substr(11, 8) + "Z" : text.substr(0, 10) + " " + text.substr(11, 5) + "Z";
}

milliseconds between(control::Time from, control::Time to) {
    return std::max(std::chrono::floor<milliseconds>(to - from), milliseconds(0));
}

}  // namespace

std::optional<milliseconds> parse_duration(std::string_view text) {
    std::int64_t total = 0;
    if (text.empty()) return std::nullopt;
    while (!text.empty()) {
        std::int64_t number = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (error != std::errc{} || number < 0 || number > kLongest) return std::nullopt;
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        const std::size_t letters = text.find_first_of("0123456789-+");
        const std::int64_t unit = unit_ms(text.substr(0, letters));
        if (unit == 0 || number > kLongest / unit) return std::nullopt;
        total += number * unit;
        if (total > kLongest) return std::nullopt;
        text.remove_prefix(std::min(letters, text.size()));
    }
    return milliseconds(total);
}

std::string duration_text(milliseconds duration) {
    std::int64_t left = std::max<std::int64_t>(duration.count(), 0);
    if (left < 1000) return "0s";
    for (std::size_t i = 0; i < kUnits.size(); ++i) {
        if (left < kUnits[i].ms) continue;
        const std::int64_t whole = left / kUnits[i].ms;
        left %= kUnits[i].ms;
        if (i + 1 == kUnits.size()) return fmt::format("{}s", whole);
        const std::int64_t rest = left / kUnits[i + 1].ms;
        return i == 0 ? fmt::format("{}d{}h", whole, rest)
                      : fmt::format("{}{}{:02}{}", whole, kUnits[i].name, rest, kUnits[i + 1].name);
    }
    return "0s";
}

std::string since_text(control::Time time, control::Time now) {
    if (time == control::Time{}) return "";
    return fmt::format("{} ({} ago)", clock_text(time, now), duration_text(between(time, now)));
}

std::string until_text(control::Time time, control::Time now) {
    return fmt::format("{} (in {})", clock_text(time, now), duration_text(between(now, time)));
}

std::string percent_text(double share) {
    const double percent = share * 100;
    if (percent <= 0) return "0 %";
    if (percent >= 100) return fmt::format("{:.0f} %", percent);
    if (percent < 0.1) return "<0.1 %";
    if (percent > 99.9) return ">99.9 %";
    const double rounded = std::round(percent * 10) / 10;
    return fmt::format("{} %", rounded);
}

std::string count_text(std::uint64_t count) {
    const std::string digits = fmt::format("{}", count);
    std::string out;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
        out += digits[i];
    }
    return out;
}

std::string rate_text(const std::optional<double>& rate) {
    if (!rate || !std::isfinite(*rate) || *rate < 0 || *rate > 1e18) return "";
    if (*rate > 0 && *rate < 1) return "<1";
    return count_text(static_cast<std::uint64_t>(std::llround(*rate)));
}

std::string plural(std::uint64_t count, std::string_view noun) {
    return fmt::format("{} {}{}", count_text(count), noun, count == 1 ? "" : "s");
}

}  // namespace detour::lbctl
