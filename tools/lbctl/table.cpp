#include "tools/lbctl/table.h"

#include <algorithm>

namespace detour::lbctl {

namespace {

constexpr std::string_view kGap = "  ";

std::size_t width(std::string_view text) noexcept {
    return static_cast<std::size_t>(
        std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string shown(const Cell& cell) {
    return cell.text.empty() ? "-" : printable(cell.text);
}

std::string_view escape_of(Tone tone) noexcept {
    switch (tone) {
        case Tone::kGood:
            return "\x1b[32m";
        case Tone::kWarning:
            return "\x1b[33m";
        case Tone::kBad:
            return "\x1b[1;31m";
        case Tone::kFaint:
            return "\x1b[2m";
        case Tone::kPlain:
            break;
    }
    return "";
}

}  // namespace

std::string printable(std::string_view text) {
    std::string result(text);
    std::ranges::replace_if(
        result, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
    return result;
}

std::string toned(std::string_view text, Tone tone, Colour colour) {
    const std::string_view escape = colour == Colour::kOn ? escape_of(tone) : "";
    if (escape.empty()) return std::string(text);
    return std::string(escape).append(text).append("\x1b[0m");
}

std::string Table::render(Colour colour) const {
    std::vector<std::size_t> used;
    std::vector<std::size_t> widths(columns_.size(), 0);
    for (std::size_t i = 0; i < columns_.size(); ++i) {
        widths[i] = width(columns_[i].header);
        bool any = rows_.empty();
        for (const auto& cells : rows_) {
            any = any || !cells[i].text.empty();
            widths[i] = std::max(widths[i], width(shown(cells[i])));
        }
        if (any) used.push_back(i);
    }
    std::string out;
    const auto line = [&](const auto& text_of, const auto& tone_of) {
        for (const std::size_t i : used) {
            const std::string text = text_of(i);
            const std::string pad(widths[i] - width(text), ' ');
            const bool last = i == used.back();
            if (columns_[i].align == Align::kRight) out += pad;
            out += toned(text, tone_of(i), colour);
            if (columns_[i].align == Align::kLeft && !last) out += pad;
            if (!last) out += kGap;
        }
        out.erase(out.find_last_not_of(' ') + 1);
        out += '\n';
    };
    line([this](std::size_t i) { return columns_[i].header; }, [](std::size_t) { return Tone::kFaint; });
    for (const auto& cells : rows_) {
        line([&cells](std::size_t i) { return shown(cells[i]); },
             [&cells](std::size_t i) { return cells[i].tone; });
    }
    return out;
}

}  // namespace detour::lbctl
