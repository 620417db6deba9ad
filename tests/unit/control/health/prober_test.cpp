// Probes against real sockets on loopback: each way a server can behave, and what the probe calls it.
#include "control/health/prober.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <boost/asio.hpp>
#include <fstream>
#include <map>
#include <string>
#include <thread>

using namespace detour;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using asio::ip::tcp;
using health::Cause;
using health::Outcome;

namespace {

enum class Behaviour { kAnswer, kSilent, kReset, kClose, kSlow };

/// Serves one behaviour on loopback, in the loop of the test.
class Listener {
  public:
    Listener(asio::io_context& io, const tcp::endpoint& at, Behaviour behaviour, std::string text)
        : acceptor_(io, at), behaviour_(behaviour), text_(std::move(text)) {
        asio::co_spawn(io, accept_loop(), asio::detached);
    }
    [[nodiscard]] api::Port port() const { return api::Port(acceptor_.local_endpoint().port()); }

  private:
    asio::awaitable<void> accept_loop() {
        while (true) {
            auto socket = co_await acceptor_.async_accept(asio::use_awaitable);
            asio::co_spawn(acceptor_.get_executor(), serve(std::move(socket)), asio::detached);
        }
    }

    asio::awaitable<void> serve(tcp::socket socket) {
        boost::system::error_code ec;
        auto quiet = asio::redirect_error(asio::use_awaitable, ec);
        std::array<char, 1024> request;
        if (behaviour_ != Behaviour::kReset) co_await socket.async_read_some(asio::buffer(request), quiet);
        if (behaviour_ == Behaviour::kReset) socket.set_option(asio::socket_base::linger(true, 0), ec);
        if (behaviour_ == Behaviour::kAnswer) co_await asio::async_write(socket, asio::buffer(text_), quiet);
        if (behaviour_ == Behaviour::kSlow) {
            asio::steady_timer timer(acceptor_.get_executor());
            for (const char c : text_) {
                co_await asio::async_write(socket, asio::buffer(&c, 1), quiet);
                timer.expires_after(1ms);
                co_await timer.async_wait(quiet);
            }
        }
        // A silent server holds the connection until the other side leaves it.
        if (behaviour_ == Behaviour::kSilent) co_await socket.async_read_some(asio::buffer(request), quiet);
    }

    tcp::acceptor acceptor_;
    Behaviour behaviour_;
    std::string text_;
};

struct Bench {
    asio::io_context io;
    std::map<std::uint64_t, Outcome> outcomes;
    health::Prober prober;

    explicit Bench(std::size_t max_in_flight = 64)
        : prober(io, {max_in_flight}, [this](std::uint64_t serial, const Outcome& outcome) {
              CHECK_MESSAGE(!outcomes.contains(serial), "a probe was reported twice");
              outcomes[serial] = outcome;
          }) {}

    void wait_for(std::size_t count) {
        const auto limit = std::chrono::steady_clock::now() + 10s;
        while (outcomes.size() < count && std::chrono::steady_clock::now() < limit) io.run_one_for(100ms);
        REQUIRE(outcomes.size() == count);
    }
};

const auto kV4 = api::IpAddress::parse("127.0.0.1").value();
const auto kV6 = api::IpAddress::parse("::1").value();

tcp::endpoint loopback(const api::IpAddress& address) {
    return {asio::ip::make_address(address.to_string()), 0};
}

health::ProbeRequest request(std::uint64_t serial, const api::IpAddress& address, api::Port port,
                             config::ProbeType type, std::chrono::milliseconds timeout = 2'000ms) {
    auto health = std::make_shared<config::Health>();
    health->type = type;
    health->port = port;
    health->timeout = timeout;
    health->status = {200, 204};
    return {api::BackendId(1), serial, address, health};
}

/// A port on which nothing listens.
api::Port closed_port(const api::IpAddress& address) {
    asio::io_context io;
    tcp::acceptor acceptor(io, loopback(address));
    return api::Port(acceptor.local_endpoint().port());
}

bool has_ipv6_loopback() {
    asio::io_context io;
    tcp::socket socket(io, tcp::v6());
    boost::system::error_code ec;
    socket.bind({asio::ip::address_v6::loopback(), 0}, ec);
    return !ec;
}

}  // namespace

TEST_CASE("each behaviour of a server has its own cause") {
    struct Row {
        const char* name;
        config::ProbeType type;
        Behaviour behaviour;
        std::string text;
        std::chrono::milliseconds timeout;
        Cause cause;
        std::uint16_t status;
    };
    using enum Behaviour;
    const auto tcp_probe = config::ProbeType::kTcp;
    const auto http = config::ProbeType::kHttp;
    const std::string ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const std::vector<Row> rows = {
        {"tcp: accepts", tcp_probe, kSilent, "", 2s, Cause::kOk, 0},
        {"tcp: accepts and resets", tcp_probe, kReset, "", 2s, Cause::kOk, 0},
        {"http: 200", http, kAnswer, ok, 2s, Cause::kOk, 200},
        {"http: another wanted status", http, kAnswer, "HTTP/1.1 204 None\r\n\r\n", 2s, Cause::kOk, 204},
        {"http: slow, byte by byte", http, kSlow, ok, 5s, Cause::kOk, 200},
        {"http: slower than the timeout", http, kSlow, ok, 15ms, Cause::kTimeout, 0},
        {"http: 503", http, kAnswer, "HTTP/1.1 503 Busy\r\n\r\n", 2s, Cause::kBadStatus, 503},
        {"http: never answers", http, kSilent, "", 50ms, Cause::kTimeout, 0},
        {"http: resets", http, kReset, "", 2s, Cause::kReset, 0},
        {"http: closes without an answer", http, kClose, "", 2s, Cause::kReset, 0},
        {"http: closes within the head", http, kAnswer, "HTTP/1.1 200 OK\r\nA:", 2s, Cause::kBadResponse, 0},
        {"http: garbage", http, kAnswer, "\x16\x03\x01 nonsense", 2s, Cause::kBadResponse, 0},
        {"http: huge head", http, kAnswer, "HTTP/1.1 200 OK\r\nA: " + std::string(1U << 20U, 'x'), 2s,
         Cause::kBadResponse, 0},
    };
    for (const auto& address : {kV4, kV6}) {
        if (address.is_v6() && !has_ipv6_loopback()) {
            MESSAGE("no IPv6 loopback here: its rows are left out");
            continue;
        }
        for (const auto& row : rows) {
            CAPTURE(row.name);
            CAPTURE(address.to_string());
            Bench bench;
            Listener listener(bench.io, loopback(address), row.behaviour, row.text);
            bench.prober.send(request(7, address, listener.port(), row.type, row.timeout));
            bench.wait_for(1);
            CHECK(bench.outcomes.at(7).cause == row.cause);
            CHECK(bench.outcomes.at(7).status == row.status);
            CHECK((bench.outcomes.at(7).round_trip.count() > 0) == (row.cause == Cause::kOk));
            CHECK(bench.prober.in_flight() == 0);
        }
    }
}

TEST_CASE("an http probe with a wanted body looks for it behind the head") {
    struct Row {
        const char* name;
        Behaviour behaviour;
        std::string text;
        Cause cause;
        std::uint16_t status;
    };
    const std::string head = "HTTP/1.1 200 OK\r\n";
    const std::vector<Row> rows = {
        {"in one piece", Behaviour::kAnswer, head + "\r\nI am ready.", Cause::kOk, 200},
        {"byte by byte", Behaviour::kSlow, head + "\r\nI am ready.", Cause::kOk, 200},
        {"chunked, byte by byte", Behaviour::kSlow,
         head + "Transfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n", Cause::kOk, 200},
        {"another body", Behaviour::kAnswer, head + "Content-Length: 4\r\n\r\nbusy", Cause::kBadBody, 200},
        {"no body", Behaviour::kAnswer, head + "\r\n", Cause::kBadBody, 200},
        {"only in the head", Behaviour::kAnswer, head + "State: ready\r\n\r\n", Cause::kBadBody, 200},
        {"cut short", Behaviour::kAnswer, head + "Content-Length: 90\r\n\r\nbusy", Cause::kBadResponse, 200},
        {"endless", Behaviour::kAnswer, head + "\r\n" + std::string(1U << 20U, 'x'), Cause::kBadBody, 200},
        {"another status", Behaviour::kAnswer, "HTTP/1.1 503 Busy\r\n\r\nready", Cause::kBadStatus, 503},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        Bench bench;
        Listener listener(bench.io, loopback(kV4), row.behaviour, row.text);
        auto probe = request(1, kV4, listener.port(), config::ProbeType::kHttp, 5s);
        auto health = std::make_shared<config::Health>(*probe.health);
        health->body = "ready";
        probe.health = health;
        bench.prober.send(probe);
        bench.wait_for(1);
        CHECK(bench.outcomes.at(1).cause == row.cause);
        CHECK(bench.outcomes.at(1).status == row.status);
    }
}

TEST_CASE("a closed port is refused, a full backlog times out, an address without a route is unreachable") {
    Bench bench;
    tcp::acceptor full(bench.io, loopback(kV4).protocol());
    full.bind(loopback(kV4));
    full.listen(0);
    std::vector<tcp::socket> fillers;
    for (int i = 0; i < 8; ++i) {
        fillers.emplace_back(bench.io).async_connect(full.local_endpoint(), [](const auto&) {});
    }
    bench.io.poll();
    const auto type = config::ProbeType::kTcp;
    bench.prober.send(request(1, kV4, closed_port(kV4), type));
    bench.prober.send(request(2, kV4, api::Port(full.local_endpoint().port()), type, 50ms));
    // 240.0.0.0/4 is reserved: Linux has no route to the last address.
    bench.prober.send(request(3, api::IpAddress::parse("255.255.255.255").value(), api::Port(9), type));
    bench.wait_for(3);
    CHECK(bench.outcomes.at(1).cause == Cause::kRefused);
    CHECK(bench.outcomes.at(2).cause == Cause::kTimeout);
    CHECK(bench.outcomes.at(3).cause == Cause::kUnreachable);
}

TEST_CASE("what is beyond the bound is not sent and not a failure") {
    Bench bench(2);
    Listener listener(bench.io, loopback(kV4), Behaviour::kSilent, "");
    for (std::uint64_t serial = 1; serial <= 5; ++serial) {
        bench.prober.send(request(serial, kV4, listener.port(), config::ProbeType::kHttp, 50ms));
    }
    CHECK(bench.outcomes.empty());  // never reported from inside send()
    bench.wait_for(5);
    std::map<Cause, int> causes;
    for (const auto& [serial, outcome] : bench.outcomes) ++causes[outcome.cause];
    CHECK(causes == std::map<Cause, int>{{Cause::kTimeout, 2}, {Cause::kNotSent, 3}});
    CHECK(bench.prober.shed() == 3);
}

TEST_CASE("without descriptors a probe is not sent and not a failure") {
    Bench bench;
    Listener listener(bench.io, loopback(kV4), Behaviour::kSilent, "");
    rlimit before{};
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    rlimit none = before;
    none.rlim_cur = 0;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    bench.prober.send(request(1, kV4, listener.port(), config::ProbeType::kTcp));
    CHECK(bench.outcomes.empty());
    bench.io.poll();
    REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
    bench.wait_for(1);
    CHECK(bench.outcomes.at(1).cause == Cause::kNotSent);
}

TEST_CASE("when the loop lags, what is overdue is unknown and what was answered counts") {
    Bench bench;
    Listener silent(bench.io, loopback(kV4), Behaviour::kSilent, "");
    Listener answers(bench.io, loopback(kV4), Behaviour::kSilent, "");
    bench.prober.send(request(1, kV4, silent.port(), config::ProbeType::kHttp, 40ms));
    bench.prober.send(request(2, kV4, answers.port(), config::ProbeType::kTcp, 40ms));
    asio::post(bench.io, [] {
        const auto end = std::chrono::steady_clock::now() + 200ms;
        while (std::chrono::steady_clock::now() < end) {
        }
    });
    bench.wait_for(2);
    CHECK(bench.outcomes.at(1).cause == Cause::kNotSent);
    CHECK(bench.outcomes.at(2).cause == Cause::kOk);
}

namespace {

/// Answers one probe of a thread of its own, so long after it was asked: the loop may be away meanwhile.
class LateServer {
  public:
    LateServer(config::ProbeType type, std::chrono::milliseconds after) : type_(type), after_(after) {
        acceptor_.listen();
        thread_ = std::thread([this] { type_ == config::ProbeType::kUdp ? serve_udp() : serve_http(); });
    }
    ~LateServer() { thread_.join(); }
    [[nodiscard]] api::Port port() const {
        return api::Port(type_ == config::ProbeType::kUdp ? udp_.local_endpoint().port()
                                                          : acceptor_.local_endpoint().port());
    }

  private:
    void serve_http() {
        tcp::socket socket = acceptor_.accept();
        std::array<char, 1024> request;
        (void)socket.read_some(asio::buffer(request));
        std::this_thread::sleep_for(after_);
        boost::system::error_code ignored;  // who asked may be gone
        asio::write(socket, asio::buffer(std::string("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
                    ignored);
        (void)socket.read_some(asio::buffer(request), ignored);
    }
    void serve_udp() {
        asio::ip::udp::endpoint from;
        std::array<char, 1024> request;
        (void)udp_.receive_from(asio::buffer(request), from);
        std::this_thread::sleep_for(after_);
        boost::system::error_code ignored;
        (void)udp_.send_to(asio::buffer("here", 4), from, 0, ignored);
    }

    config::ProbeType type_;
    std::chrono::milliseconds after_;
    asio::io_context io_;
    tcp::acceptor acceptor_{io_, loopback(kV4)};
    asio::ip::udp::socket udp_{io_, asio::ip::udp::endpoint(asio::ip::make_address("127.0.0.1"), 0)};
    std::thread thread_;
};

/// Runs the loop until the probe has asked, and leaves it alone until `until` after that.
Outcome asked_by_a_late_loop(config::ProbeType type, std::chrono::milliseconds answer,
                             std::chrono::milliseconds until) {
    Bench bench;
    LateServer server(type, answer);
    auto asked = request(1, kV4, server.port(), type, 1000ms);
    auto health = *asked.health;
    health.payload = "hello";
    health.expect = "here";
    asked.health = std::make_shared<const config::Health>(health);
    const auto start = std::chrono::steady_clock::now();
    bench.prober.send(asked);
    while (std::chrono::steady_clock::now() < start + 50ms) bench.io.run_one_for(10ms);
    std::this_thread::sleep_until(start + until);
    bench.wait_for(1);
    return bench.outcomes.at(1);
}

}  // namespace

TEST_CASE("an answer counts by the time at which the kernel received it") {
    struct Row {
        std::string name;
        std::chrono::milliseconds answer, until;
        Cause cause;
    };
    const Row rows[] = {
        {"in time, read after the deadline", 200ms, 1300ms, Cause::kOk},
        {"in time, read long after the deadline", 200ms, 3000ms, Cause::kOk},
        {"too late, and the loop was away for less than half a timeout", 1200ms, 1400ms, Cause::kTimeout},
        {"too late, and the loop was away for longer", 1200ms, 2500ms, Cause::kNotSent},
    };
    for (const Row& row : rows) {
        for (const auto type : {config::ProbeType::kHttp, config::ProbeType::kUdp}) {
            CAPTURE(row.name);
            CAPTURE(static_cast<int>(type));
            const Outcome outcome = asked_by_a_late_loop(type, row.answer, row.until);
            CHECK(outcome.cause == row.cause);
            if (row.cause == Cause::kOk) CHECK(outcome.round_trip >= row.answer - 20ms);
            if (row.cause == Cause::kOk) CHECK(outcome.round_trip < 1000ms);
        }
    }
}

TEST_CASE("the round trip of a connect is the kernel's, however late the loop reads it") {
    Bench bench;
    Listener answers(bench.io, loopback(kV4), Behaviour::kSilent, "");
    bench.prober.send(request(1, kV4, answers.port(), config::ProbeType::kTcp, 500ms));
    std::this_thread::sleep_for(400ms);
    bench.wait_for(1);
    CHECK(bench.outcomes.at(1).cause == Cause::kOk);
    CHECK(bench.outcomes.at(1).round_trip < 200ms);
}

TEST_CASE("a probe leaves no TIME_WAIT behind") {
    Bench bench;
    Listener listener(bench.io, loopback(kV4), Behaviour::kAnswer, "HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody");
    bench.prober.send(request(1, kV4, listener.port(), config::ProbeType::kHttp));
    bench.prober.send(request(2, kV4, listener.port(), config::ProbeType::kTcp));
    bench.wait_for(2);
    bench.io.poll();
    char port[8];
    std::snprintf(port, sizeof(port), ":%04X ", listener.port().value());
    std::ifstream table("/proc/net/tcp");
    for (std::string line; std::getline(table, line);) {
        if (line.find(port) != std::string::npos) CHECK_MESSAGE(line.find(" 06 ") == std::string::npos, line);
    }
}

TEST_CASE("nothing is reported after stop") {
    Bench bench;
    Listener listener(bench.io, loopback(kV4), Behaviour::kSilent, "");
    bench.prober.send(request(1, kV4, listener.port(), config::ProbeType::kHttp, 20ms));
    bench.io.poll();
    bench.prober.stop();
    bench.prober.send(request(2, kV4, listener.port(), config::ProbeType::kHttp, 20ms));
    bench.io.run_for(60ms);
    CHECK(bench.outcomes.empty());
    CHECK(bench.prober.in_flight() == 0);
}
