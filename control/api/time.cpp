// RFC 3339 times, UTC (json.h).
#include <fmt/format.h>

#include <charconv>

#include "control/api/json.h"

namespace detour::control {

namespace {

/// Exactly `text` as digits; -1 when it isn't.
int digits(std::string_view text) noexcept {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool all = error == std::errc{} && end == text.data() + text.size();
    return all && text.front() >= '0' && text.front() <= '9' ? value : -1;
}

/// ".5" -> 500000; -1 when it isn't a fraction of 1 to 6 digits. Empty: 0.
int microseconds_of(std::string_view fraction) noexcept {
    if (fraction.empty()) return 0;
    if (fraction.front() != '.' || fraction.size() < 2 || fraction.size() > 7) return -1;
    const std::size_t count = fraction.size() - 1;
    int value = digits(fraction.substr(1));
    for (std::size_t i = count; value >= 0 && i < 6; ++i) value *= 10;
    return value;
}

}  // namespace

std::string to_text(Time time) {
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date(day);
    const std::chrono::hh_mm_ss clock(time - day);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", static_cast<int>(date.year()),
                       static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                       clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                       clock.subseconds().count());
}

api::Result<Time> parse_time(std::string_view text) {
    const auto invalid = [text] {
        return api::fail(api::ErrorCode::kInvalidArgument, "reading a time",
                         fmt::format("'{}' is not a time such as 2026-05-01T03:04:05Z", text));
    };
    constexpr std::string_view kShape = "0000-00-00T00:00:00";
    if (text.size() <= kShape.size() || text.back() != 'Z') return invalid();
    for (const std::size_t i : {4U, 7U, 10U, 13U, 16U}) {
        if (text[i] != kShape[i]) return invalid();
    }
    const int year = digits(text.substr(0, 4));
    const int month = digits(text.substr(5, 2));
    const int day = digits(text.substr(8, 2));
    const int hour = digits(text.substr(11, 2));
    const int minute = digits(text.substr(14, 2));
    const int second = digits(text.substr(17, 2));
    const int micro = microseconds_of(text.substr(kShape.size(), text.size() - kShape.size() - 1));
    if (year < 0 || month < 0 || day < 0 || hour < 0 || minute < 0 || second < 0 || micro < 0)
        return invalid();
    const std::chrono::year_month_day date{std::chrono::year(year),
                                           std::chrono::month(static_cast<unsigned>(month)),
                                           std::chrono::day(static_cast<unsigned>(day))};
    if (!date.ok() || hour > 23 || minute > 59 || second > 59) return invalid();
    return Time(std::chrono::sys_days(date)) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
           std::chrono::seconds(second) + std::chrono::microseconds(micro);
}

}  // namespace detour::control
