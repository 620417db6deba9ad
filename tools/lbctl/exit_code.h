// What lbctl's exit says; scripts depend on it (docs/man/lbctl.1).
#pragma once

#include "control/api/error.h"

namespace detour::lbctl {

enum class ExitCode : int {
    kDone = 0,
    kFailed = 1,
    kUsage = 2,          ///< wrong usage, or a config with mistakes
    kRefused = 3,        ///< by a rail
    kNotEverywhere = 4,  ///< done here but not everywhere
    kTimedOut = 5,       ///< while waiting; what was asked goes on
};

/// A name that is not known, or a value that is refused, is wrong usage; a rail is a refusal; the rest has
/// failed.
[[nodiscard]] inline ExitCode exit_code(const control::ApiError& error) noexcept {
    switch (error.code) {
        case api::ErrorCode::kInvalidArgument:
        case api::ErrorCode::kNotFound:
            return ExitCode::kUsage;
        case api::ErrorCode::kRefused:
            return ExitCode::kRefused;
        default:
            return ExitCode::kFailed;
    }
}

}  // namespace detour::lbctl
