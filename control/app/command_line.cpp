#include "control/app/command_line.h"

#include <CLI/CLI.hpp>
#include <sstream>

namespace detour::app {

CommandLine parse_command_line(int argc, const char* const* argv) {
    CommandLine out;
    CLI::App parser("Decides where client traffic goes: probes every site and tells the fast path.",
                    "detour-control");
    parser.add_option("--config", out.arguments.config, "one TOML file, or a folder of them")
        ->capture_default_str();
    parser.add_option("--log-level", out.arguments.log_level, "trace, debug, info, warning, error or off")
        ->capture_default_str()
        ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error", "off"}));
    parser.add_flag("--watch", out.arguments.watch, "read the configuration anew when its files change");
    parser.add_flag("--check", out.arguments.check,
                    "only read the configuration: exit 0 when it is good, else 2");
    parser.set_version_flag("--version", "detour-control " DETOUR_VERSION);
    try {
        parser.parse(argc, argv);
        out.run = true;
    } catch (const CLI::ParseError& error) {
        std::ostringstream text;
        out.exit_code = parser.exit(error, text, text) == 0 ? 0 : 2;
        out.text = text.str();
    }
    return out;
}

}  // namespace detour::app
