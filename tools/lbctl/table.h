// Aligned columns for people. Widths are counted in characters of UTF-8; control characters become '?', so
// that no probed host can write to the operator's terminal. Columns without any value are left out. Values,
// any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace detour::lbctl {

enum class Tone { kPlain, kGood, kWarning, kBad, kFaint };
enum class Align { kLeft, kRight };
enum class Colour { kOff, kOn };

struct Column {
    std::string header;
    Align align = Align::kLeft;
};

struct Cell {
    std::string text;  ///< empty: shown as "-"
    Tone tone = Tone::kPlain;
};

class Table {
  public:
    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
    /// One cell per column.
    void row(std::vector<Cell> cells) { rows_.push_back(std::move(cells)); }
    [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }
    [[nodiscard]] std::string render(Colour colour) const;

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<Cell>> rows_;
};

[[nodiscard]] std::string toned(std::string_view text, Tone tone, Colour colour);
/// Control characters replaced.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace detour::lbctl
