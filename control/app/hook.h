// What an activation runs: a command, or a POST to a URL. Both end at a deadline and with a bounded output.
//
// A command is run without a shell, from /, with an environment of its own, no input and none of this
// process's descriptors. It leads a process group, which is killed as a whole at the deadline. It outlives
// this process: an activation that is under way is not undone by a restart.
//
// Thread: the io_context's. `done` is called once, later, and not after stop().
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/model.h"

namespace boost::asio {
class io_context;
}

namespace detour::app {

inline constexpr std::size_t kMaxHookOutput = 4'096;

struct HookResult {
    bool good = false;
    std::string how;     ///< "exit status 3", "killed at its deadline of 10m", "HTTP status 500"
    std::string output;  ///< the first kMaxHookOutput bytes, one line: control characters are blanks
};
using HookDone = std::function<void(const HookResult&)>;

struct HookOrder {
    config::Activation activation;
    std::string site;
    std::string pop;
};

class Hook {
  public:
    virtual ~Hook() = default;
    /// Reports nothing more.
    virtual void stop() = 0;
};

/// Starts it. What can't even be started is reported to `done` too.
[[nodiscard]] std::shared_ptr<Hook> run_hook(boost::asio::io_context& io, HookOrder order, HookDone done);

/// For run_hook().
[[nodiscard]] std::shared_ptr<Hook> run_command(boost::asio::io_context& io, HookOrder order, HookDone done);
[[nodiscard]] std::shared_ptr<Hook> send_request(boost::asio::io_context& io, HookOrder order, HookDone done);
/// The beginning of what a hook said, in one line.
[[nodiscard]] std::string one_line(std::string text);

/// "https://host:8443/path?x" in parts.
struct HookUrl {
    bool tls = false;
    std::string host;    ///< without brackets
    std::string port;    ///< a number
    std::string target;  ///< begins with '/'
};
/// `url` has passed the configuration's check.
[[nodiscard]] HookUrl split_url(const std::string& url);

}  // namespace detour::app
