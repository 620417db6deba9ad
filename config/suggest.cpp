#include "config/suggest.h"

#include <algorithm>
#include <array>

namespace detour::config {
namespace {

constexpr std::size_t kMaxWord = 64;
using Row = std::array<std::size_t, kMaxWord + 1>;

// Optimal string alignment distance, three rows.
std::size_t distance(std::string_view a, std::string_view b) {
    Row before{};
    Row previous{};
    Row current{};
    for (std::size_t j = 0; j <= b.size(); ++j) previous[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        current[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replace = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            current[j] = std::min({previous[j] + 1, current[j - 1] + 1, replace});
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped) current[j] = std::min(current[j], before[j - 2] + 1);
        }
        before = previous;
        previous = current;
    }
    return previous[b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
    if (word.empty() || word.size() > kMaxWord) return {};
    std::size_t best = std::max<std::size_t>(1, word.size() / 3) + 1;
    std::string result;
    for (const std::string& candidate : candidates) {
        if (candidate.size() > kMaxWord) continue;
        const std::size_t d = distance(word, candidate);
        if (d >= best) continue;
        best = d;
        result = candidate;
    }
    return result;
}

}  // namespace detour::config
