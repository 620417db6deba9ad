// The command line: which verb, with what. Only cli.cpp includes CLI11.
#pragma once

#include <functional>

#include "tools/lbctl/settings.h"

namespace detour::lbctl {

struct Invocation {
    Settings settings;
    std::function<ExitCode(const Settings&)> run;
};

/// Prints help or what is wrong itself; then the exit code is the result.
[[nodiscard]] tl::expected<Invocation, ExitCode> parse_command_line(int argc, const char* const* argv);

}  // namespace detour::lbctl
