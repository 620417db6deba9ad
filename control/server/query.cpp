#include "control/server/query.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace detour::control {

namespace {

int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

api::Result<std::string> percent_decoded(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '+') {
            result += ' ';
            continue;
        }
        if (text[i] != '%') {
            result += text[i];
            continue;
        }
        const int high = i + 1 < text.size() ? hex_digit(text[i + 1]) : -1;
        const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
        if (high < 0 || low < 0) {
            return api::fail(api::ErrorCode::kInvalidArgument, "reading the query",
                             fmt::format("'{}' has a % that is not followed by two hex digits", text));
        }
        result += static_cast<char>(high * 16 + low);
        i += 2;
    }
    return result;
}

}  // namespace

std::string_view path_of(std::string_view target) noexcept {
    return target.substr(0, target.find('?'));
}

api::Result<std::optional<std::string>> query_value(std::string_view target, std::string_view name) {
    const std::size_t mark = target.find('?');
    std::string_view rest = mark == std::string_view::npos ? std::string_view{} : target.substr(mark + 1);
    while (!rest.empty()) {
        const std::string_view pair = rest.substr(0, rest.find('&'));
        rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
        const std::size_t equals = pair.find('=');
        if (pair.substr(0, equals) != name) continue;
        if (equals == std::string_view::npos) return std::string{};
        auto value = percent_decoded(pair.substr(equals + 1));
        if (!value) return tl::unexpected(value.error());
        return *value;
    }
    return std::nullopt;
}

api::Result<std::optional<std::uint64_t>> query_number(std::string_view target, std::string_view name) {
    auto text = query_value(target, name);
    if (!text) return tl::unexpected(text.error());
    if (!text->has_value()) return std::nullopt;
    const std::string& digits = **text;
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size()) {
        return api::fail(api::ErrorCode::kInvalidArgument, "reading the query",
                         fmt::format("{}={} is not a whole number", name, digits));
    }
    return value;
}

}  // namespace detour::control
