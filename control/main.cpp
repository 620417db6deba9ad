// detour-control: decides where client traffic goes. Arguments, signals, wiring; the parts are in
// control/app.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>

#include "config/load.h"
#include "control/app/command_line.h"
#include "control/app/config_trial.h"
#include "control/app/config_watch.h"
#include "control/app/event_log.h"
#include "control/app/handlers.h"
#include "control/app/service.h"
#include "control/app/service_manager.h"
#include "control/server/server.h"

namespace {

namespace asio = boost::asio;
namespace app = detour::app;
namespace control = detour::control;

void set_up_log(const std::string& level) {
    spdlog::set_default_logger(spdlog::stderr_logger_st("control"));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    spdlog::set_level(spdlog::level::from_str(level));
}

int refuse(const std::vector<detour::config::Mistake>& mistakes) {
    for (const auto& mistake : mistakes) std::fprintf(stderr, "%s\n", mistake.to_string().c_str());
    return 2;
}

int fail(const detour::api::Error& error) {
    spdlog::critical("{}", error.to_string());
    return 1;
}

/// The service logs mistakes in the files itself; what else is in the way nobody else would hear of.
void ask_reload(const asio::any_io_executor& loop, app::Service& service) {
    asio::co_spawn(
        loop,
        [&service]() -> asio::awaitable<void> {
            const auto done = co_await service.reload();
            if (!done && done.error().code != detour::api::ErrorCode::kInvalidArgument)
                spdlog::error("{}", done.error().to_string());
        },
        asio::detached);
}

/// SIGHUP reads the configuration anew, for ever.
void watch_reload(asio::signal_set& signals, app::Service& service) {
    signals.async_wait([&](const boost::system::error_code& ec, int) {
        if (ec) return;
        ask_reload(signals.get_executor(), service);
        watch_reload(signals, service);
    });
}

/// The first SIGTERM or SIGINT ends the API, then the service: then nothing keeps the loop.
void watch_stop(asio::signal_set& stop, asio::signal_set& reload, app::ConfigWatch& watch,
                control::Server& server, app::Service& service) {
    stop.async_wait([&](const boost::system::error_code& ec, int) {
        if (ec) return;
        spdlog::info("stopping; the fast path goes on as it is");
        app::notify_service_manager("STOPPING=1");
        reload.cancel();
        watch.stop();
        asio::co_spawn(
            stop.get_executor(),
            [&server, &service]() -> asio::awaitable<void> {
                co_await server.stop();
                service.stop();
            },
            asio::detached);
    });
}

int run(app::StartConfig start, const app::Arguments& arguments) {
    detour::config::Config config = std::move(*start.loaded);
    const std::string socket = config.control.socket;
    auto log = control::EventLog::open({.folder = config.control.state_dir + "/events"});
    if (!log) return fail(log.error());
    asio::io_context io(1);
    app::ServiceOptions options;
    options.config_path = arguments.config;
    options.version = DETOUR_VERSION;
    options.config_text = std::move(start.text);
    options.trial = start.trial;
    if (!start.alarm.empty()) spdlog::error("{}", start.alarm);
    app::Service service(io, std::move(config), std::move(options), *log);
    app::ApiHandlers handlers(service);
    control::Server server(io.get_executor(), socket, handlers);
    // Before the service: a second control process must not probe or switch.
    if (auto started = server.start(); !started) return fail(started.error());
    if (auto started = service.start(); !started) return fail(started.error());
    service.on_events([&server] { server.notify_events(); });

    asio::signal_set reload(io, SIGHUP);
    asio::signal_set stop(io, SIGTERM, SIGINT);
    watch_reload(reload, service);
    app::ConfigWatch watch(io, arguments.config, [&] { ask_reload(io.get_executor(), service); });
    if (arguments.watch) {
        if (auto started = watch.start(); !started) return fail(started.error());
    }
    watch_stop(stop, reload, watch, server, service);
    std::printf("ready: API on %s\n", socket.c_str());
    std::fflush(stdout);
    app::notify_service_manager("READY=1");
    io.run();
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const app::CommandLine command = app::parse_command_line(argc, argv);
    if (!command.run) {
        std::fputs(command.text.c_str(), command.exit_code == 0 ? stdout : stderr);
        return command.exit_code;
    }
    set_up_log(command.arguments.log_level);
    if (command.arguments.check) {
        const auto config = detour::config::load(command.arguments.config);
        return config ? 0 : refuse(config.error());
    }
    app::StartConfig start = app::load_for_start(command.arguments.config, app::system_now().wall);
    if (!start.loaded) return refuse(start.loaded.error());
    app::raise_descriptor_limit();
    return run(std::move(start), command.arguments);
}
