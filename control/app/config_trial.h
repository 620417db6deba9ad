// A configuration on trial: in force until it is confirmed or its time is up; then the one before is again.
//
// On disk, in the folder of the control process's state, so that a restart changes nothing of it:
//   config-before/   the files of the configuration before, as they were
//   config-trial     what is on trial (a checksum of its text), until when, and whether it was taken back
// All calls block: off the loop. Any thread, one at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/files.h"
#include "config/load.h"
#include "control/app/durable_writer.h"
#include "control/health/now.h"

namespace detour::app {

using Documents = std::vector<config::Document>;

/// Empty when something can't be read; load() then says what.
[[nodiscard]] Documents read_config_text(const std::string& path);
/// Stands for the text of all files; 0: none.
[[nodiscard]] std::uint64_t text_mark(const Documents& documents);

struct Trial {
    std::uint64_t text = 0;  ///< text_mark() of what is on trial
    health::WallTime until;
    bool taken_back = false;  ///< it was not confirmed: what is on disk is not in force
    bool operator==(const Trial&) const = default;
};

[[nodiscard]] std::string encode(const Trial& trial);
[[nodiscard]] api::Result<Trial> decode_trial(std::string_view text);

/// Absent: none. A damaged file is an error.
[[nodiscard]] api::Result<std::optional<Trial>> read_trial(const std::string& state_dir);
/// Keeps `before`, then the trial itself. Nothing is on trial before it returns without error.
[[nodiscard]] api::Result<void> begin_trial(const std::string& state_dir, const Documents& before,
                                            const Trial& trial);
[[nodiscard]] api::Result<void> write_trial(const std::string& state_dir, const Trial& trial);
/// What ran before is forgotten, also when the power fails right after. Error kSystem: a restart may still
/// find the trial.
[[nodiscard]] api::Result<void> end_trial(const std::string& state_dir);
/// Where the configuration before is, to be read as any other.
[[nodiscard]] std::string config_before(const std::string& state_dir);

/// What a process that starts runs on.
struct StartConfig {
    config::Loaded loaded;
    Documents text;              ///< of what `loaded` was made from
    std::optional<Trial> trial;  ///< still open, or taken back
    std::string alarm;           ///< empty: none
};
[[nodiscard]] StartConfig load_for_start(const std::string& path, health::WallTime now);

}  // namespace detour::app
