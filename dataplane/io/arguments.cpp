#include "dataplane/io/arguments.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <sstream>

#include "dataplane/api/limits.h"

namespace detour::io {
namespace {

constexpr std::size_t kDefaultFlows = 1U << 20U;
constexpr std::size_t kMinFlows = 1U << 10U;
constexpr std::size_t kMaxFlows = 1U << 26U;
constexpr unsigned kMaxIdleSleepUs = 100'000;

struct RawArguments {
    std::vector<std::string> ports;
    std::uint64_t idle_sleep_us = 100;
    bool no_huge = false;
};

void declare(CLI::App& app, Arguments& arguments, RawArguments& raw) {
    app.add_option(
           "--port", raw.ports,
           "A port to forward on; repeat for more. An interface name (eth1: AF_XDP, the kernel keeps all "
           "but VIP traffic), a PCI address (0000:01:00.0) or a DPDK device string (net_null0). Plans name "
           "ports by their position here, from 0.")
        ->required()
        ->allow_extra_args(false);
    app.add_option("--workers", arguments.workers, "Forwarding threads, each with one queue of every port.")
        ->check(CLI::Range(1U, static_cast<unsigned>(api::kMaxWorkers)))
        ->capture_default_str();
    app.add_option("--cores", arguments.cores,
                   "CPU of each worker, comma separated. Default: chosen at start.")
        ->delimiter(',');
    app.add_option("--socket", arguments.socket, "Unix socket of the control channel.")
        ->capture_default_str();
    app.add_option("--state-dir", arguments.state_dir, "Folder that keeps the last plan and the switches.")
        ->capture_default_str();
    app.add_option("--flows-per-worker", arguments.flows_per_worker,
                   "IPv4 flows that a worker remembers, 16 bytes each; IPv6 gets a quarter, 32 bytes each.")
        ->check(CLI::Range(kMinFlows, kMaxFlows))
        ->capture_default_str();
    app.add_option(
           "--idle-sleep", raw.idle_sleep_us,
           "Longest sleep of an idle worker in microseconds; 0: never sleep, one whole CPU per worker.")
        ->check(CLI::Range(0U, kMaxIdleSleepUs))
        ->capture_default_str();
    app.add_flag("--no-huge", raw.no_huge, "Use ordinary memory and leave /proc/sys/vm/nr_hugepages alone.");
    app.add_flag(
        "--release", arguments.release,
        "At a clean stop, give VIP traffic back to the kernel. Default: it is dropped until the next start, "
        "so that a restart refuses no client.");
    app.add_option("--steering", arguments.steering_object,
                   "XDP program for interface ports. Default: the one beside this program.");
    app.add_option("--log-level", arguments.log_level, "What is written to stderr.")
        ->check(CLI::IsMember({"error", "warning", "info", "debug"}))
        ->capture_default_str();
    app.set_version_flag("--version", std::string("detour-dataplane " DETOUR_VERSION));
}

api::Result<void> finish(Arguments& arguments, const RawArguments& raw) {
    for (const std::string& text : raw.ports) {
        auto port = parse_port(text);
        if (!port) return tl::unexpected(port.error());
        arguments.ports.push_back(*std::move(port));
    }
    if (auto checked = check_ports(arguments.ports); !checked) return checked;
    if (!arguments.cores.empty() && arguments.cores.size() != arguments.workers) {
        return api::fail(api::ErrorCode::kInvalidArgument, "reading --cores",
                         fmt::format("{} CPUs for {} workers", arguments.cores.size(), arguments.workers));
    }
    if (arguments.steering_object.find(',') != std::string::npos) {
        return api::fail(
            api::ErrorCode::kInvalidArgument, "reading --steering",
            fmt::format("'{}' has a comma, which separates device arguments", arguments.steering_object));
    }
    arguments.idle_sleep = std::chrono::microseconds(raw.idle_sleep_us);
    arguments.huge_pages = !raw.no_huge;
    return {};
}

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv) {
    CLI::App app{"Forwards client traffic to sites at layer 4, as the control process plans it.",
                 "detour-dataplane"};
    Arguments arguments;
    arguments.socket = "/run/detour/dataplane.sock";
    arguments.state_dir = "/var/lib/detour/dataplane";
    arguments.flows_per_worker = kDefaultFlows;
    arguments.log_level = "info";
    RawArguments raw;
    declare(app, arguments, raw);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::ostringstream out;
        const int code = app.exit(error, out, out);
        return {std::nullopt, out.str(), code == 0 ? 0 : 2};
    }
    if (auto done = finish(arguments, raw); !done) return {std::nullopt, done.error().to_string() + "\n", 2};
    return {std::move(arguments), "", 0};
}

}  // namespace detour::io
