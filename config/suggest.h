// "did you mean …": the known word nearest to a misspelt one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace detour::config {

/// The candidate with the smallest edit distance (insert, delete, replace, swap of neighbours), if it is at
/// most a third of the word's length and at least one; "" when none is that near. Words over 64 bytes have no
/// neighbour.
[[nodiscard]] std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace detour::config
