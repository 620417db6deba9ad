// TOML -> Config. The only code that knows TOML.
//
// A file that has a mistake is refused whole; all mistakes found are reported, each as
// `file:line:column: what was found, expected what`. Reads files, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/model.h"

namespace detour::config {

struct Mistake {
    Origin origin;
    std::string found;     ///< "weight = 70000"
    std::string expected;  ///< "a whole number from 0 to 65535"
    /// "detour.toml:12:10: found weight = 70000, expected a whole number from 0 to 65535"
    [[nodiscard]] std::string to_string() const;
};

using Loaded = tl::expected<Config, std::vector<Mistake>>;

/// A file, or a folder: `detour.toml` first, then `*.toml` and `*/*.toml` below it in name order.
[[nodiscard]] Loaded load(const std::string& path);
/// One document, for tests and fuzzing; `name` stands for the file in messages.
[[nodiscard]] Loaded load_text(std::string_view text, std::string_view name);

/// Every key that a file may hold, as "pool.health.path", sorted: for the manual's test and for completion.
[[nodiscard]] std::vector<std::string> known_keys();

}  // namespace detour::config
