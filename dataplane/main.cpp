// detour-dataplane: forwards client traffic to sites. Arguments, signals, wiring; the parts are in
// dataplane/io.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <csignal>
#include <cstdio>

#include "dataplane/io/arguments.h"
#include "dataplane/io/service.h"
#include "dataplane/io/service_notice.h"

namespace {

sigset_t stop_signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
}

void set_up_log(const std::string& level) {
    spdlog::set_default_logger(spdlog::stderr_logger_mt("dataplane"));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    spdlog::set_level(spdlog::level::from_str(level));
}

}  // namespace

int main(int argc, char** argv) {
    detour::io::CommandLine command = detour::io::parse_command_line(argc, argv);
    if (!command.run) {
        std::fputs(command.text.c_str(), command.exit_code == 0 ? stdout : stderr);
        return command.exit_code;
    }
    set_up_log(command.run->log_level);
    // Before any thread exists, so that all inherit it and this one alone takes the signals.
    const sigset_t signals = stop_signals();
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);

    auto service = detour::io::Service::start(*std::move(command.run));
    if (!service) {
        spdlog::error("{}", service.error().to_string());
        return 1;
    }
    std::printf("ready: %s\n", (*service)->describe().c_str());
    std::fflush(stdout);
    detour::io::notify_service_manager("READY=1");

    int received = 0;
    sigwait(&signals, &received);
    spdlog::info("stopping");
    detour::io::notify_service_manager("STOPPING=1");
    service->reset();
    return 0;
}
