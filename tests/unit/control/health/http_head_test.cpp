// The head of an HTTP answer: every way of being cut, wrong or too long has a row.
#include "control/health/http_head.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

using namespace detour;
using health::HttpHead;
using State = health::HttpHead::State;

namespace {

struct Row {
    const char* name;
    std::string input;
    State state;
    std::uint16_t status;
};

const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

const std::vector<Row> kRows = {
    {"nothing", "", State::kMore, 0},
    {"ok", kOk, State::kDone, 200},
    {"HTTP/1.0", "HTTP/1.0 204 No Content\r\n\r\n", State::kDone, 204},
    {"no reason phrase", "HTTP/1.1 503\r\n\r\n", State::kDone, 503},
    {"bare line feeds", "HTTP/1.1 200 OK\nA: b\n\n", State::kDone, 200},
    {"folded header", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", State::kDone, 200},
    {"interim answer first", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
     State::kDone, 200},
    {"interim answer alone", "HTTP/1.1 100 Continue\r\n\r\n", State::kMore, 0},
    {"headers not ended", "HTTP/1.1 200 OK\r\nA: b\r\n", State::kMore, 0},
    {"status not ended", "HTTP/1.1 20", State::kMore, 0},
    {"another protocol", "SSH-2.0-OpenSSH_9.2\r\n", State::kBad, 0},
    {"another protocol, no line end", "SS", State::kBad, 0},
    {"HTTP/2", "HTTP/2 200\r\n\r\n", State::kBad, 0},
    {"two-digit status", "HTTP/1.1 99 Low\r\n\r\n", State::kBad, 0},
    {"four-digit status", "HTTP/1.1 2000 High\r\n\r\n", State::kBad, 0},
    {"status 099", "HTTP/1.1 099 Low\r\n\r\n", State::kBad, 0},
    {"status is text", "HTTP/1.1 abc OK\r\n\r\n", State::kBad, 0},
    {"negative status", "HTTP/1.1 -20 OK\r\n\r\n", State::kBad, 0},
    {"no blank before status", "HTTP/1.1_200 OK\r\n\r\n", State::kBad, 0},
    {"header without a colon", "HTTP/1.1 200 OK\r\nbroken\r\n\r\n", State::kBad, 0},
    {"header without a name", "HTTP/1.1 200 OK\r\n: x\r\n\r\n", State::kBad, 0},
    {"zero byte", std::string("HTTP/1.1 200 OK\r\nA: \0b\r\n\r\n", 26), State::kBad, 0},
    {"empty line first", "\r\nHTTP/1.1 200 OK\r\n\r\n", State::kBad, 0},
    {"head of the greatest size",
     "HTTP/1.1 200 OK\r\nA: " + std::string(health::kMaxHeadBytes - 24, 'x') + "\r\n\r\n", State::kDone, 200},
    {"head too long by one", "HTTP/1.1 200 OK\r\nA: " + std::string(health::kMaxHeadBytes - 20, 'x') + "\r",
     State::kBad, 0},
    {"endless header", "HTTP/1.1 200 OK\r\nA: " + std::string(100'000, 'x'), State::kBad, 0},
};

}  // namespace

TEST_CASE("an answer is read the same in one piece and byte by byte") {
    for (const auto& row : kRows) {
        CAPTURE(row.name);
        HttpHead whole;
        CHECK(whole.feed(row.input) == row.state);
        HttpHead pieces;
        auto state = State::kMore;
        for (const char c : row.input) state = pieces.feed({&c, 1});
        CHECK(state == row.state);
        if (row.state != State::kDone) continue;
        CHECK(whole.status() == row.status);
        CHECK(pieces.status() == row.status);
    }
}

TEST_CASE("no random damage of an answer breaks the reader") {
    const unsigned seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 20'000; ++round) {
        std::string bytes = kOk;
        for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
        HttpHead head;
        if (head.feed(bytes.substr(0, random() % bytes.size())) == State::kDone) CHECK(head.status() >= 200);
    }
}

TEST_CASE("the request names the host that the configuration says, or the address and port") {
    config::Health health;
    health.port = api::Port(8080);
    health.path = "/healthz";
    const auto v4 = api::IpAddress::parse("10.1.0.11").value();
    const auto v6 = api::IpAddress::parse("2001:db8::1").value();
    CHECK(health::http_request(health, v4).starts_with("GET /healthz HTTP/1.1\r\nHost: 10.1.0.11:8080\r\n"));
    CHECK(health::http_request(health, v6).find("Host: [2001:db8::1]:8080\r\n") != std::string::npos);
    health.port = api::Port(80);
    CHECK(health::http_request(health, v4).find("Host: 10.1.0.11\r\n") != std::string::npos);
    health.host = "talk.example";
    CHECK(health::http_request(health, v4).find("Host: talk.example\r\n") != std::string::npos);
    CHECK(health::http_request(health, v4).ends_with("Connection: close\r\n\r\n"));
    health.method = config::HttpMethod::kHead;
    CHECK(health::http_request(health, v4).starts_with("HEAD /healthz HTTP/1.1\r\n"));
    health.method = config::HttpMethod::kPost;
    CHECK(health::http_request(health, v4).find("Content-Length: 0\r\n") != std::string::npos);
}
