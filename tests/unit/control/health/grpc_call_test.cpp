// The gRPC health call against canned answers of a server: HTTP/2 frames written out here, byte by byte.
#include "control/health/grpc_call.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace detour;
using namespace std::string_literals;
using health::Cause;
using health::GrpcCall;

namespace {

std::string frame(char type, char flags, char stream, const std::string& payload) {
    return std::string{'\0',
                       static_cast<char>(payload.size() >> 8U),
                       static_cast<char>(payload.size()),
                       type,
                       flags,
                       '\0',
                       '\0',
                       '\0',
                       stream} +
           payload;
}

/// HPACK: a literal without indexing, names and values as they are.
std::string field(const std::string& name, const std::string& value) {
    return "\0"s + static_cast<char>(name.size()) + name + static_cast<char>(value.size()) + value;
}

constexpr char kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kGoAway = 7;
constexpr char kEndStream = 1, kEndHeaders = 4;

const std::string kOpening = frame(kSettings, 0, 0, "");
const std::string kHead =
    frame(kHeaders, kEndHeaders, 1, field(":status", "200") + field("content-type", "application/grpc"));

std::string message(const std::string& protobuf) {
    return frame(kData, 0, 1, "\0\0\0\0"s + static_cast<char>(protobuf.size()) + protobuf);
}
std::string trailers(const std::string& status) {
    return frame(kHeaders, kEndHeaders | kEndStream, 1, field("grpc-status", status));
}

health::Outcome outcome_of(const std::string& answer, std::size_t step) {
    GrpcCall call({"talk.example", "login", false});
    CHECK(call.output().starts_with("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    for (std::size_t at = 0; at < answer.size() && !call.done(); at += step) {
        call.input(std::string_view(answer).substr(at, step));
        (void)call.output();
    }
    if (!call.done()) call.end();
    return call.outcome();
}

}  // namespace

TEST_CASE("each answer has its own cause, in one piece and byte by byte") {
    struct Row {
        const char* name;
        std::string answer;
        Cause cause;
        std::uint16_t status = 0;
    };
    const std::string serving = "\x08\x01"s;
    const std::vector<Row> rows = {
        {"serving", kOpening + kHead + message(serving) + trailers("0"), Cause::kOk, 1},
        {"not serving", kOpening + kHead + message("\x08\x02") + trailers("0"), Cause::kNotServing, 2},
        {"unknown, which protobuf leaves out", kOpening + kHead + message("") + trailers("0"),
         Cause::kNotServing, 0},
        {"a field of another number first",
         kOpening + kHead + message("\x12\x01x"s + serving) + trailers("0"), Cause::kOk, 1},
        {"no such service",
         kOpening + frame(kHeaders, kEndHeaders | kEndStream, 1,
                          field(":status", "200") + field("grpc-status", "5")),
         Cause::kBadGrpcStatus, 5},
        {"not implemented", kOpening + kHead + trailers("12"), Cause::kBadGrpcStatus, 12},
        {"serving, but the call failed", kOpening + kHead + message(serving) + trailers("13"),
         Cause::kBadGrpcStatus, 13},
        {"a web server", kOpening + frame(kHeaders, kEndHeaders | kEndStream, 1, field(":status", "404")),
         Cause::kBadStatus, 404},
        {"no trailers", kOpening + kHead + frame(kData, kEndStream, 1, "\0\0\0\0\2"s + serving),
         Cause::kBadResponse},
        {"a status that is no number", kOpening + kHead + message(serving) + trailers("ok"),
         Cause::kBadResponse},
        {"a message that is cut off",
         kOpening + kHead + frame(kData, 0, 1, "\0\0\0\0\3"s + serving) + trailers("0"), Cause::kBadResponse},
        {"a compressed message",
         kOpening + kHead + frame(kData, 0, 1, "\1\0\0\0\2"s + serving) + trailers("0"), Cause::kBadResponse},
        {"the stream is reset", kOpening + kHead + frame(kReset, 0, 1, "\0\0\0\2"s), Cause::kBadResponse},
        {"going away", kOpening + frame(kGoAway, 0, 0, "\0\0\0\0\0\0\0\1"s), Cause::kBadResponse},
        {"closes at once", "", Cause::kReset},
        {"closes after its settings", kOpening, Cause::kBadResponse},
        {"HTTP/1", "HTTP/1.1 400 Bad Request\r\n\r\n", Cause::kBadResponse},
        {"endless data", kOpening + kHead + frame(kData, 0, 1, std::string(9'000, 'x')), Cause::kBadResponse},
    };
    for (const Row& row : rows) {
        for (const std::size_t step : {std::size_t{1}, row.answer.size() + 1}) {
            CAPTURE(row.name);
            CAPTURE(step);
            const auto outcome = outcome_of(row.answer, step);
            CHECK(outcome.cause == row.cause);
            if (row.cause != Cause::kBadResponse) CHECK(outcome.status == row.status);
        }
    }
}

TEST_CASE("the request names the service") {
    CHECK(health::grpc_health_request("") == "\0\0\0\0\0"s);
    CHECK(health::grpc_health_request("login") == "\0\0\0\0\7\x0a\5login"s);
    const std::string name(200, 's');
    CHECK(health::grpc_health_request(name) == "\0\0\0\0\xcb\x0a\xc8\x01"s + name);
}

TEST_CASE("the message is read as protobuf, or refused") {
    CHECK(health::read_grpc_health("\0\0\0\0\2\x08\1"s) == 1);
    CHECK(health::read_grpc_health("\0\0\0\0\0"s) == 0);
    CHECK(health::read_grpc_health("\0\0\0\0\4\x08\1\x08\3"s) == 3);  // the last one counts
    CHECK(health::read_grpc_health("\0\0\0\0\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s) == 0xffff);
    for (const std::string& bad :
         {""s, "\0\0\0\0"s, "\0\0\0\0\1\x08"s, "\0\0\0\0\1\x80"s, "\0\0\0\0\3\x12\5x"s, "\0\0\0\0\1\x0b"s,
          "\0\xff\xff\xff\xff"s, "\0\0\0\0\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"s})
        CHECK(health::read_grpc_health(bad) < 0);
}
