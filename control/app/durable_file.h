// A file replaced as a whole, or not at all, whatever is switched off meanwhile.
//
// Blocks: call it off the loop. Any thread; one writer per path.
#pragma once

#include <string>
#include <string_view>

#include "dataplane/api/result.h"

namespace detour::app {

/// Writes `path` + ".tmp", fsyncs it, renames it over `path`, fsyncs the folder.
/// Error kSystem with the call that failed and why; what `path` held is then still there.
[[nodiscard]] api::Result<void> write_durably(const std::string& path, std::string_view content);

/// The whole file. Error kNotFound when there is none, kSystem otherwise.
[[nodiscard]] api::Result<std::string> read_file(const std::string& path);

}  // namespace detour::app
