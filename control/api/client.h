// A synchronous client of the API over its Unix socket; every call has a deadline.
//
// One connection per call. Any thread, one call at a time. Replies are JSON text for from_json(), or to be
// shown as they are. Errors: those of the server as it sent them; kUnavailable when nobody answers on the
// socket (`details` says what to do), kTimeout when the deadline passed, kSystem for an answer that is no
// HTTP of ours.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include "control/api/error.h"

namespace detour::control {

class Client {
  public:
    explicit Client(std::string socket_path) : path_(std::move(socket_path)) {}

    [[nodiscard]] Outcome<std::string> get(const std::string& target,
                                           std::chrono::milliseconds deadline) const;
    [[nodiscard]] Outcome<std::string> post(const std::string& target, std::string_view body,
                                            std::chrono::milliseconds deadline) const;
    /// Calls `on_line` for each line, an empty one for a heartbeat, until it returns false or the server ends
    /// the stream. `silence`: the longest time without a line.
    [[nodiscard]] Outcome<void> stream(const std::string& target, std::chrono::milliseconds silence,
                                       const std::function<bool(std::string_view)>& on_line) const;
    [[nodiscard]] const std::string& socket_path() const noexcept { return path_; }

  private:
    std::string path_;
};

/// "a b" -> "a%20b", for a query's value.
[[nodiscard]] std::string percent_encoded(std::string_view text);

}  // namespace detour::control
