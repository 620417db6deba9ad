// The server over a real Unix socket, with handlers that are scripted, by our own client and by raw bytes.
#include "control/server/server.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <filesystem>
#include <future>
#include <thread>

#include "control/api/client.h"
#include "control/api/json.h"

using namespace detour;
using namespace detour::control;
using namespace std::chrono_literals;
namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

constexpr auto kDeadline = 20s;  // of a test's step; never reached when all is well

class FakeHandlers : public Handlers {
  public:
    explicit FakeHandlers(asio::io_context& loop) : loop_(loop) {}

    Version version() override { return {"test", kApiVersion, "icn1", {}}; }
    Status status() override {
        Status status;
        status.version = version();
        status.state = "ok";
        return status;
    }
    std::vector<SiteStatus> sites() override { return {{.name = "pangyo", .verdict = "healthy"}}; }
    std::vector<PoolStatus> pools() override { throw std::runtime_error("pools are broken"); }
    std::vector<BackendStatus> backends() override { return {}; }
    EventPage events(std::optional<std::uint64_t> since, std::size_t limit) override {
        EventPage page{.first = 1, .last = last_event, .events = {}};
        const std::uint64_t newest = last_event - std::min<std::uint64_t>(limit, last_event);
        for (std::uint64_t i = since.value_or(newest) + 1; i <= last_event && page.events.size() < limit;
             ++i) {
            page.events.push_back({.sequence = i, .kind = "test"});
        }
        return page;
    }
    std::vector<IncidentSummary> incidents() override {
        return {{7, "pangyo", Time{}, std::nullopt, "pangyo is dark", 402.5}};
    }
    Outcome<Incident> incident(std::uint64_t number) override {
        if (number != 7) return tl::unexpected(ApiError(api::ErrorCode::kNotFound, "finding", "none"));
        Incident result;
        result.number = 7;
        result.lines.push_back({Time{}, 1.5, "suspect", "pangyo is suspect", "the rule"});
        return result;
    }
    ConfigInfo config() override { return {}; }
    MetricsInput metrics() override { return {}; }
    Task<DrainReply> drain(DrainRequest request) override {
        if (request.target == "hang") {
            ++hanging;
            asio::steady_timer timer(loop_, hang_for);
            co_await timer.async_wait(asio::use_awaitable);
        }
        if (request.target == "throw") throw std::runtime_error("thrown");
        if (request.target == "last") {
            ApiError error(api::ErrorCode::kRefused, "draining last", "pool talk needs 1 site");
            error.rail = "min_sites";
            error.override_by = "--force";
            co_return tl::unexpected(error);
        }
        ++drains;
        DrainReply reply;
        reply.drain.target = request.target;
        reply.drain.by = request.by;
        co_return reply;
    }
    Task<UndrainReply> undrain(UndrainRequest request) override {
        UndrainReply reply;
        reply.target = request.target;
        co_return reply;
    }
    Task<IntentReply> hold(HoldRequest request) override {
        IntentReply reply;
        reply.effect = "held by " + request.by;
        co_return reply;
    }
    Task<IntentReply> release(ReleaseRequest request) override {
        IntentReply reply;
        reply.effect = "released by " + request.by;
        co_return reply;
    }
    Task<IntentReply> weight(WeightRequest request) override {
        IntentReply reply;
        reply.effect = fmt::format("{}={}", request.target, request.weight.value_or(0));
        co_return reply;
    }
    Task<IntentReply> confirm_config() override {
        IntentReply reply;
        reply.effect = "confirmed";
        co_return reply;
    }
    Task<ConfigDiff> diff_config(ConfigDiffRequest request) override {
        ConfigDiff reply;
        reply.changes = {request.path};
        co_return reply;
    }
    Task<ReloadReply> reload(ReloadRequest request) override {
        if (request.confirm_within_s) {
            ReloadReply reply;
            reply.generation = *request.confirm_within_s;
            co_return reply;
        }
        ApiError error(api::ErrorCode::kInvalidArgument, "loading", "2 mistakes");
        error.details = {"a.toml:1:2: found x, expected y", "a.toml:3:4: found z, expected w"};
        co_return tl::unexpected(error);
    }
    Task<PacketTrace> trace_packet(PacketTraceRequest request) override {
        PacketTrace reply;
        reply.reason = request.source + " " + request.flags;
        co_return reply;
    }
    Task<CapturePage> capture(CaptureRequest request) override {
        CapturePage reply;
        reply.capture = request.sample.value_or(1);
        co_return reply;
    }
    Task<CapturePage> read_capture(CaptureReadRequest request) override {
        CapturePage reply;
        reply.capture = request.capture;
        reply.packets.resize(2);
        co_return reply;
    }
    Task<std::vector<FlowPlacement>> trace(std::span<const FlowQuery> flows) override {
        ++trace_calls;
        std::vector<FlowPlacement> result;
        for (const FlowQuery& flow : flows) {
            result.push_back(
                {"pangyo", flow.source.to_string(), fmt::format("{}", flow.source_port.value())});
        }
        co_return result;
    }
    Task<PlanFailReply> plan_fail(std::string domain) override {
        PlanFailReply reply;
        reply.domain = domain;
        co_return reply;
    }

    std::atomic<std::uint64_t> last_event = 0;
    std::atomic<int> drains = 0;
    std::atomic<int> hanging = 0;
    std::atomic<int> trace_calls = 0;
    std::chrono::milliseconds hang_for{400};

  private:
    asio::io_context& loop_;
};

class Folder {
  public:
    Folder() {
        std::string name = fs::temp_directory_path() / "detour-server-XXXXXX";
        path_ = ::mkdtemp(name.data());
    }
    ~Folder() { fs::remove_all(path_); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    [[nodiscard]] std::string socket() const { return path_ + "/control.sock"; }

  private:
    std::string path_;
};

/// A server with its loop on a thread of its own.
class Running {
  public:
    explicit Running(Limits limits = {})
        : handlers(loop), server(loop.get_executor(), folder.socket(), handlers, limits) {
        const auto started = server.start();
        REQUIRE_MESSAGE(started.has_value(), (started ? "" : started.error().to_string()));
        thread_ = std::thread([this] { loop.run(); });
    }
    ~Running() {
        stop();
        loop.stop();
        thread_.join();
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

    void stop() {
        auto stopped = asio::co_spawn(loop, server.stop(), asio::use_future);
        REQUIRE(stopped.wait_for(kDeadline) == std::future_status::ready);
    }
    void add_events(std::uint64_t count) {
        asio::post(loop, [this, count] {
            handlers.last_event += count;
            server.notify_events();
        });
    }
    [[nodiscard]] Client client() const { return Client(folder.socket()); }
    void check_alive() const { CHECK(client().get("/v1/status", kDeadline).has_value()); }

    Folder folder;
    asio::io_context loop;
    FakeHandlers handlers;
    Server server;

  private:
    asio::executor_work_guard<asio::io_context::executor_type> work_{loop.get_executor()};
    std::thread thread_;
};

/// Raw bytes to the server and back.
class Raw {
  public:
    explicit Raw(const std::string& path) : descriptor_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof(address.sun_path) - 1);
        connected = ::connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    }
    ~Raw() { ::close(descriptor_); }
    Raw(const Raw&) = delete;
    Raw& operator=(const Raw&) = delete;

    void send(std::string_view bytes) const {
        while (!bytes.empty()) {
            const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0) return;
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        }
    }
    void end() const { ::shutdown(descriptor_, SHUT_WR); }
    /// Until `text` was seen, the server closed, or the deadline.
    std::string receive_until(std::string_view text) {
        const auto deadline = std::chrono::steady_clock::now() + kDeadline;
        while (seen_.find(text) == std::string::npos || text.empty()) {
            pollfd waited{descriptor_, POLLIN, 0};
            if (std::chrono::steady_clock::now() > deadline) break;
            if (::poll(&waited, 1, 1000) <= 0) continue;
            char buffer[4096];
            const ssize_t got = ::recv(descriptor_, buffer, sizeof(buffer), 0);
            closed = got <= 0;
            if (closed) break;
            seen_.append(buffer, static_cast<std::size_t>(got));
        }
        return seen_;
    }
    std::string receive_all() { return receive_until(""); }

    bool connected = false;
    bool closed = false;

  private:
    int descriptor_;
    std::string seen_;
};

std::string post(const std::string& path, const std::string& body) {
    return fmt::format("POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
                       path, body.size(), body);
}

std::string get(const std::string& target) {
    return fmt::format("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", target);
}

}  // namespace

TEST_CASE("each path answers, and an error arrives as it was made") {
    Running running;
    const Client client = running.client();
    CHECK(from_json<Version>(client.get("/v1/version", kDeadline).value())->pop == "icn1");
    CHECK(from_json<std::vector<SiteStatus>>(client.get("/v1/sites", kDeadline).value())->size() == 1);
    CHECK(client.get("/v1/backends", kDeadline).value() == "[]\n");
    CHECK(client.get("/metrics", kDeadline).value().starts_with("# HELP detour_"));
    CHECK(from_json<PlanFailReply>(client.get("/v1/plan?fail=kr%2Fseongnam", kDeadline).value())->domain ==
          "kr/seongnam");
    CHECK(
        from_json<UndrainReply>(client.post("/v1/undrain", R"({"target":"x"})", kDeadline).value())->target ==
        "x");

    const auto drained = client.post("/v1/drain", R"({"target":"pangyo","by":"kim"})", kDeadline);
    REQUIRE(drained);
    const std::string peer = ::getuid() == 0 ? "root" : fmt::format("uid {}", ::getuid());
    CHECK(from_json<DrainReply>(*drained)->drain.by == fmt::format("kim ({})", peer));

    const auto refused = client.post("/v1/drain", R"({"target":"last"})", kDeadline);
    REQUIRE(!refused);
    CHECK(refused.error().code == api::ErrorCode::kRefused);
    CHECK(refused.error().rail == "min_sites");
    CHECK(refused.error().override_by == "--force");
    const auto effect = [&](const char* path, const char* body) {
        return from_json<IntentReply>(client.post(path, body, kDeadline).value())->effect;
    };
    CHECK(effect("/v1/hold", R"({"for_s":60,"by":"kim"})") == fmt::format("held by kim ({})", peer));
    CHECK(effect("/v1/release", "{}") == "released by " + peer);
    CHECK(effect("/v1/weight", R"({"target":"pangyo","weight":7})") == "pangyo=7");
    CHECK(effect("/v1/config/confirm", "") == "confirmed");
    CHECK(from_json<ConfigDiff>(client.post("/v1/config/diff", R"({"path":"/x"})", kDeadline).value())
              ->changes == std::vector<std::string>{"/x"});
    CHECK(from_json<ReloadReply>(client.post("/v1/reload", R"({"confirm_within_s":60})", kDeadline).value())
              ->generation == 60);
    CHECK_FALSE(client.post("/v1/reload", R"({"confirm_within_s":0})", kDeadline));
    CHECK_FALSE(client.post("/v1/hold", R"({"for_s":0})", kDeadline));
    CHECK_FALSE(client.post("/v1/weight", R"({"target":"pangyo","wieght":7})", kDeadline));
    CHECK(from_json<std::vector<IncidentSummary>>(client.get("/v1/incidents", kDeadline).value())
              ->at(0)
              .number == 7);
    CHECK(from_json<Incident>(client.get("/v1/incidents?number=7", kDeadline).value())->lines.at(0).rule ==
          "the rule");
    CHECK(client.get("/v1/incidents?number=8", kDeadline).error().code == api::ErrorCode::kNotFound);
    CHECK_FALSE(client.get("/v1/incidents?number=x", kDeadline));
    const auto reloaded = client.post("/v1/reload", "", kDeadline);
    REQUIRE(!reloaded);
    CHECK(reloaded.error().details.size() == 2);
}

TEST_CASE("a handler that throws or hangs costs its own request alone") {
    Running running({.handler = 100ms});
    const Client client = running.client();
    CHECK(client.get("/v1/pools", kDeadline).error().what == "pools are broken");
    CHECK(client.post("/v1/drain", R"({"target":"throw"})", kDeadline).error().what == "thrown");
    const auto hung = client.post("/v1/drain", R"({"target":"hang"})", kDeadline);
    REQUIRE(!hung);
    CHECK(hung.error().code == api::ErrorCode::kTimeout);
    CHECK(hung.error().doing == "draining hang");
    running.check_alive();
}

TEST_CASE("what is not a good request is answered with its status, and harms nothing") {
    struct Row {
        const char* name;
        std::string bytes;
        const char* status;
    };
    const std::string header(9000, 'a');
    const std::string body(70'000, ' ');
    const Row rows[] = {
        {"garbage", "\x16\x03\x01\x02\r\n\r\n", "400"},
        {"no version", "GET /\r\n\r\n", "400"},
        {"HTTP/9", "GET / HTTP/9.9\r\n\r\n", "400"},
        {"ends in the header", "GET /v1/status HTTP/1.1\r\nHost", "400"},
        {"bad length", "POST /v1/drain HTTP/1.1\r\nContent-Length: -5\r\n\r\n", "400"},
        {"length and chunks",
         "POST /v1/drain HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "400"},
        {"bad chunk", "POST /v1/drain HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
        {"ends in the body", "POST /v1/drain HTTP/1.1\r\nContent-Length: 50\r\n\r\n{\"target\"", "400"},
        {"long header", "GET / HTTP/1.1\r\nX: " + header + "\r\n\r\n", "431"},
        {"long target", "GET /" + header + " HTTP/1.1\r\n\r\n", "431"},
        {"long body", post("/v1/drain", body), "413"},
        {"huge body said", "POST /v1/trace HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n", "413"},
        {"long chunked body",
         "POST /v1/drain HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n" + body + "\r\n0\r\n\r\n",
         "413"},
        {"no such path", get("/v2/status"), "404"},
        {"wrong method", post("/v1/status", ""), "405"},
        {"wrong method", get("/v1/drain"), "405"},
        {"not JSON", post("/v1/drain", "{"), "400"},
        {"no target", post("/v1/drain", "{}"), "400"},
        {"empty target", post("/v1/drain", R"({"target":""})"), "400"},
        {"misspelt", post("/v1/drain", R"({"target":"x","forse":true})"), "400"},
        {"no time", post("/v1/drain", R"({"target":"x","for_s":0})"), "400"},
        {"more than a year", post("/v1/drain", R"({"target":"x","for_s":31622401})"), "400"},
        {"bad flow", post("/v1/trace", R"({"flows":[{}]})"), "400"},
        {"bad since", get("/v1/events?since=x"), "400"},
        {"bad limit", get("/v1/events?limit=0"), "400"},
        {"bad limit", get("/v1/events?limit=1001"), "400"},
        {"bad follow", get("/v1/events?follow=1&since=x"), "400"},
        {"no domain", get("/v1/plan"), "400"},
    };
    Running running;
    for (const Row& row : rows) {
        CAPTURE(row.name);
        Raw raw(running.folder.socket());
        raw.send(row.bytes);
        raw.end();
        const std::string answer = raw.receive_all();
        CAPTURE(answer);
        CHECK(answer.starts_with(fmt::format("HTTP/1.1 {} ", row.status)));
        CHECK(answer.find(R"({"code":")") != std::string::npos);
        CHECK(raw.closed);
    }
    CHECK(running.handlers.drains == 0);
    running.check_alive();
}

TEST_CASE("a method that is not allowed says which is; HEAD has no body") {
    Running running;
    Raw wrong(running.folder.socket());
    wrong.send("DELETE /v1/status HTTP/1.1\r\nConnection: close\r\n\r\n");
    CHECK(wrong.receive_all().find("Allow: GET, HEAD\r\n") != std::string::npos);
    Raw head(running.folder.socket());
    head.send("HEAD /v1/status HTTP/1.1\r\nConnection: close\r\n\r\n");
    const std::string answer = head.receive_all();
    CHECK(answer.starts_with("HTTP/1.1 200 OK"));
    CHECK(answer.ends_with("\r\n\r\n"));
}

TEST_CASE("one connection serves many requests, also sent at once") {
    Running running;
    Raw raw(running.folder.socket());
    const std::string request = "GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n";
    raw.send(request + request);
    raw.send("GET /v1/backends HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const std::string answers = raw.receive_all();
    std::size_t count = 0;
    for (std::size_t at = answers.find("HTTP/1.1 200"); at != std::string::npos;
         at = answers.find("HTTP/1.1 200", at + 1)) {
        ++count;
    }
    CHECK(count == 3);
    CHECK(raw.closed);
}

TEST_CASE("a client that stalls is closed, and holds up nobody") {
    Running running({.request = 200ms, .idle = 200ms});
    Raw stalled(running.folder.socket());
    stalled.send("POST /v1/drain HTTP/1.1\r\nContent-Length: 100\r\n\r\n{");
    Raw silent(running.folder.socket());
    running.check_alive();
    stalled.receive_all();
    CHECK(stalled.closed);
    CHECK(silent.receive_all().empty());
    CHECK(silent.closed);
    running.check_alive();
}

TEST_CASE("connections beyond the limit are told so, and one that ends makes room") {
    Running running({.connections = 3});
    {
        std::vector<std::unique_ptr<Raw>> held;
        for (int i = 0; i < 3; ++i) {
            held.push_back(std::make_unique<Raw>(running.folder.socket()));
            held.back()->send("GET /v1/version HTTP/1.1\r\n\r\n");
            CHECK(held.back()->receive_until("icn1").starts_with("HTTP/1.1 200"));
        }
        const auto refused = running.client().get("/v1/status", kDeadline);
        REQUIRE(!refused);
        CHECK(refused.error().code == api::ErrorCode::kUnavailable);
        held[0]->end();
        held[0]->receive_all();
        running.check_alive();
    }
}

TEST_CASE("many clients at once are all answered") {
    Running running;
    std::atomic<int> answered = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; ++i) {
        threads.emplace_back([&] {
            for (int k = 0; k < 20; ++k) {
                if (running.client().get("/v1/status", kDeadline)) ++answered;
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(answered == 16 * 20);
}

TEST_CASE("a trace at the limit is answered in order, in parts, while others are served") {
    Running running;
    std::vector<FlowQuery> flows;
    for (std::size_t i = 0; i < kMaxTraceFlows; ++i) {
        flows.push_back(*parse_flow(fmt::format("198.51.100.7:{}", i % 65536), "203.0.113.10:443/tcp"));
    }
    auto traced = std::async(std::launch::async, [&] {
        return running.client().post("/v1/trace", trace_to_json(flows), kDeadline);
    });
    while (traced.wait_for(0s) != std::future_status::ready) running.check_alive();
    const auto body = traced.get();
    REQUIRE_MESSAGE(body.has_value(), (body ? "" : body.error().to_string()));
    const auto placements = from_json<std::vector<FlowPlacement>>(*body);
    REQUIRE(placements);
    REQUIRE(placements->size() == flows.size());
    bool in_order = true;
    for (std::size_t i = 0; i < flows.size(); ++i)
        in_order &= (*placements)[i].reason == fmt::format("{}", i % 65536);
    CHECK(in_order);
    CHECK(running.handlers.trace_calls == static_cast<int>((kMaxTraceFlows + 2047) / 2048));
    CHECK(running.client().post("/v1/trace", R"({"flows":[]})", kDeadline).value() == "[]\n");
}

TEST_CASE("a client that asks whether it may send is told to go on") {
    Running running;
    Raw raw(running.folder.socket());
    raw.send(
        "POST /v1/undrain HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: "
        "14\r\n\r\n");
    CHECK(raw.receive_until("Continue").starts_with("HTTP/1.1 100 Continue\r\n\r\n"));
    raw.send(R"({"target":"x"})");
    CHECK(raw.receive_all().find("HTTP/1.1 200 OK") != std::string::npos);
}

TEST_CASE("an event stream: what there is, what comes, a heartbeat, and its end") {
    Running running({.heartbeat = 50ms});
    running.add_events(3);
    std::vector<std::uint64_t> seen;
    bool heartbeat = false;
    bool stopping = false;
    std::thread stopper;
    const auto ended =
        running.client().stream("/v1/events?follow=1&since=1", kDeadline, [&](std::string_view line) {
            if (line.empty()) {
                heartbeat = true;
                if (seen.size() == 2) running.add_events(2);
            } else {
                seen.push_back(from_json<Event>(line)->sequence);
            }
            if (seen.size() == 4 && heartbeat && !stopping) {
                stopping = true;
                stopper = std::thread([&running] { running.stop(); });
            }
            return true;
        });
    stopper.join();
    CHECK_MESSAGE(ended.has_value(), (ended ? "" : ended.error().to_string()));
    CHECK(heartbeat);
    CHECK(seen.size() >= 4);
    for (std::size_t i = 0; i < seen.size(); ++i) CHECK(seen[i] == i + 2);
}

TEST_CASE("a stream without since begins with the newest") {
    Running running({.heartbeat = 50ms});
    running.add_events(30);
    std::vector<std::uint64_t> seen;
    const auto read = [&](std::string_view line) {
        if (!line.empty()) seen.push_back(from_json<Event>(line)->sequence);
        return !line.empty();
    };
    REQUIRE(running.client().stream("/v1/events?follow=1", kDeadline, read));
    CHECK(seen == std::vector<std::uint64_t>{21, 22, 23, 24, 25, 26, 27, 28, 29, 30});
    seen.clear();
    REQUIRE(running.client().stream("/v1/events?follow=1&limit=0", kDeadline, read));
    CHECK(seen.empty());
    const auto refused = running.client().stream("/v1/events?follow=1&since=x", kDeadline, read);
    REQUIRE(!refused);
    CHECK(refused.error().code == api::ErrorCode::kInvalidArgument);
}

TEST_CASE("the socket: mode 0660, gone at the end, a stale one replaced, a live one left alone") {
    const Folder folder;
    asio::io_context loop;
    FakeHandlers handlers(loop);
    Raw stale(folder.socket());
    {
        // What a killed process leaves behind: a file on which nobody listens.
        const int dead = ::socket(AF_UNIX, SOCK_STREAM, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        folder.socket().copy(address.sun_path, sizeof(address.sun_path) - 1);
        REQUIRE(::bind(dead, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
        ::close(dead);
    }
    {
        Server first(loop.get_executor(), folder.socket(), handlers);
        REQUIRE(first.start());
        struct stat info {};
        REQUIRE(::stat(folder.socket().c_str(), &info) == 0);
        CHECK((info.st_mode & 0777) == 0660);
        Server second(loop.get_executor(), folder.socket(), handlers);
        const auto refused = second.start();
        REQUIRE(!refused);
        CHECK(refused.error().code == api::ErrorCode::kUnavailable);
        CHECK(Raw(folder.socket()).connected);
    }
    CHECK(!fs::exists(folder.socket()));
    loop.poll();
}

TEST_CASE("a path that can't be a socket is an error with the path, and what is there stays") {
    const Folder folder;
    asio::io_context loop;
    FakeHandlers handlers(loop);
    std::FILE* file = std::fopen(folder.socket().c_str(), "w");
    REQUIRE(file != nullptr);
    std::fclose(file);
    Server on_file(loop.get_executor(), folder.socket(), handlers);
    const auto refused = on_file.start();
    REQUIRE(!refused);
    CHECK(refused.error().doing.find(folder.socket()) != std::string::npos);
    CHECK(fs::exists(folder.socket()));
    Server too_long(loop.get_executor(), "/tmp/" + std::string(200, 'a'), handlers);
    CHECK(too_long.start().error().code == api::ErrorCode::kInvalidArgument);
    Server nowhere(loop.get_executor(), "/proc/nothing/here.sock", handlers);
    CHECK(nowhere.start().error().code == api::ErrorCode::kSystem);
}

TEST_CASE("stop lets a request finish that is being handled, and takes no new one") {
    Running running;
    auto slow = std::async(std::launch::async, [&] {
        return running.client().post("/v1/drain", R"({"target":"hang"})", kDeadline);
    });
    Raw idle(running.folder.socket());
    while (running.handlers.hanging == 0) running.check_alive();
    running.stop();
    CHECK(slow.get().has_value());
    idle.receive_all();
    CHECK(idle.closed);
    CHECK(running.handlers.drains == 1);
    const auto gone = running.client().get("/v1/status", kDeadline);
    REQUIRE(!gone);
    CHECK(gone.error().code == api::ErrorCode::kUnavailable);
    CHECK(gone.error().doing.find(running.folder.socket()) != std::string::npos);
    CHECK(!gone.error().details.empty());
}

TEST_CASE("the client gives up on a server that accepts and says nothing, or no HTTP") {
    const Folder folder;
    const int listener = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    folder.socket().copy(address.sun_path, sizeof(address.sun_path) - 1);
    REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    REQUIRE(::listen(listener, 8) == 0);
    const Client client(folder.socket());
    CHECK(client.get("/v1/status", 100ms).error().code == api::ErrorCode::kTimeout);
    CHECK(client.stream("/v1/events", 100ms, [](std::string_view) { return true; }).error().code ==
          api::ErrorCode::kTimeout);
    std::thread answers([listener] {
        for (const std::string_view text :
             {"", "what?\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"}) {
            // The first two are the calls above, that were given up.
            for (int skip = text.empty() ? 2 : 0; skip > 0; --skip)
                ::close(::accept(listener, nullptr, nullptr));
            const int peer = ::accept(listener, nullptr, nullptr);
            char buffer[1024];
            [[maybe_unused]] ssize_t ignored = ::recv(peer, buffer, sizeof(buffer), 0);
            ignored = ::send(peer, text.data(), text.size(), MSG_NOSIGNAL);
            ::close(peer);
        }
    });
    for (int i = 0; i < 3; ++i) {
        const auto answer = client.get("/v1/status", kDeadline);
        REQUIRE(!answer);
        CHECK(answer.error().code == api::ErrorCode::kSystem);
    }
    answers.join();
    ::close(listener);
}
