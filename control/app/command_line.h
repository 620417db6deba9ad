// The command line of detour-control. Parsed once at start.
#pragma once

#include <string>

namespace detour::app {

struct Arguments {
    std::string config = "/etc/detour/detour.toml";  ///< file or folder
    std::string log_level = "info";
    bool watch = false;  ///< read the configuration anew when its files change
    bool check = false;  ///< read the configuration, say what is wrong, and end
};

/// Either arguments to run with, or a text to print and an exit code.
struct CommandLine {
    bool run = false;
    Arguments arguments;
    std::string text;   ///< help and version go to stdout, mistakes to stderr
    int exit_code = 0;  ///< 0 for help and version, 2 for a mistake
};

[[nodiscard]] CommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace detour::app
