// UDP and DNS probes against responders on loopback: each answer, none, a closed port.
#include <doctest/doctest.h>

#include <array>
#include <boost/asio.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "control/health/prober.h"

using namespace detour;
using namespace std::chrono_literals;
using namespace std::string_literals;
namespace asio = boost::asio;
using asio::ip::udp;
using config::ProbeType;
using health::Cause;
using health::Outcome;

namespace {

/// The datagrams that answer one, in order.
using Answers = std::function<std::vector<std::string>(const std::string& asked)>;

class Responder {
  public:
    Responder(asio::io_context& io, const std::string& address, Answers answers)
        : socket_(io, {asio::ip::make_address(address), 0}), answers_(std::move(answers)) {
        asio::co_spawn(io, serve(), asio::detached);
    }
    [[nodiscard]] api::Port port() const { return api::Port(socket_.local_endpoint().port()); }

  private:
    asio::awaitable<void> serve() {
        std::array<char, 2048> buffer;
        while (true) {
            udp::endpoint from;
            const auto size =
                co_await socket_.async_receive_from(asio::buffer(buffer), from, asio::use_awaitable);
            for (const std::string& answer : answers_(std::string(buffer.data(), size)))
                socket_.send_to(asio::buffer(answer), from);
        }
    }

    udp::socket socket_;
    Answers answers_;
};

struct Bench {
    asio::io_context io;
    std::map<std::uint64_t, Outcome> outcomes;
    health::Prober prober{io, {}, [this](std::uint64_t serial, const Outcome& outcome) {
                              CHECK(!outcomes.contains(serial));
                              outcomes[serial] = outcome;
                          }};

    Outcome probe(const std::string& address, api::Port port, config::Health health) {
        health.port = port;
        prober.send({api::BackendId(1), 7, api::IpAddress::parse(address).value(),
                     std::make_shared<config::Health>(health)});
        CHECK(outcomes.empty());  // never reported from inside send()
        const auto limit = std::chrono::steady_clock::now() + 10s;
        while (outcomes.empty() && std::chrono::steady_clock::now() < limit) io.run_one_for(100ms);
        REQUIRE(outcomes.size() == 1);
        CHECK(prober.in_flight() == 0);
        return outcomes.at(7);
    }
};

config::Health health_of(ProbeType type, std::string expect) {
    config::Health health;
    health.type = type;
    health.timeout = 5s;
    health.payload = "ping\0\xff"s;
    health.expect = std::move(expect);
    health.query = "talk.example";
    return health;
}

/// The query with the response flag and a code.
std::string dns_answer(std::string query, char rcode) {
    query[2] = static_cast<char>(query[2] | '\x80');
    query[3] = rcode;
    return query;
}

}  // namespace

TEST_CASE("each answer to a datagram has its own cause") {
    struct Row {
        const char* name;
        ProbeType type;
        std::string expect;
        Answers answers;
        Cause cause;
        std::uint16_t status = 0;
    };
    const auto echo = [](const std::string& asked) { return std::vector{asked}; };
    const auto silent = [](const std::string&) { return std::vector<std::string>{}; };
    const auto code = [](char rcode) {
        return [=](const std::string& asked) { return std::vector{dns_answer(asked, rcode)}; };
    };
    const auto late_first = [](const std::string& asked) {
        std::string late = dns_answer(asked, 2);
        late[0] = static_cast<char>(late[0] ^ 1);
        return std::vector{late, "x"s, dns_answer(asked, 0)};
    };
    const auto udp_type = ProbeType::kUdp;
    const auto dns = ProbeType::kDns;
    const std::vector<Row> rows = {
        {"udp: echo", udp_type, "ping\0"s, echo, Cause::kOk},
        {"udp: any answer", udp_type, "", echo, Cause::kOk},
        {"udp: another answer", udp_type, "pong", echo, Cause::kBadAnswer},
        {"udp: shorter than expected", udp_type, "ping\0\xff!"s, echo, Cause::kBadAnswer},
        {"udp: an empty datagram", udp_type, "", [](const auto&) { return std::vector{""s}; }, Cause::kOk},
        {"udp: silent", udp_type, "", silent, Cause::kTimeout},
        {"dns: noerror", dns, "", code(0), Cause::kOk},
        {"dns: servfail", dns, "", code(2), Cause::kBadRcode, 2},
        {"dns: a late answer and garbage first", dns, "", late_first, Cause::kOk},
        {"dns: the query echoed", dns, "", echo, Cause::kTimeout},
        {"dns: cut short", dns, "", [](const auto& q) { return std::vector{q.substr(0, 5)}; },
         Cause::kBadAnswer},
        {"dns: silent", dns, "", silent, Cause::kTimeout},
    };
    for (const char* address : {"127.0.0.1", "::1"}) {
        for (const Row& row : rows) {
            CAPTURE(address);
            CAPTURE(row.name);
            Bench bench;
            const Responder responder(bench.io, address, row.answers);
            config::Health health = health_of(row.type, row.expect);
            if (row.cause == Cause::kTimeout) health.timeout = 50ms;
            const Outcome outcome = bench.probe(address, responder.port(), health);
            CHECK(outcome.cause == row.cause);
            CHECK(outcome.status == row.status);
            CHECK((outcome.round_trip > 0ns) == (row.cause == Cause::kOk));
        }
    }
}

TEST_CASE("a wanted code other than noerror is healthy, noerror then is not") {
    for (const char rcode : {'\x00', '\x03'}) {
        Bench bench;
        const Responder responder(bench.io, "127.0.0.1", [=](const std::string& asked) {
            return std::vector{dns_answer(asked, rcode)};
        });
        config::Health health = health_of(ProbeType::kDns, "");
        health.rcode = config::DnsRcode::kNxDomain;
        const Outcome outcome = bench.probe("127.0.0.1", responder.port(), health);
        CHECK(outcome.cause == (rcode == 3 ? Cause::kOk : Cause::kBadRcode));
    }
}

TEST_CASE("a closed port is refused") {
    api::Port closed;
    {
        asio::io_context io;
        udp::socket socket(io, {asio::ip::address_v4::loopback(), 0});
        closed = api::Port(socket.local_endpoint().port());
    }
    Bench bench;
    CHECK(bench.probe("127.0.0.1", closed, health_of(ProbeType::kUdp, "")).cause == Cause::kRefused);
}
