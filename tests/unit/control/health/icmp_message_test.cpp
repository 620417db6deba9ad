// Echo requests and what counts as their answer; and echo probes of this host's own loopback.
#include "control/health/icmp_message.h"

#include <doctest/doctest.h>

#include <boost/asio.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "control/health/prober.h"

using namespace detour;
using namespace std::chrono_literals;
using namespace std::string_literals;
using health::answers_echo;
using health::Echo;
using health::EchoBytes;

namespace {

const Echo kEcho{false, 0x1234, 7, 0x0102030405060708ULL};

std::string answer_to(const Echo& echo, std::size_t size = 64) {
    std::string bytes = health::echo_request(echo, size);
    bytes[0] = static_cast<char>(echo.v6 ? 129 : 0);
    return bytes;
}

}  // namespace

TEST_CASE("an echo request is well formed") {
    const std::string bytes = health::echo_request(kEcho, 20);
    CHECK(bytes.substr(0, 2) == "\x08\x00"s);
    CHECK(bytes.substr(4, 12) == "\x12\x34\x00\x07\x01\x02\x03\x04\x05\x06\x07\x08"s);
    CHECK(bytes.size() == 20);
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < bytes.size(); i += 2)
        sum += static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i]) << 8U |
                                          static_cast<unsigned char>(bytes[i + 1]));
    CHECK((sum & 0xffffU) + (sum >> 16U) == 0xffff);
    CHECK(health::echo_request(kEcho, 0).size() == health::kLeastEchoBytes);
    CHECK(health::echo_request({true, 1, 1, 1}, 16).substr(0, 4) == "\x80\x00\x00\x00"s);
}

TEST_CASE("only the answer to this very echo counts") {
    struct Row {
        const char* name;
        std::function<void(std::string&)> change;
        bool good;
    };
    const std::vector<Row> rows = {
        {"as it is", [](std::string&) {}, true},
        {"another identifier", [](std::string& b) { b[4] = 9; }, false},
        {"another sequence", [](std::string& b) { b[7] = 9; }, false},
        {"another cookie", [](std::string& b) { b[15] = 9; }, false},
        {"the request itself", [](std::string& b) { b[0] = 8; }, false},
        {"unreachable", [](std::string& b) { b[0] = 3; }, false},
        {"another code", [](std::string& b) { b[1] = 1; }, false},
        {"cut off in the cookie", [](std::string& b) { b.resize(15); }, false},
        {"cut off behind it", [](std::string& b) { b.resize(16); }, true},
        {"empty", [](std::string& b) { b.clear(); }, false},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        std::string bytes = answer_to(kEcho);
        row.change(bytes);
        CHECK(answers_echo(bytes, EchoBytes::kMessage, kEcho) == row.good);
        const std::string with_header = "\x46"s + std::string(23, '\0') + bytes;
        CHECK(answers_echo(with_header, EchoBytes::kPacket, kEcho) == row.good);
    }
    CHECK_FALSE(answers_echo(std::string(19, '\x45'), EchoBytes::kPacket, kEcho));
    CHECK_FALSE(answers_echo("\x44"s + std::string(80, '\0'), EchoBytes::kPacket, kEcho));
    Echo any = kEcho;
    any.identifier = 0;
    CHECK(answers_echo(answer_to(kEcho), EchoBytes::kMessage, any));
}

TEST_CASE("this host's loopback answers echoes, an address without a host does not") {
    for (const char* text : {"127.0.0.1", "::1", "240.0.0.1"}) {
        CAPTURE(text);
        boost::asio::io_context io;
        std::optional<health::Outcome> outcome;
        health::Prober prober(io, {}, [&](std::uint64_t, const health::Outcome& seen) { outcome = seen; });
        auto health = std::make_shared<config::Health>();
        health->type = config::ProbeType::kIcmp;
        health->timeout = text[0] == '2' ? 50ms : 5s;
        prober.send({api::BackendId(1), 77, api::IpAddress::parse(text).value(), health});
        const auto limit = std::chrono::steady_clock::now() + 10s;
        while (!outcome && std::chrono::steady_clock::now() < limit) io.run_one_for(100ms);
        REQUIRE(outcome);
        // The class of 240/4 has no route, or one that leads nowhere.
        CHECK((outcome->cause == health::Cause::kOk) == (text[0] != '2'));
        CHECK(prober.in_flight() == 0);
    }
}
