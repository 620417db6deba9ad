// An error as the API carries it: what api::Error says, and for a refusal the rail and what would override
// it.
//
// JSON: {"code": "refused", "doing": "draining pangyo", "what": "…", "rail": "min_sites", "override":
// "--force", "details": ["…"]}; the last three only where they apply. Values, no threading.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dataplane/api/result.h"

namespace detour::control {

struct ApiError {
    api::ErrorCode code = api::ErrorCode::kSystem;
    std::string doing;
    std::string what;
    std::string rail;         ///< kRefused: the rule's name, as in the config where it has one
    std::string override_by;  ///< kRefused: the option that would do it all the same; empty: nothing does
    std::vector<std::string> details;  ///< one line each: a config's mistakes

    ApiError() = default;
    ApiError(api::ErrorCode code_in, std::string doing_in, std::string what_in)
        : code(code_in), doing(std::move(doing_in)), what(std::move(what_in)) {}
    // Implicit: api::Result's error is passed on unchanged.
    ApiError(api::Error error)  // NOLINT(google-explicit-constructor)
        : code(error.code), doing(std::move(error.doing)), what(std::move(error.what)) {}
    [[nodiscard]] std::string to_string() const { return doing + ": " + what; }
};

template <class T>
using Outcome = tl::expected<T, ApiError>;

/// "invalid_argument", "refused", …: the JSON form.
[[nodiscard]] std::string_view code_name(api::ErrorCode code) noexcept;
/// nullopt for a name that is not known.
[[nodiscard]] std::optional<api::ErrorCode> code_from_name(std::string_view name) noexcept;
/// 400, 404, 409, 413, 500, 503, 504.
[[nodiscard]] unsigned http_status(api::ErrorCode code) noexcept;

}  // namespace detour::control
