// Drives control/health/bfd's runner for test_bfd.py: sessions by arguments, events on stdout, commands on
// stdin.
//
//   bfd_speaker NAME=HOP,LOCAL,REMOTE[,INTERFACE] ...      HOP is single or multi
//   stdout: "event NAME STATE DIAGNOSTIC REMOTE_STATE MONOTONIC_NS", and an answer to each command
//   stdin:  "disable NAME", "enable NAME", "counters", "status NAME"; its end ends the program cleanly
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "control/health/bfd/runner.h"

using namespace detour;

namespace {

using Names = std::map<std::string, bfd::SessionId>;

[[noreturn]] void die(const std::string& text) {
    std::cerr << "bfd_speaker: " << text << std::endl;
    std::exit(2);
}

api::IpAddress address(const std::string& text) {
    const auto parsed = api::IpAddress::parse(text);
    if (!parsed) die(parsed.error().to_string());
    return *parsed;
}

void add(bfd::Runner& runner, const std::string& argument, Names& names) {
    const std::size_t equals = argument.find('=');
    if (equals == std::string::npos) die(argument);
    std::vector<std::string> parts;
    std::stringstream rest(argument.substr(equals + 1));
    for (std::string part; std::getline(rest, part, ',');) parts.push_back(part);
    if (parts.size() < 3) die(argument);
    bfd::SessionConfig config;
    config.hop = parts[0] == "multi" ? bfd::Hop::kMulti : bfd::Hop::kSingle;
    config.local = address(parts[1]);
    config.remote = address(parts[2]);
    if (parts.size() > 3) config.interface = parts[3];
    const auto id = runner.add(config);
    if (!id) die(id.error().to_string());
    names[argument.substr(0, equals)] = *id;
}

void print(const char* word, const std::string& name, const bfd::SessionEvent& event) {
    std::cout << word << ' ' << name << ' ' << to_string(event.state) << ' ' << to_string(event.diagnostic)
              << ' ' << to_string(event.remote_state) << ' ' << event.at.value.count();
}

void print_events(bfd::Runner& runner, const Names& names) {
    for (const bfd::SessionEvent& event : runner.take_events())
        for (const auto& [name, id] : names)
            if (id == event.session) {
                print("event", name, event);
                std::cout << std::endl;
            }
}

void print_counters(const bfd::Runner& runner) {
    const bfd::RunnerCounters counters = runner.counters();
    std::cout << "counters received=" << counters.packets.received << " sent=" << counters.sent;
    for (std::size_t i = 0; i < bfd::kDropCount; ++i)
        std::cout << ' ' << to_string(static_cast<bfd::Drop>(i)) << '=' << counters.packets.dropped[i];
    std::cout << std::endl;
}

void obey(bfd::Runner& runner, const std::string& line, const Names& names) {
    std::stringstream words(line);
    std::string verb;
    std::string name;
    words >> verb >> name;
    if (verb == "counters") return print_counters(runner);
    const auto found = names.find(name);
    if (found == names.end()) die(line);
    if (verb == "disable") return runner.disable(found->second);
    if (verb == "enable") return runner.enable(found->second);
    const auto status = runner.status(found->second);
    if (verb != "status" || !status) die(line);
    print("status", name, status->now);
    std::cout << ' ' << status->transmit_interval.count() << ' ' << status->detection_time.count()
              << std::endl;
}

/// False at the end of stdin.
bool read_commands(bfd::Runner& runner, const Names& names, std::string& pending) {
    char buffer[4096];
    const ssize_t size = read(STDIN_FILENO, buffer, sizeof buffer);
    if (size <= 0) return false;
    pending.append(buffer, static_cast<std::size_t>(size));
    for (std::size_t end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
        obey(runner, pending.substr(0, end), names);
        pending.erase(0, end + 1);
    }
    return true;
}

}  // namespace

int main(int argc, char** argv) {
    auto created = bfd::Runner::create();
    if (!created) die(created.error().to_string());
    bfd::Runner& runner = **created;
    Names names;
    for (int i = 1; i < argc; ++i) add(runner, argv[i], names);
    std::cout << "ready" << std::endl;
    std::string pending;
    for (;;) {
        pollfd waiting[] = {{STDIN_FILENO, POLLIN, 0}, {runner.event_fd(), POLLIN, 0}};
        if (poll(waiting, 2, -1) < 0) die("poll");
        if (waiting[1].revents != 0) print_events(runner, names);
        if (waiting[0].revents != 0 && !read_commands(runner, names, pending)) return 0;
    }
}
