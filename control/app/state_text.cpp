#include "control/app/state_text.h"

#include <array>
#include <optional>

namespace detour::app {

namespace {

constexpr std::string_view kChecksum = "checksum ";

/// FNV-1a: finds a torn or edited file; not meant against an attacker, who could write the file anyway.
std::uint64_t checksum(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    return hash;
}

std::string hex(std::uint64_t value) {
    std::array<char, 17> text{};
    const auto end = std::to_chars(text.data(), text.data() + text.size(), value, 16).ptr;
    const std::string digits(text.data(), end);
    return std::string(16 - digits.size(), '0') + digits;
}

std::optional<std::string> unescape(std::string_view word) {
    if (word == "%") return std::string{};
    std::string result;
    for (std::size_t i = 0; i < word.size(); ++i) {
        if (word[i] != '%') {
            result += word[i];
            continue;
        }
        unsigned value = 0;
        if (i + 2 >= word.size()) return std::nullopt;
        const auto [end, error] = std::from_chars(word.data() + i + 1, word.data() + i + 3, value, 16);
        if (error != std::errc{} || end != word.data() + i + 3) return std::nullopt;
        result += static_cast<char>(value);
        i += 2;
    }
    return result;
}

std::optional<LineReader> split(std::string_view line) {
    std::vector<std::string> words;
    while (true) {
        const std::size_t space = line.find(' ');
        const auto word = unescape(line.substr(0, space));
        if (!word) return std::nullopt;
        words.push_back(*word);
        if (space == std::string_view::npos) return LineReader(std::move(words));
        line.remove_prefix(space + 1);
    }
}

tl::unexpected<api::Error> broken(std::string_view kind, const std::string& what) {
    return api::fail(api::ErrorCode::kInvalidArgument, "reading " + std::string(kind), what);
}

}  // namespace

void TextWriter::add(std::string_view word) {
    text_ += ' ';
    if (word.empty()) text_ += '%';
    for (const char c : word) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte > ' ' && byte != '%' && byte != 0x7f) {
            text_ += c;
        } else {
            text_ += '%';
            text_ += hex(byte).substr(14);
        }
    }
}

std::string TextWriter::finish() {
    return text_ + std::string(kChecksum) + hex(checksum(text_)) + '\n';
}

std::string LineReader::text() {
    if (next_ >= words_.size()) {
        ok_ = false;
        return {};
    }
    return words_[next_++];
}

api::Result<std::vector<LineReader>> read_lines(std::string_view text, std::string_view kind) {
    const std::size_t last = text.rfind(kChecksum);
    const bool at_line = last != std::string_view::npos && last > 0 && text[last - 1] == '\n';
    if (!at_line ||
        text.substr(last) != std::string(kChecksum) + hex(checksum(text.substr(0, last))) + '\n') {
        return broken(kind, "the checksum is missing or does not match");
    }
    text = text.substr(0, last);
    const std::string first = std::string(kind) + " 1\n";
    if (!text.starts_with(first)) return broken(kind, "expected the first line " + first);
    text.remove_prefix(first.size());

    std::vector<LineReader> lines;
    for (std::size_t number = 2; !text.empty(); ++number) {
        const std::size_t end = text.find('\n');
        auto line = split(text.substr(0, end));
        if (!line) return broken(kind, "line " + std::to_string(number) + " has a broken escape");
        lines.push_back(std::move(*line));
        text.remove_prefix(end + 1);
    }
    return lines;
}

}  // namespace detour::app
