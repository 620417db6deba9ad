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

/// 0: the list; else the timeline of one.
ExitCode show_incidents(const Settings& settings, const std::uint64_t& number);

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
    std::optional<std::uint32_t> percent;
    std::optional<std::chrono::milliseconds> deadline;
    bool now = false;  ///< a deadline of 0
    bool here = false;
};
ExitCode drain(const Settings& settings, const DrainCommand& command);
ExitCode undrain(const Settings& settings, const std::string& target);
/// Waits until nothing new arrives at the drained target and, if flows are counted, none is left.
ExitCode wait_for_drain(const Settings& settings, const std::string& target,
                        std::chrono::milliseconds timeout);

struct HoldCommand {
    std::optional<std::chrono::milliseconds> duration;
    std::string reason;
    bool here = false;
};
ExitCode hold(const Settings& settings, const HoldCommand& command);
ExitCode release(const Settings& settings);

struct WeightCommand {
    std::string target;
    std::optional<std::uint32_t> weight;
    bool clear = false;
    std::optional<std::chrono::milliseconds> duration;
    std::string reason;
    bool force = false;
    bool here = false;
};
ExitCode weight(const Settings& settings, const WeightCommand& command);

/// Who sits at the keyboard, for the timeline: sudo hides it from the kernel's answer.
[[nodiscard]] std::string person();
/// Rounded up; an error that names `option` below `least`.
[[nodiscard]] control::Outcome<std::optional<std::uint64_t>> whole_seconds(
    const std::optional<std::chrono::milliseconds>& duration, const std::string& option, std::uint64_t least);

struct CaptureCommand {
    std::string pool;  ///< empty: all; the same for the next two
    std::string site;
    std::string reason;
    std::optional<std::uint32_t> sample;  ///< one of so many
    std::optional<std::uint32_t> snap;    ///< bytes of each frame
    std::uint64_t count = 0;              ///< then it ends; 0: never for that
    std::optional<std::chrono::milliseconds> duration;
    std::string file;           ///< pcapng; "-" is standard output; empty: a line for each packet
    std::string side = "both";  ///< before, after: what the file has of each packet
};
ExitCode capture(const Settings& settings, const CaptureCommand& command);

struct TraceCommand {
    std::string source;
    std::string vip;
    std::string cid;     ///< hex; of a QUIC packet
    std::string flags;   ///< of TCP: syn, ack, data, fin, rst
    std::string packet;  ///< hex, from the IP header on; instead of a description
    std::optional<std::uint32_t> size;
    bool predict = false;  ///< a new flow, from the plan alone
    std::string file;  ///< instead of both: the body of POST /v1/trace, or its list; "-" is standard input
};
ExitCode trace(const Settings& settings, const TraceCommand& command);
/// How redundant each pool is, for each failure domain.
ExitCode audit(const Settings& settings);

struct DrillCommand {
    std::string target;
    std::uint32_t percent = 1;
    std::chrono::milliseconds duration{std::chrono::minutes(1)};
    std::string reason;
    bool here = false;
};
ExitCode drill(const Settings& settings, const DrillCommand& command);
ExitCode plan_fail(const Settings& settings, const std::string& domain);

/// These read files here and need no server.
ExitCode config_check(const Settings& settings, const std::string& path);
struct ShowConfig {
    std::string path;  ///< empty: what runs, from the server
    bool dataplane_args = false;
};
ExitCode config_show(const Settings& settings, const ShowConfig& command);
struct ApplyConfig {
    std::optional<std::chrono::milliseconds> confirm_within;
};
ExitCode reload(const Settings& settings, const ApplyConfig& command);
ExitCode config_confirm(const Settings& settings);
/// Empty: the one that a reload would read.
ExitCode config_diff(const Settings& settings, const std::string& path);

ExitCode completion(const Settings& settings, const std::string& shell);
/// Names for the completion script, one a line; nothing when the server does not answer at once.
ExitCode names(const Settings& settings, const std::string& kind);

}  // namespace detour::lbctl
