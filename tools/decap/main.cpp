// detour-decap: takes the tunnel off Detour's packets on a backend or a site gateway. Arguments only, no
// logic.
#include <bpf/libbpf.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdarg>
#include <cstdio>
#include <string>
#include <vector>

#include "tools/decap/run.h"
#include "tools/decap/settings.h"
#include "tools/decap/stats.h"

namespace {

using detour::api::Error;
using detour::api::IpAddress;
using detour::decap::Prefix;
using detour::decap::Settings;

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;

struct Arguments {
    Settings settings;
    std::vector<std::string> vips;
    std::vector<std::string> sources;
    std::string mode = "xdp";
    std::uint16_t gue_port = detour::api::kGuePort;
    std::string stats_interface;
    std::string output = "table";
};

int report(const Error& error, int code) {
    fmt::print(stderr, "detour-decap: {}\n", error.to_string());
    return code;
}

/// libbpf's own words, without its debug lines and its probing of what is not there.
int print_from_libbpf(libbpf_print_level level, const char* format, va_list arguments) {
    return level == LIBBPF_WARN && std::getenv("DETOUR_BPF_LOG") != nullptr
               ? std::vfprintf(stderr, format, arguments)
               : 0;
}

void add_run(CLI::App& app, Arguments& arguments) {
    auto* run = app.add_subcommand("run", "Attach and decapsulate until SIGTERM or SIGINT");
    run->add_option("--interface", arguments.settings.interfaces, "Interface that tunnel packets come in by")
        ->required();
    run->add_option("--mode", arguments.mode, "Where to decapsulate: in the driver (xdp) or behind it (tc)")
        ->check(CLI::IsMember({"xdp", "tc"}))
        ->capture_default_str();
    run->add_option("--vip", arguments.vips, "Address that inner packets may go to")->required();
    run->add_option("--source", arguments.sources, "Prefix that outer packets may come from: the PoPs")
        ->required();
    run->add_option("--gue-port", arguments.gue_port, "UDP port of GUE")
        ->check(CLI::Range(1, 65535))
        ->capture_default_str();
    run->add_option("--clamp", arguments.settings.clamp,
                    "Interface that answers leave by, where the MSS is clamped [default: --interface]");
    run->add_option("--tunnel-mtu", arguments.settings.tunnel_mtu,
                    "Largest IP packet between the PoPs and here")
        ->check(CLI::Range(1280, 9978))
        ->capture_default_str();
    run->add_option("--tunnel-overhead", arguments.settings.tunnel_overhead,
                    "Outer header bytes: IPv4 20 or IPv6 40, and GUE 8 or GRE 4")
        ->check(CLI::Range(20, 128))
        ->capture_default_str();
}

void add_stats(CLI::App& app, Arguments& arguments) {
    auto* stats = app.add_subcommand("stats", "Print the counters");
    stats->add_option("--interface", arguments.stats_interface, "Only of this interface");
    stats->add_option("--output", arguments.output, "Format")
        ->check(CLI::IsMember({"table", "json"}))
        ->capture_default_str();
}

int run(Arguments& arguments) {
    for (const auto& text : arguments.vips) {
        auto vip = IpAddress::parse(text);
        if (!vip) return report(vip.error(), kUsage);
        arguments.settings.vips.push_back(*vip);
    }
    for (const auto& text : arguments.sources) {
        auto source = Prefix::parse(text);
        if (!source) return report(source.error(), kUsage);
        arguments.settings.sources.push_back(*source);
    }
    arguments.settings.mode = arguments.mode == "xdp" ? detour::decap::Mode::kXdp : detour::decap::Mode::kTc;
    arguments.settings.gue_port = detour::api::Port(arguments.gue_port);
    const auto done = detour::decap::run(arguments.settings);
    return done ? kDone : report(done.error(), kFailed);
}

int stats(const Arguments& arguments) {
    const auto stats = detour::decap::read_stats(arguments.stats_interface);
    if (!stats) return report(stats.error(), kFailed);
    fmt::print("{}", arguments.output == "json" ? to_json(*stats) : to_table(*stats));
    return kDone;
}

}  // namespace

int main(int argc, char** argv) {
    libbpf_set_print(print_from_libbpf);
    Arguments arguments;
    CLI::App app("Takes the tunnel off Detour's packets and clamps the MSS of the answers", "detour-decap");
    app.require_subcommand(1);
    add_run(app, arguments);
    add_stats(app, arguments);
    app.add_subcommand("version", "Print the version");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? kDone : kUsage;
    }
    if (app.got_subcommand("version")) {
        fmt::print("detour-decap {}\n", DETOUR_VERSION);
        return kDone;
    }
    return app.got_subcommand("run") ? run(arguments) : stats(arguments);
}
