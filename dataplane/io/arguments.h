// The command line of detour-dataplane.
//
// Parsed once at start, before any thread exists. `lbctl config show --dataplane-args` prints these arguments
// from the one TOML file, so their names are an interface.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/io/port_spec.h"

namespace detour::io {

struct Arguments {
    std::vector<PortSpec> ports;
    unsigned workers = 1;
    std::vector<unsigned> cores;  ///< CPU of each worker; empty: chosen at start
    std::string socket;
    std::string state_dir;
    std::size_t flows_per_worker = 0;         ///< IPv4 entries; IPv6 takes a quarter of it
    std::chrono::microseconds idle_sleep{0};  ///< longest sleep of an idle worker; 0: it spins
    bool huge_pages = true;
    bool release = false;         ///< a clean stop takes the guards off: VIP packets are the kernel's again
    std::string steering_object;  ///< XDP program of the interface ports; empty: the one that comes along
    std::string log_level;
};

/// Either arguments to run with, or a text to print and an exit code.
struct CommandLine {
    std::optional<Arguments> run;
    std::string text;   ///< help and version go to stdout, mistakes to stderr
    int exit_code = 0;  ///< 0 for help and version, 2 for a mistake
};

[[nodiscard]] CommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace detour::io
