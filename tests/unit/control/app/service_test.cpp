// The service with real sockets on loopback, a fast path in memory and a folder of its own.
#include "control/app/service.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "config/load.h"
#include "control/api/json.h"
#include "control/app/durable_file.h"
#include "control/app/handlers.h"
#include "tests/unit/control/app/fake_fast_path.h"

using namespace detour;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

/// A file may not name loopback addresses, which are all that the test has: it says 10.0.0.x and means
/// 127.0.0.x.
config::Loaded load_on_loopback(const std::string& path) {
    auto config = config::load(path);
    if (!config) return config;
    for (auto& pool : config->pools) {
        for (auto& backend : pool.backends) {
            backend.address = api::IpAddress::v4({127, 0, 0, backend.address.bytes()[3]});
        }
    }
    return config;
}

/// Takes connections on 127.0.0.x, as a site's backend of both pools.
struct Site {
    Site(asio::io_context& io, const char* address, std::uint16_t port)
        : acceptor(io, tcp::endpoint(asio::ip::make_address(address), port)) {
        accept();
    }
    void accept() {
        acceptor.async_accept([this](const boost::system::error_code& ec, const tcp::socket&) {
            if (!ec) accept();
        });
    }
    void die() { acceptor.close(); }
    [[nodiscard]] std::uint16_t port() const { return acceptor.local_endpoint().port(); }
    tcp::acceptor acceptor;
};

struct Bench {
    static inline int count = 0;
    std::string folder = fmt::format("/tmp/detour-service-test.{}.{}", getpid(), ++count);
    asio::io_context io;
    Site pangyo{io, "127.0.0.11", 0};
    Site anyang{io, "127.0.0.12", pangyo.port()};
    testing::FakeFastPath fast_path{
        io, (std::filesystem::create_directories(folder), folder + "/dataplane.sock")};
    std::string config_path = folder + "/detour.toml";
    control::EventLog log = std::move(control::EventLog::open({}).value());
    api::Result<void> disk;  ///< what writing to disk says
    std::unique_ptr<app::Service> service;

    Bench() { write_config(config_text()); }
    ~Bench() {
        service.reset();
        std::filesystem::remove_all(folder);
    }

    [[nodiscard]] std::string pool(const char* name, int number) const {
        return fmt::format(
            "[[pool]]\nname = \"{}\"\nvip = [\"203.0.113.{}:443/tcp\"]\n"
            "health = {{ type = \"tcp\", port = {}, interval = \"30ms\", timeout = \"1s\", "
            "fast_interval = \"10ms\", fall = 2, rise = 1 }}\n"
            "[[pool.backend]]\nsite = \"pangyo\"\naddress = \"10.0.0.11\"\n"
            "[[pool.backend]]\nsite = \"anyang\"\naddress = \"10.0.0.12\"\n",
            name, number, pangyo.port());
    }
    [[nodiscard]] std::string config_text() const {
        return fmt::format(
            "[pop]\nname = \"icn1\"\nfleet_seed = \"0123456789abcdef0123456789abcdef\"\n"
            "[dataplane]\nports = [\"lo\"]\nsource = [\"192.0.2.1\"]\nsocket = \"{0}/dataplane.sock\"\n"
            "[control]\nsocket = \"{0}/control.sock\"\nstate_dir = \"{0}/state\"\n"
            "[failover]\nramp = \"0s\"\nstrand_after = \"50ms\"\n"
            "[[site]]\nname = \"pangyo\"\ndomain = [\"kr\", \"pangyo\"]\n"
            "[[site]]\nname = \"anyang\"\ndomain = [\"kr\", \"anyang\"]\n{1}{2}",
            folder, pool("talk", 10), pool("mail", 20));
    }
    void write_config(const std::string& text) const { std::ofstream(config_path) << text; }

    void start() {
        auto config = load_on_loopback(config_path);
        if (!config) FAIL(config.error().front().to_string());
        app::ServiceOptions options;
        options.config_path = config_path;
        options.version = "test";
        options.routes = app::ServiceOptions::Routes::kNone;
        options.load = load_on_loopback;
        options.config_text = app::read_config_text(config_path);
        options.write = [this](const std::string& path, const std::string& content) {
            if (!disk && path.ends_with("intents")) return disk;
            return app::write_durably(path, content);
        };
        service = std::make_unique<app::Service>(io, std::move(*config), std::move(options), log);
        REQUIRE(service->start());
    }
    void give_next_hops() {
        publish::NextHops hops;
        for (const char* address : {"127.0.0.11", "127.0.0.12"}) {
            publish::NextHop hop;
            hop.resolved = true;
            hops[api::IpAddress::parse(address).value()] = hop;
        }
        service->on_next_hops(hops);
    }
    void wait_for(const std::function<bool()>& done) {
        const auto limit = std::chrono::steady_clock::now() + 10s;
        while (!done() && std::chrono::steady_clock::now() < limit) io.run_one_for(100ms);
        REQUIRE(done());
    }
    /// Started, connected, a plan in force and both sites known to be healthy.
    void settle() {
        start();
        give_next_hops();
        wait_for([&] { return fast_path.plan.generation() > 0 && all_healthy(); });
    }
    [[nodiscard]] bool all_healthy() const {
        for (const auto& site : service->snapshot().sites) {
            if (site.verdict != failover::Verdict::kHealthy) return false;
        }
        return true;
    }
    template <class T>
    T run(asio::awaitable<T> task) {
        std::optional<T> result;
        asio::co_spawn(io, std::move(task),
                       [&](const std::exception_ptr&, T value) { result = std::move(value); });
        wait_for([&] { return result.has_value(); });
        return std::move(*result);
    }
    [[nodiscard]] std::string kinds() const {
        std::string all;
        for (const auto& event : log.page(0, 1000).events) all += event.kind + " ";
        return all;
    }
    [[nodiscard]] std::string stored(const char* name) const {
        return app::read_file(folder + "/state/" + name).value_or("");
    }
};

failover::DrainRequest drain_of(const std::string& target) {
    failover::DrainRequest request;
    request.target = target;
    request.reason = "test";
    request.by = "tester";
    return request;
}

}  // namespace

TEST_CASE("it connects, publishes once next hops are known, and switches nothing") {
    Bench bench;
    bench.start();
    bench.wait_for([&] { return bench.service->figures().up(); });
    CHECK(bench.fast_path.plan.generation() == 0);
    bench.give_next_hops();
    bench.wait_for([&] { return bench.fast_path.plan.generation() > 0; });
    CHECK(bench.fast_path.plan.pools_size() == 2);
    CHECK(bench.fast_path.admit("pangyo") == 65535);
    bench.wait_for([&] { return bench.all_healthy(); });
}

TEST_CASE("a site that dies is switched off and the timeline tells it in order") {
    Bench bench;
    bench.settle();
    bench.pangyo.die();
    bench.wait_for([&] { return bench.fast_path.admit("pangyo") == 0; });
    CHECK(bench.fast_path.admit("anyang") == 65535);
    bench.wait_for([&] { return bench.kinds().find("switch_done") != std::string::npos; });
    const std::string kinds = bench.kinds();
    CHECK(kinds.find("verdict") < kinds.find("switch_done"));
    bench.wait_for([&] { return bench.service->counters().last_switch == 123us; });
}

TEST_CASE("a control process that starts anew adopts and changes nothing") {
    Bench bench;
    bench.settle();
    bench.pangyo.die();
    bench.wait_for([&] { return bench.fast_path.admit("pangyo") == 0 && bench.service->figures().up(); });
    bench.wait_for([&] {
        const auto site = bench.fast_path.sites.begin();
        return site != bench.fast_path.sites.end() &&
               !site->second.keep();  // stranded: nothing more will change
    });
    bench.service.reset();
    bench.fast_path.asked.clear();
    const auto generation = bench.fast_path.plan.generation();
    bench.start();
    bench.give_next_hops();
    bench.wait_for([&] { return bench.service->snapshot().connected; });
    bench.io.run_for(500ms);
    CHECK(bench.fast_path.asked == std::vector<std::string>{"hello", "state"});
    CHECK(bench.fast_path.plan.generation() == generation);
    CHECK(bench.fast_path.admit("pangyo") == 0);
}

TEST_CASE("a fast path that comes back empty is given everything again") {
    Bench bench;
    bench.settle();
    bench.fast_path.stop();
    bench.wait_for([&] { return !bench.service->figures().up(); });
    bench.fast_path.plan.Clear();
    bench.fast_path.instance = 2;
    bench.fast_path.listen();
    bench.wait_for([&] { return bench.fast_path.plan.generation() > 0; });
}

TEST_CASE("a drain is on disk before it is acted on and before it is answered") {
    Bench bench;
    bench.settle();
    const auto result = bench.run(bench.service->intend(drain_of("pangyo")));
    REQUIRE(result);
    CHECK(bench.stored("intents").find("pangyo") != std::string::npos);
    CHECK(result->switch_us == 123U);
    CHECK_FALSE(result->not_switched);
    CHECK(bench.fast_path.admit("pangyo") == 0);
    REQUIRE(bench.run(bench.service->intend(failover::UndrainRequest{"pangyo", "tester"})));
    CHECK(bench.fast_path.admit("pangyo") == 65535);
    CHECK(app::decode_intents(bench.stored("intents"))->drains.empty());
}

TEST_CASE("a drain that the disk refuses is refused and nothing happens") {
    Bench bench;
    bench.settle();
    bench.disk = api::fail(api::ErrorCode::kSystem, "writing", "no space left");
    const auto result = bench.run(bench.service->intend(drain_of("pangyo")));
    REQUIRE_FALSE(result);
    CHECK(result.error().what == "no space left");
    CHECK(bench.fast_path.admit("pangyo") == 65535);
    CHECK(bench.service->snapshot().drains.empty());
    bench.disk = {};
    CHECK(bench.run(bench.service->intend(drain_of("pangyo"))));  // the way is free again
}

TEST_CASE("a drain without a fast path is kept and said not to be in force") {
    Bench bench;
    bench.settle();
    bench.fast_path.stop();
    bench.wait_for([&] { return !bench.service->figures().up(); });
    const auto result = bench.run(bench.service->intend(drain_of("pangyo")));
    REQUIRE(result);
    CHECK(result->not_switched);
    bench.fast_path.listen();
    bench.wait_for([&] { return bench.fast_path.admit("pangyo") == 0; });
}

TEST_CASE("drains that are asked for at once wait for each other") {
    Bench bench;
    bench.settle();
    int done = 0;
    for (const char* target : {"pangyo", "anyang", "127.0.0.12", "nowhere"}) {
        auto request = drain_of(target);
        request.force = true;  // the last one leaves nothing
        asio::co_spawn(bench.io, bench.service->intend(std::move(request)),
                       [&](const std::exception_ptr&, const auto& result) { done += result ? 1 : 100; });
    }
    bench.wait_for([&] { return done == 103; });
    CHECK(bench.service->snapshot().drains.size() == 3);
}

TEST_CASE("a refused switch is repaired by looking again, not by insisting in a loop") {
    Bench bench;
    bench.settle();
    bench.fast_path.refuse_switches = true;
    bench.fast_path.asked.clear();
    const auto result = bench.run(bench.service->intend(drain_of("pangyo")));
    REQUIRE(result);
    CHECK(result->not_switched);
    bench.io.run_for(350ms);
    CHECK(bench.kinds().find("switch_done") == std::string::npos);
    CHECK(bench.fast_path.asked.size() < 12);
    bench.fast_path.refuse_switches = false;
    bench.wait_for([&] { return bench.fast_path.admit("pangyo") == 0; });
}

TEST_CASE("a bad configuration is refused whole and what runs goes on") {
    Bench bench;
    bench.settle();
    const auto before = bench.fast_path.plan.generation();
    bench.write_config(bench.config_text() + "weight = 70000\n");
    const auto refused = bench.run(bench.service->reload());
    REQUIRE_FALSE(refused);
    REQUIRE(refused.error().details.size() == 1);
    CHECK(refused.error().details[0].find("detour.toml:") != std::string::npos);
    CHECK(bench.service->counters().reloads_refused == 1);
    CHECK(bench.fast_path.plan.generation() == before);

    bench.write_config(bench.config_text() + "weight = 7\n");
    const auto taken = bench.run(bench.service->reload());
    REQUIRE(taken);
    CHECK(taken->changed);
    bench.wait_for([&] { return bench.fast_path.plan.generation() > before; });
    const auto same = bench.run(bench.service->reload());
    REQUIRE(same);
    CHECK_FALSE(same->changed);
}

TEST_CASE(
    "a configuration on trial is taken back in time, also by a restart, or stays when it is confirmed") {
    enum class End { kTime, kRestart, kConfirmed };
    for (const End end : {End::kTime, End::kRestart, End::kConfirmed}) {
        CAPTURE(static_cast<int>(end));
        Bench bench;
        bench.settle();
        const auto weight = [&] { return bench.service->config().pools[1].backends[1].weight; };
        bench.write_config(bench.config_text() + "weight = 7\n");
        const auto within = end == End::kTime ? 1s : 3600s;
        const auto applied = bench.run(bench.service->reload(within));
        REQUIRE(applied);
        CHECK(applied->confirm_until.has_value());
        CHECK(weight() == 7);
        CHECK(bench.service->counters().trial.has_value());
        if (end == End::kTime) {
            bench.wait_for([&] { return weight() == 100; });
            CHECK(bench.service->counters().trial->taken_back);
            CHECK_FALSE(bench.run(bench.service->confirm_config()));
            // The disk still has it: asked for again, it is in force.
            REQUIRE(bench.run(bench.service->reload()));
            CHECK(weight() == 7);
            CHECK_FALSE(bench.service->counters().trial.has_value());
            continue;
        }
        CHECK_FALSE(bench.run(bench.service->reload()));  // one at a time
        if (end == End::kRestart) {
            bench.service.reset();
            const auto later = app::load_for_start(bench.config_path, app::system_now().wall + 2h);
            REQUIRE(later.loaded);
            CHECK(later.loaded->pools[1].backends[1].weight == 100);
            continue;
        }
        REQUIRE(bench.run(bench.service->confirm_config()));
        CHECK_FALSE(bench.run(bench.service->confirm_config()));
        CHECK(weight() == 7);
        REQUIRE(bench.run(bench.service->reload()));
    }
}

TEST_CASE("what another file would move is told, and nothing happens") {
    Bench bench;
    bench.settle();
    const auto plans = bench.service->counters().plans;
    std::ofstream(bench.folder + "/other.toml") << bench.config_text() + "weight = 0\n";
    const auto diff = bench.run(bench.service->diff_config(bench.folder + "/other.toml"));
    REQUIRE(diff);
    CHECK(diff->changed);
    REQUIRE(diff->pools.size() == 1);
    CHECK(diff->pools[0].pool == "mail");
    CHECK(bench.service->counters().plans == plans);
    CHECK_FALSE(bench.run(bench.service->diff_config(""))->changed);
    const auto wrong = bench.run(bench.service->diff_config("/nonexistent"));
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().details.size() == 1);
}

TEST_CASE("a dead site is an incident with the time of its switch, on disk") {
    Bench bench;
    bench.settle();
    bench.pangyo.die();
    bench.wait_for([&] {
        const auto* incident = bench.service->incidents().find(1);
        return incident != nullptr && incident->switched_ms.has_value();
    });
    CHECK(bench.service->incidents().find(1)->site == "pangyo");
    CHECK(*bench.service->incidents().find(1)->switched_ms > 0);
    bench.service.reset();
    const auto stored = control::from_json<control::Incident>(bench.stored("incidents/incident-000001.json"));
    REQUIRE(stored);
    CHECK(stored->switched_ms.has_value());
    bench.start();
    CHECK(bench.service->incidents().open_sites() == std::vector<std::string>{"pangyo"});
}

TEST_CASE("damaged files are set aside with an alarm") {
    Bench bench;
    std::filesystem::create_directories(bench.folder + "/state");
    for (const char* name : {"state", "intents"})
        std::ofstream(bench.folder + "/state/" + name) << "garbage\n";
    bench.settle();
    CHECK(std::filesystem::exists(bench.folder + "/state/intents.damaged"));
    CHECK(bench.kinds().find("alarm alarm") != std::string::npos);
}

TEST_CASE("stopping changes nothing in the fast path") {
    Bench bench;
    bench.settle();
    bench.fast_path.asked.clear();
    bench.service->stop();
    bench.io.run_for(100ms);
    CHECK(bench.fast_path.asked.empty());
}

TEST_CASE("the API shows what runs, answers where flows go, and carries drains") {
    Bench bench;
    bench.settle();
    app::ApiHandlers handlers(*bench.service);
    bench.wait_for([&] { return handlers.status().dataplane.acknowledged > 0; });
    auto status = handlers.status();
    CHECK(status.state == "ok");
    CHECK(status.alarms.empty());
    CHECK(status.sites.size() == 2);
    CHECK(status.dataplane.connected);
    CHECK(status.dataplane.acknowledged == status.dataplane.generation);
    CHECK(handlers.pools().at(0).sites.at(0).share == 0.5);
    CHECK(handlers.backends().at(0).state == "up");
    CHECK(handlers.config().backends == 4);
    CHECK(handlers.metrics().plans == 1);
    CHECK(handlers.metrics().probes.at(0).outcome == "ok");

    control::FlowQuery flow{api::IpAddress::parse("198.51.100.7").value(), api::Port(40000),
                            api::Vip::parse("203.0.113.10:443/tcp").value()};
    auto placed = bench.run(handlers.trace(std::span(&flow, 1)));
    REQUIRE(placed);
    for (std::uint16_t port = 40001; placed->at(0).site != "pangyo"; ++port) {
        flow.source_port = api::Port(port);
        placed = bench.run(handlers.trace(std::span(&flow, 1)));
    }
    CHECK(placed->at(0).backend == (placed->at(0).site == "pangyo" ? "127.0.0.11" : "127.0.0.12"));

    const auto forecast = bench.run(handlers.plan_fail("kr/pangyo"));
    REQUIRE(forecast);
    CHECK(forecast->failing == std::vector<std::string>{"pangyo"});
    CHECK_FALSE(forecast->pools.at(0).lost);
    CHECK(forecast->pools.at(0).sites.at(0).after == 1.0);
    CHECK(forecast->pools.at(0).sites.at(1).after == 0.0);
    CHECK_FALSE(bench.run(handlers.plan_fail("mars")));

    control::DrainRequest request;
    request.target = "pangyo";
    request.for_s = 60;
    request.by = "tester";
    const auto drained = bench.run(handlers.drain(request));
    REQUIRE(drained);
    CHECK(drained->drain.target == "pangyo");
    CHECK(drained->drain.acknowledged);
    CHECK(drained->not_done.empty());
    REQUIRE(drained->moves.size() == 2);
    CHECK(drained->moves[0].from == "pangyo");
    CHECK(drained->moves[0].to == "anyang");
    CHECK(drained->moves[0].share == doctest::Approx(0.5));
    CHECK(drained->drain.expires.value() - drained->drain.since == 60s);
    CHECK(handlers.status().drains.size() == 1);
    CHECK(handlers.sites().at(0).verdict == "drained");
    placed = bench.run(handlers.trace(std::span(&flow, 1)));
    CHECK(placed->at(0).site == "anyang");
    CHECK(bench.run(handlers.undrain({"pangyo", "tester"})));
    // A switch that is open again is not kept from the trace before.
    CHECK(bench.run(handlers.trace(std::span(&flow, 1)))->at(0).site == "pangyo");
    CHECK_FALSE(bench.run(handlers.undrain({"pangyo", "tester"})));
}
