#include "control/api/error.h"

#include <algorithm>
#include <array>

namespace detour::control {

namespace {

struct CodeInfo {
    api::ErrorCode code;
    std::string_view name;
    unsigned status;
};

constexpr std::array kCodes{
    CodeInfo{api::ErrorCode::kInvalidArgument, "invalid_argument", 400},
    CodeInfo{api::ErrorCode::kOutdated, "outdated", 409},
    CodeInfo{api::ErrorCode::kLimit, "limit", 413},
    CodeInfo{api::ErrorCode::kNotFound, "not_found", 404},
    CodeInfo{api::ErrorCode::kRefused, "refused", 409},
    CodeInfo{api::ErrorCode::kTimeout, "timeout", 504},
    CodeInfo{api::ErrorCode::kUnavailable, "unavailable", 503},
    CodeInfo{api::ErrorCode::kSystem, "system", 500},
};

}  // namespace

std::string_view code_name(api::ErrorCode code) noexcept {
    const auto* found = std::ranges::find(kCodes, code, &CodeInfo::code);
    return found == kCodes.end() ? "system" : found->name;
}

std::optional<api::ErrorCode> code_from_name(std::string_view name) noexcept {
    const auto* found = std::ranges::find(kCodes, name, &CodeInfo::name);
    if (found == kCodes.end()) return std::nullopt;
    return found->code;
}

unsigned http_status(api::ErrorCode code) noexcept {
    const auto* found = std::ranges::find(kCodes, code, &CodeInfo::code);
    return found == kCodes.end() ? 500 : found->status;
}

}  // namespace detour::control
