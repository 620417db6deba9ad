// What lbctl can do, one function per verb. Each prints its result or its error and returns the exit code.
//
// One thread; a verb may take as long as its deadline says. With JSON output the server's document is printed
// as it came, so its form is that of docs/api.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "tools/lbctl/settings.h"

namespace detour::lbctl {

ExitCode show_status(const Settings& settings);
ExitCode show_flows(const Settings& settings);
ExitCode show_sites(const Settings& settings);
ExitCode show_version(const Settings& settings);

struct Filter {
    std::string site;  ///< empty: all
    std::string pool;
};
ExitCode show_pools(const Settings& settings, const Filter& filter);
ExitCode show_backends(const Settings& settings, const Filter& filter);

struct EventsQuery {
    std::string since;  ///< a sequence ("1234"), a duration ("15m"), or empty: the newest
    std::uint64_t limit = 50;
    bool follow = false;
};
/// JSON output is one event a line.
ExitCode show_events(const Settings& settings, const EventsQuery& query);

struct DrainCommand {
    std::string target;
    std::optional<std::chrono::milliseconds> duration;
    std::string reason;
    bool wait = false;
    std::chrono::milliseconds timeout{std::chrono::minutes(5)};
    bool force = false;
    bool last_resort = false;
};
ExitCode drain(const Settings& settings, const DrainCommand& command);
ExitCode undrain(const Settings& settings, const std::string& target);
/// Waits until nothing new arrives at the drained target and, if flows are counted, none is left.
ExitCode wait_for_drain(const Settings& settings, const std::string& target,
                        std::chrono::milliseconds timeout);

struct TraceCommand {
    std::string source;
    std::string vip;
    std::string cid;   ///< hex; of a QUIC packet
    std::string file;  ///< instead of both: the body of POST /v1/trace, or its list; "-" is standard input
};
ExitCode trace(const Settings& settings, const TraceCommand& command);
ExitCode plan_fail(const Settings& settings, const std::string& domain);

/// These read files here and need no server.
ExitCode config_check(const Settings& settings, const std::string& path);
struct ShowConfig {
    std::string path;  ///< empty: what runs, from the server
    bool dataplane_args = false;
};
ExitCode config_show(const Settings& settings, const ShowConfig& command);
ExitCode reload(const Settings& settings);

ExitCode completion(const Settings& settings, const std::string& shell);
/// Names for the completion script, one a line; nothing when the server does not answer at once.
ExitCode names(const Settings& settings, const std::string& kind);

}  // namespace detour::lbctl
