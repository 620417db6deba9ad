// What probing costs: the control process's own service against many backends, all of them one server that
// has all addresses of 198.18.0.0/16.
//
//   bench_probes TYPE BACKENDS PORT SECONDS      TYPE is tcp, http or https; each backend is probed once a
//   second
//
// stdout: one JSON object. `process_cores` is this process's CPU time. `cores` is all the time in which the
// CPU that this process is bound to was not idle, which also has the kernel's work for received packets;
// bound to several CPUs, it is the process's time. The first six seconds, in which all backends come up, are
// not counted.
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>

#include "control/app/service.h"
#include "control/app/service_manager.h"

using namespace detour;
using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {

constexpr unsigned kPerSite = 1'000;

struct Order {
    config::ProbeType type = config::ProbeType::kTcp;
    unsigned backends = 0;
    api::Port port;
    std::chrono::seconds seconds{0};
};

[[noreturn]] void die(const std::string& text) {
    std::fprintf(stderr, "bench_probes: %s\n", text.c_str());
    std::exit(2);
}

Order order_from(int argc, char** argv) {
    if (argc != 5) die("TYPE BACKENDS PORT SECONDS");
    const std::map<std::string, config::ProbeType> types{{"tcp", config::ProbeType::kTcp},
                                                         {"http", config::ProbeType::kHttp},
                                                         {"https", config::ProbeType::kHttps}};
    const auto type = types.find(argv[1]);
    if (type == types.end()) die(std::string("no type ") + argv[1]);
    return {type->second, static_cast<unsigned>(std::atoi(argv[2])),
            api::Port(static_cast<std::uint16_t>(std::atoi(argv[3]))),
            std::chrono::seconds(std::atoi(argv[4]))};
}

/// Sites of a thousand backends each, with addresses of their own.
config::Config config_of(const Order& order, const std::string& folder) {
    config::Config config;
    config.pop.name = "bench";
    config.pop.fleet_seed = "a seed for the benchmark of probes";
    config.dataplane.ports = {"none"};
    config.dataplane.source_v4 = api::IpAddress::v4({192, 0, 2, 1});
    config.dataplane.socket = folder + "/no.sock";
    config.control.state_dir = folder;
    config::Pool pool;
    pool.name = "bench";
    pool.vips = {api::Vip::parse("203.0.113.1:80/tcp").value()};
    pool.max_backends = kPerSite;
    pool.health.type = order.type;
    pool.health.port = order.port;
    pool.health.status = {200};
    pool.health.interval = 1'000ms;
    pool.health.timeout = 900ms;
    for (unsigned i = 0; i < order.backends; ++i) {
        const std::string site = "site" + std::to_string(i / kPerSite);
        if (i % kPerSite == 0) {
            config::Site made;
            made.name = made.key = site;
            config.sites.push_back(made);
        }
        const auto low = static_cast<std::uint8_t>(i % 250 + 1);
        pool.backends.push_back(
            {site, api::IpAddress::v4({198, 18, static_cast<std::uint8_t>(i / 250), low}), 100, {}});
    }
    config.pools.push_back(std::move(pool));
    return config;
}

struct Figures {
    std::map<std::string, std::uint64_t> by_cause;
    double cpu = 0;              // seconds of this process
    std::optional<double> idle;  // seconds of the CPU that it is bound to, if that is one
    std::chrono::steady_clock::time_point at;
};

/// Seconds since boot in which `cpu` was idle or another guest had it, from /proc/stat. The kernel stamps the
/// first when idling begins and ends; the others of that line are samples, which miss work that starts with a
/// timer.
double idle_seconds(int cpu) {
    std::ifstream stat("/proc/stat");
    const std::string name = "cpu" + std::to_string(cpu);
    for (std::string line; std::getline(stat, line);) {
        std::istringstream words(line);
        std::string word;
        if (!(words >> word) || word != name) continue;
        // user, nice, system, idle, iowait, irq, softirq, steal: proc_stat(5)
        std::array<double, 8> ticks{};
        for (double& count : ticks) words >> count;
        return (ticks[3] + ticks[4] + ticks[7]) / static_cast<double>(sysconf(_SC_CLK_TCK));
    }
    die("no " + name + " in /proc/stat");
}

Figures figures_of(const app::Service& service) {
    Figures figures;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    figures.cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    cpu_set_t bound;
    const bool to_one = sched_getaffinity(0, sizeof bound, &bound) == 0 && CPU_COUNT(&bound) == 1;
    if (to_one) figures.idle = idle_seconds(sched_getcpu());
    figures.at = std::chrono::steady_clock::now();
    for (const auto& [key, count] : service.counters().probes) figures.by_cause[key.second] += count;
    return figures;
}

void print(const Order& order, const char* type, const Figures& a, const Figures& b, double lag_ms) {
    const double seconds = std::chrono::duration<double>(b.at - a.at).count();
    std::uint64_t all = 0;
    std::uint64_t good = 0;
    for (const auto& [cause, count] : b.by_cause) {
        const auto before = a.by_cause.find(cause);
        const std::uint64_t more = count - (before == a.by_cause.end() ? 0 : before->second);
        all += more;
        if (cause == "ok") good += more;
    }
    // Where idle time is sampled, the process's own time is the better figure when it is more.
    const double whole = a.idle && b.idle ? seconds - (*b.idle - *a.idle) : 0;
    const double busy = std::max(whole, b.cpu - a.cpu);
    std::printf(
        "{\"type\": \"%s\", \"backends\": %u, \"seconds\": %.2f, \"probes\": %llu, \"ok\": %llu, "
        "\"probes_per_second\": %.0f, \"cores\": %.3f, \"process_cores\": %.3f, \"cpu_us_per_probe\": %.1f, "
        "\"worst_lag_ms\": %.1f}\n",
        type, order.backends, seconds, static_cast<unsigned long long>(all),
        static_cast<unsigned long long>(good), static_cast<double>(all) / seconds, busy / seconds,
        (b.cpu - a.cpu) / seconds, all == 0 ? 0 : 1e6 * busy / static_cast<double>(all), lag_ms);
}

}  // namespace

int main(int argc, char** argv) {
    const Order order = order_from(argc, argv);
    if (order.backends == 0 || order.backends > 60'000 || order.seconds < 1s)
        die("1 to 60000 backends, 1 second or more");
    spdlog::set_level(spdlog::level::off);
    app::raise_descriptor_limit();
    const auto folder =
        std::filesystem::temp_directory_path() / ("detour-bench-probes-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder);
    auto log = control::EventLog::open({.folder = (folder / "events").string()});
    if (!log) die(log.error().to_string());
    asio::io_context io(1);
    app::ServiceOptions options;
    options.routes = app::ServiceOptions::Routes::kNone;
    app::Service service(io, config_of(order, folder.string()), std::move(options), *log);
    if (auto started = service.start(); !started) die(started.error().to_string());
    double lag_ms = 0;
    const auto run = [&](std::chrono::seconds duration) {
        const auto end = std::chrono::steady_clock::now() + duration;
        while (std::chrono::steady_clock::now() < end) {
            io.run_for(10ms);
            lag_ms = std::max(lag_ms, 1e-6 * static_cast<double>(service.counters().loop_lag.count()));
        }
    };
    run(6s);
    lag_ms = 0;
    const Figures before = figures_of(service);
    run(order.seconds);
    print(order, argv[1], before, figures_of(service), lag_ms);
    service.stop();
    std::filesystem::remove_all(folder);
    return 0;
}
