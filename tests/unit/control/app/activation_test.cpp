// Warm and cold sites: when their hooks run, and what running one means: real processes, a real HTTP
// exchange.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <boost/asio.hpp>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "control/app/activations.h"
#include "tests/unit/control/app/world.h"

using namespace detour;
using namespace detour::test;
namespace asio = boost::asio;
using app::Activations;
using app::HookOrder;
using app::HookResult;

namespace {

/// Runs what run_hook() makes of `activation` to its end.
HookResult run(const config::Activation& activation) {
    asio::io_context io;
    std::optional<HookResult> result;
    const auto hook = app::run_hook(io, {activation, "chuncheon", "icn1"}, [&](const HookResult& seen) {
        CHECK_FALSE(result);
        result = seen;
    });
    CHECK_FALSE(result);  // never from inside
    const auto limit = std::chrono::steady_clock::now() + 30s;
    while (!result && std::chrono::steady_clock::now() < limit) io.run_one_for(100ms);
    REQUIRE(result);
    return *result;
}

config::Activation shell(const std::string& script, std::chrono::milliseconds deadline = 20s) {
    config::Activation activation;
    activation.command = {"/bin/sh", "-c", script};
    activation.deadline = deadline;
    return activation;
}

/// Answers one connection with `text`, or not at all.
struct HttpServer {
    explicit HttpServer(std::string text) : acceptor(io, {asio::ip::address_v4::loopback(), 0}) {
        thread = std::thread([this, text = std::move(text)] {
            asio::ip::tcp::socket socket = acceptor.accept();
            std::array<char, 4096> buffer;
            boost::system::error_code ec;
            request.append(buffer.data(), socket.read_some(asio::buffer(buffer), ec));
            if (!text.empty()) asio::write(socket, asio::buffer(text), ec);
            if (text.empty())
                (void)socket.read_some(asio::buffer(buffer), ec);  // until the other side gives up
        });
    }
    ~HttpServer() { thread.join(); }
    [[nodiscard]] std::string url() const {
        return "http://127.0.0.1:" + std::to_string(acceptor.local_endpoint().port()) + "/warm?now";
    }
    asio::io_context io;
    asio::ip::tcp::acceptor acceptor;
    std::string request;
    std::thread thread;
};

/// Hooks that end when the test says so.
struct FakeShell {
    std::vector<std::string> told;
    std::vector<std::string> ran;
    std::vector<app::HookDone> done;
    std::string file;

    struct Nothing : app::Hook {
        void stop() override {}
    };
    Activations::Shell shell() {
        return {
            [this](app::EventKind kind, const std::string& site, const std::string& text) {
                told.push_back(std::string(app::to_string(kind)) + " " + site + " " + text);
            },
            [this](std::string content, std::function<void()> written) {
                file = std::move(content);
                if (written) written();
            },
            [this](const HookOrder& order, app::HookDone finished) {
                CHECK(file.find(order.site + " running\n") != std::string::npos);  // on disk before it runs
                ran.push_back(order.site);
                done.push_back(std::move(finished));
                return std::make_shared<Nothing>();
            }};
    }
};

config::Config with_cold_site() {
    config::Config config = sample_config();
    config.sites.back().tier = config::SiteTier::kCold;
    config.sites.back().activation.command = {"/bin/true"};
    return config;
}

health::Now at(std::chrono::seconds seconds) {
    return {{seconds}, {seconds}};
}

}  // namespace

TEST_CASE("a command's end is told with its status and what it said") {
    CHECK(run(shell("echo one; echo two >&2; exit 0")).good);
    CHECK(run(shell("echo one; echo two >&2")).output == "one two");
    const HookResult failed = run(shell("echo no capacity; exit 3"));
    CHECK_FALSE(failed.good);
    CHECK(failed.how == "exit status 3");
    CHECK(failed.output == "no capacity");
    CHECK(run(shell("kill -TERM $$")).how == "ended by signal Terminated");
    config::Activation missing;
    missing.command = {"/no/such/program"};
    CHECK(run(missing).how == "/no/such/program can't be started: No such file or directory");
}

TEST_CASE("a command runs without a shell, with the site's name, no input and none of our descriptors") {
    config::Activation echo;
    echo.command = {"/bin/echo", "$HOME; `id`", "*"};
    CHECK(run(echo).output == "$HOME; `id` *");
    CHECK(run(shell("echo $DETOUR_SITE $DETOUR_POP; pwd; wc -c")).output == "chuncheon icn1 / 0");
    const int leaked = ::dup(STDERR_FILENO);  // as a socket of a library that does not mind exec
    CHECK(run(shell("ls /proc/self/fd | wc -l")).output == "4");  // 0, 1, 2 and the folder itself
    ::close(leaked);
}

TEST_CASE("what a command says is bounded, and it is not held up by it") {
    const HookResult loud = run(shell("head -c 1000000 /dev/zero | tr '\\0' x; exit 5"));
    CHECK(loud.how == "exit status 5");
    CHECK(loud.output.size() == app::kMaxHookOutput);
}

TEST_CASE("at its deadline a command is killed with all that it started") {
    const auto path = std::filesystem::temp_directory_path() / ("detour-hook-" + std::to_string(::getpid()));
    const HookResult late = run(
        shell("sleep 600 & echo $! > " + path.string() + "; trap '' TERM; echo begun; wait; sleep 600", 1s));
    CHECK_FALSE(late.good);
    CHECK(late.how == "killed at its deadline of 1s");
    CHECK(late.output == "begun");
    pid_t child = 0;
    std::ifstream(path) >> child;
    std::filesystem::remove(path);
    REQUIRE(child > 0);
    // Gone, or a zombie that nobody has collected yet; killed at once, but not yet at its end.
    const auto ended = [&] {
        std::ifstream status("/proc/" + std::to_string(child) + "/status");
        std::string state = "gone";
        for (std::string line; std::getline(status, line);)
            if (line.starts_with("State:")) state = line;
        return state == "gone" || state.find('Z') != std::string::npos;
    };
    const auto limit = std::chrono::steady_clock::now() + 10s;
    while (!ended() && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
    CHECK(ended());
}

TEST_CASE("a URL gets a POST with the site's name, and an answer of 2xx is a success") {
    struct Row {
        const char* answer;
        bool good;
        const char* how;
        const char* output;
    };
    for (const Row& row :
         {Row{"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\nwarm", true, "HTTP status 202", "warm"},
          Row{"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno", false, "HTTP status 503", "no"},
          Row{"nonsense\r\n\r\n", false, "reading the answer: bad version", ""}}) {
        CAPTURE(row.answer);
        HttpServer server(row.answer);
        config::Activation activation;
        activation.url = server.url();
        activation.deadline = 20s;
        const HookResult result = run(activation);
        CHECK(result.good == row.good);
        CHECK(result.how == row.how);
        CHECK(result.output == row.output);
        CHECK(server.request.starts_with("POST /warm?now HTTP/1.1\r\n"));
        CHECK(server.request.find(R"({"site":"chuncheon","pop":"icn1"})") != std::string::npos);
    }
    HttpServer silent("");
    config::Activation activation;
    activation.url = silent.url();
    activation.deadline = 1s;
    CHECK(run(activation).how == "no answer within 1s");
    activation.url = "http://127.0.0.1:1/";
    CHECK(run(activation).how == "connecting to 127.0.0.1: Connection refused");
}

TEST_CASE("URLs are split into what is connected to and what is asked for") {
    const auto parts = [](const char* url) {
        const app::HookUrl u = app::split_url(url);
        return (u.tls ? "tls " : "plain ") + u.host + " " + u.port + " " + u.target;
    };
    CHECK(parts("http://a") == "plain a 80 /");
    CHECK(parts("https://a/b?c=d/e") == "tls a 443 /b?c=d/e");
    CHECK(parts("https://a:8443?x") == "tls a 8443 /?x");
    CHECK(parts("http://[2001:db8::1]:81/x") == "plain 2001:db8::1 81 /x");
    CHECK(parts("http://[2001:db8::1]") == "plain 2001:db8::1 80 /");
}

TEST_CASE("a hook runs once for each time of need, and a restart does not run it again") {
    const config::Config config = with_cold_site();
    const std::string site = config.sites.back().name;
    const app::Needs needed{{site}, false};
    FakeShell fake;
    {
        Activations activations(fake.shell(), "", at(0s));
        activations.update(config, {}, at(1s));
        CHECK(fake.ran.empty());
        for (int i = 2; i < 60; ++i) activations.update(config, needed, at(std::chrono::seconds(i)));
        CHECK(fake.ran.size() == 1);
        fake.done[0]({true, "exit status 0", "warm"});
        CHECK(fake.told.back() == "activation " + site + " done, exit status 0: warm");
        activations.update(config, needed, at(61s));
        activations.update(config, {}, at(660s));
        activations.update(config, needed, at(661s));  // needed again within ten minutes: the same need
        CHECK(fake.ran.size() == 1);
        activations.update(config, {}, at(661s + app::kNeedEnds));
        activations.update(config, needed, at(1'300s));
        CHECK(fake.ran.size() == 2);
    }
    Activations restarted(fake.shell(), fake.file, at(2'000s));
    CHECK(fake.told.back() ==
          "alarm " + site +
              " its activation was under way when this process ended: its outcome is not known");
    restarted.update(config, needed, at(2'001s));
    CHECK(fake.ran.size() == 2);
}

TEST_CASE("a failed hook is an alarm, and is not tried again") {
    const config::Config config = with_cold_site();
    FakeShell fake;
    Activations activations(fake.shell(), "nonsense", at(0s));
    activations.update(config, {{config.sites.back().name}, false}, at(1s));
    fake.done.at(0)({false, "exit status 3", "no"});
    CHECK(fake.told.back().starts_with("alarm "));
    activations.update(config, {{config.sites.back().name}, false}, at(2s));
    CHECK(fake.ran.size() == 1);
}

TEST_CASE("while every site looks dark a need counts only after a while") {
    const config::Config config = with_cold_site();
    const app::Needs needed{{config.sites.back().name}, true};
    FakeShell fake;
    Activations activations(fake.shell(), "", at(0s));
    activations.update(config, needed, at(1s));
    activations.update(config, {{}, false}, at(20s));
    activations.update(config, needed, at(40s));
    activations.update(config, needed, at(69s));
    CHECK(fake.ran.empty());
    activations.update(config, needed, at(70s));
    CHECK(fake.ran.size() == 1);
}

TEST_CASE("a cold site is needed when no better one takes a pool of it, and traffic does not wait") {
    World world(with_cold_site());
    world.boot();
    const std::string cold = world.config().sites.back().name;
    CHECK(world.engine().needs().sites.empty());
    for (std::size_t i = 0; i + 1 < world.config().sites.size(); ++i)
        world.behave(world.config().sites[i].name, Cause::kTimeout);
    world.run(5s);
    CHECK(world.engine().needs().sites == std::vector{cold});
    CHECK(world.gate(cold).admit == api::kAdmitAll);  // its backends answer: it has the traffic already
    for (std::size_t i = 0; i + 1 < world.config().sites.size(); ++i)
        world.behave(world.config().sites[i].name, Cause::kOk);
    world.run(10s);
    CHECK(world.engine().needs().sites.empty());
}

TEST_CASE(
    "a cold site is needed when the better ones have no room for all that comes, not for a short burst") {
    config::Config config = sample_config({.sites = {"pangyo", "anyang", "chuncheon"}});
    config.sites[0].capacity.new_flows = config.sites[1].capacity.new_flows = 500;
    config.sites[2].tier = config::SiteTier::kCold;
    config.sites[2].activation = shell("true");
    World world(config);
    world.offered = {{"pool0", 800}};
    world.boot();
    world.behave("chuncheon", Cause::kTimeout);  // nothing is switched on there
    world.run(20s);
    CHECK(world.pool("pool0").shed == 0);
    CHECK(world.engine().needs().sites.empty());
    // A burst: the alarm comes, the site is left alone.
    world.offered = {{"pool0", 3000}};
    for (int i = 0; i < 100 && world.pool("pool0").shed == 0; ++i) world.run(100ms);
    CHECK(world.pool("pool0").shed > 0);
    world.run(2s);
    world.offered = {{"pool0", 300}};
    for (int i = 0; i < 300; ++i) {
        world.run(100ms);
        CHECK(world.engine().needs().sites.empty());
    }
    CHECK(world.pool("pool0").shed == 0);
    // One of the two burns down, and the other can't hold everything.
    world.offered = {{"pool0", 800}};
    world.run(20s);
    CHECK(world.engine().needs().sites.empty());
    world.behave("pangyo", Cause::kTimeout);
    world.run(5s);
    CHECK(world.pool("pool0").shed > 0.2);
    CHECK(world.engine().needs().sites.empty());
    world.run(10s);
    CHECK(world.engine().needs().sites == std::vector<std::string>{"chuncheon"});
    // Its backends are there: it takes the rest, and is needed no longer.
    world.behave("chuncheon", Cause::kOk);
    world.run(60s);
    CHECK(world.pool("pool0").shed == 0);
    CHECK(world.engine().needs().sites.empty());
}
