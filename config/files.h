// Which files a configuration is made of, and their text.
//
// Reads the file system, writes nothing. What can't be read is a mistake with the file's name, so that a
// folder with one unreadable file is refused whole.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "config/mistakes.h"

namespace detour::config {

inline constexpr std::size_t kMaxConfigBytes = 16U << 20U;  ///< all files together
inline constexpr std::size_t kMaxConfigFiles = 4096;
inline constexpr std::size_t kMaxKeyDepth = 16;  ///< parts of one dotted key

struct Document {
    std::string name;  ///< as in messages: the path given, or the path inside the folder given
    std::string text;
};

/// A file: itself. A folder: `detour.toml`, then `*.toml` and `*/*.toml` in name order; names that begin with
/// a dot are left out (editors' backups, Kubernetes' `..data`).
[[nodiscard]] std::vector<Document> read_documents(const std::string& path, Mistakes& mistakes);

/// Line (from 1) of the first key with more than kMaxKeyDepth parts, or 0. Each part is a level of recursion
/// in the parser, so this must be looked at before it runs.
[[nodiscard]] std::uint32_t too_deep_line(std::string_view text);

}  // namespace detour::config
