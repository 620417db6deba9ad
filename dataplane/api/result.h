// Errors as values, for everything off the fast path.
//
// A function either returns its error or logs it, never both. The texts are in an operator's words.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace detour::api {

enum class ErrorCode : std::uint8_t {
    kInvalidArgument,  ///< the input is wrong: text, config, message, address
    kOutdated,         ///< an older generation or sequence than the one in force
    kLimit,            ///< a fixed bound of limits.h would be passed
    kNotFound,         ///< a name or id that is not known
    kRefused,          ///< a rule forbids it
    kTimeout,          ///< a deadline passed
    kUnavailable,      ///< the other side is not there
    kSystem,           ///< the operating system or a library failed
};

struct Error {
    ErrorCode code = ErrorCode::kSystem;
    std::string doing;  ///< what was being done: "reading the plan"
    std::string what;   ///< what was wrong, with the offending value: "weight 70000 is above 65535"

    [[nodiscard]] std::string to_string() const { return doing + ": " + what; }
};

template <class T>
using Result = tl::expected<T, Error>;

[[nodiscard]] inline tl::unexpected<Error> fail(ErrorCode code, std::string doing, std::string what) {
    return tl::unexpected<Error>(Error{code, std::move(doing), std::move(what)});
}

}  // namespace detour::api
