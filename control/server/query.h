// The parts of a request's target (RFC 3986 section 3.4). Pure, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dataplane/api/result.h"

namespace detour::control {

/// "/v1/events" of "/v1/events?since=3".
[[nodiscard]] std::string_view path_of(std::string_view target) noexcept;
/// A parameter's value, percent-decoded; nullopt when it is absent. Error kInvalidArgument for a bad escape.
[[nodiscard]] api::Result<std::optional<std::string>> query_value(std::string_view target,
                                                                  std::string_view name);
/// A whole number of the query; `fallback` when absent.
[[nodiscard]] api::Result<std::optional<std::uint64_t>> query_number(std::string_view target,
                                                                     std::string_view name);

}  // namespace detour::control
