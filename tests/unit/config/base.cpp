#include "tests/unit/config/base.h"

#include <doctest/doctest.h>

namespace detour::config::tests {

std::string replaced(std::string_view text, std::string_view after, std::string_view from,
                     std::string_view to) {
    const std::size_t start = text.find(after);
    REQUIRE_MESSAGE(start != std::string_view::npos, after);
    const std::size_t at = text.find(from, start);
    REQUIRE_MESSAGE(at != std::string_view::npos, from);
    std::string result(text);
    return result.replace(at, from.size(), to);
}

}  // namespace detour::config::tests
