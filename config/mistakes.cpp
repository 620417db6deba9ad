#include "config/mistakes.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace detour::config {

std::string Mistake::to_string() const {
    return fmt::format("{}: found {}, expected {}", origin.to_string(), found, expected);
}

void Mistakes::add(Origin origin, std::string found, std::string expected) {
    if (full()) return;
    list_.push_back({std::move(origin), std::move(found), std::move(expected)});
}

std::vector<Mistake> Mistakes::take() && {
    std::map<std::string, std::size_t> order;
    for (const Mistake& mistake : list_) order.emplace(mistake.origin.file, order.size());
    std::stable_sort(list_.begin(), list_.end(), [&](const Mistake& a, const Mistake& b) {
        return std::tuple(order.at(a.origin.file), a.origin.line, a.origin.column) <
               std::tuple(order.at(b.origin.file), b.origin.line, b.origin.column);
    });
    return std::move(list_);
}

}  // namespace detour::config
