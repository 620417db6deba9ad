#include "config/duration.h"

#include <array>
#include <cstdint>

namespace detour::config {
namespace {

struct Unit {
    std::string_view suffix;
    std::int64_t milliseconds;
};
// "ms" before "s": the first suffix that fits wins.
constexpr std::array<Unit, 4> kUnits{{{"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}}};
constexpr std::int64_t kLongest = 366LL * 24 * 3'600'000;
constexpr std::size_t kMaxFraction = 6;

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

struct Decimal {
    std::int64_t digits = 0;  ///< without the point
    std::int64_t scale = 1;   ///< 10 to the number of digits after the point
};

std::optional<Decimal> parse_decimal(std::string_view text) {
    const std::size_t point = text.find('.');
    const std::string_view whole = text.substr(0, point);
    const std::string_view fraction = point == std::string_view::npos ? "" : text.substr(point + 1);
    if (whole.empty() || whole.size() > 11 || fraction.size() > kMaxFraction) return std::nullopt;
    if (point != std::string_view::npos && fraction.empty()) return std::nullopt;
    Decimal result;
    for (const std::string_view part : {whole, fraction}) {
        for (const char c : part) {
            if (!is_digit(c)) return std::nullopt;
            result.digits = result.digits * 10 + (c - '0');
        }
    }
    for (std::size_t i = 0; i < fraction.size(); ++i) result.scale *= 10;
    return result;
}

}  // namespace

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
    for (const Unit& unit : kUnits) {
        if (!text.ends_with(unit.suffix)) continue;
        const auto number = parse_decimal(text.substr(0, text.size() - unit.suffix.size()));
        if (!number) return std::nullopt;
        // After this, digits * unit is below kLongest * scale + unit: no overflow.
        if (number->digits / number->scale > kLongest / unit.milliseconds) return std::nullopt;
        const std::int64_t product = number->digits * unit.milliseconds;
        if (product % number->scale != 0) return std::nullopt;
        const std::int64_t value = product / number->scale;
        if (value > kLongest) return std::nullopt;
        return std::chrono::milliseconds(value);
    }
    return std::nullopt;
}

std::string duration_text(std::chrono::milliseconds value) {
    const std::int64_t count = value.count();
    if (count == 0) return "0s";
    for (auto unit = kUnits.rbegin(); unit != kUnits.rend(); ++unit) {
        if (count % unit->milliseconds == 0) {
            return std::to_string(count / unit->milliseconds) + std::string(unit->suffix);
        }
    }
    return std::to_string(count) + "ms";
}

}  // namespace detour::config
