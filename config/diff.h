// What differs between two configurations, value by value, in an operator's words. Pure.
//
// Neither the order of files, tables or lists whose order has no meaning, nor defaults written out, make a
// difference.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/model.h"

namespace detour::config {

/// Every value by its path: "pool.talk.backend.10.1.0.11.weight" -> "100". The seed shows as a fingerprint.
/// Defaults are filled in; two configurations mean the same exactly when their maps are equal.
[[nodiscard]] std::map<std::string, std::string> flatten(const Config& config);

struct Change {
    std::string path;
    std::string before;  ///< "" when it was not there
    std::string after;   ///< "" when it is gone
    auto operator<=>(const Change&) const = default;
};

/// Sorted by path.
[[nodiscard]] std::vector<Change> diff(const Config& before, const Config& after);

}  // namespace detour::config
