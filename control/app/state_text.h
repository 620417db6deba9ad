// The text form of the files on disk: one record a line, words separated by one space, checksum last.
//
//   detour-state 1
//   site 0 pangyo
//   …
//   checksum 0123456789abcdef
//
// Words are percent-encoded, an empty one is "%". Private to app/state_store. Pure, any thread.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/api/result.h"

namespace detour::app {

class TextWriter {
  public:
    explicit TextWriter(std::string_view kind) { line(kind, 1); }
    template <class... Words>
    void line(std::string_view name, const Words&... all) {
        begin(name);
        words(all...);
        end();
    }
    /// A line in parts.
    void begin(std::string_view name) { text_ += name; }
    template <class... Words>
    void words(const Words&... all) {
        (add(all), ...);
    }
    void end() { text_ += '\n'; }
    /// The whole text with its checksum.
    [[nodiscard]] std::string finish();

  private:
    void add(std::string_view word);
    void add(const std::string& word) { add(std::string_view(word)); }
    void add(bool value) { text_ += value ? " 1" : " 0"; }
    template <std::integral Number>
    void add(Number value) {
        text_ += ' ';
        text_ += std::to_string(value);
    }
    std::string text_;
};

/// The words of one line, read in turn. A word that is missing or wrong makes ok() false; the value is then
/// empty.
class LineReader {
  public:
    explicit LineReader(std::vector<std::string> words) : words_(std::move(words)) {}
    [[nodiscard]] const std::string& name() const { return words_.front(); }
    [[nodiscard]] std::string text();
    template <std::integral Number>
    [[nodiscard]] Number number() {
        const std::string word = text();
        Number value{};
        const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
        if (error != std::errc{} || end != word.data() + word.size()) ok_ = false;
        return value;
    }
    [[nodiscard]] bool flag() { return number<std::uint8_t>() == 1; }
    void fail() { ok_ = false; }
    /// All words were right, and none is left.
    [[nodiscard]] bool ok() const { return ok_ && next_ == words_.size(); }

  private:
    std::vector<std::string> words_;
    std::size_t next_ = 1;
    bool ok_ = true;
};

/// Checks the first line and the checksum and gives the lines between.
[[nodiscard]] api::Result<std::vector<LineReader>> read_lines(std::string_view text, std::string_view kind);

}  // namespace detour::app
