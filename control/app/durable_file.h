// A file replaced or removed as a whole, or not at all, whatever is switched off meanwhile.
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

/// Removes `path` when it is there, fsyncs its folder: afterwards it does not come back.
/// Error kSystem with the call that failed and why; the file may be gone by then, or come back.
[[nodiscard]] api::Result<void> remove_durably(const std::string& path);

/// fsyncs a folder: names that were made or removed in it stay so. Error kSystem.
[[nodiscard]] api::Result<void> sync_folder(const std::string& folder);

/// The whole file. Error kNotFound when there is none, kSystem otherwise.
[[nodiscard]] api::Result<std::string> read_file(const std::string& path);

}  // namespace detour::app
