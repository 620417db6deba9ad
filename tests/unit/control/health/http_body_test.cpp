// A text in the body of an HTTP answer, however the body is delimited and cut.
#include "control/health/http_body.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace detour;
using health::HttpBody;
using health::HttpHead;
using State = health::HttpBody::State;

namespace {

struct Row {
    const char* name;
    std::string head;  ///< fields
    std::string body;
    State fed;    ///< after the bytes
    State ended;  ///< after the connection's end
};

const std::string kLength = "Content-Length: ";
const std::string kChunked = "Transfer-Encoding: chunked\r\n";

const std::vector<Row> kRows = {
    {"to the end: there", "", "all is ready here", State::kFound, State::kFound},
    {"to the end: not there", "", "all is read", State::kMore, State::kAbsent},
    {"to the end: nothing", "", "", State::kMore, State::kAbsent},
    {"length: there", kLength + "7\r\n", "a ready", State::kFound, State::kFound},
    {"length: not there", kLength + "4\r\n", "read", State::kAbsent, State::kAbsent},
    {"length: behind the end", kLength + "4\r\n", "ready", State::kAbsent, State::kAbsent},
    {"length: cut short", kLength + "9\r\n", "read", State::kMore, State::kBad},
    {"length: zero", kLength + "0\r\n", "ready", State::kAbsent, State::kAbsent},
    {"length: case of the name", "content-LENGTH:4\r\n", "read", State::kAbsent, State::kAbsent},
    {"length: no number", kLength + "-1\r\n", "ready", State::kFound, State::kFound},
    {"chunked: there", kChunked, "5\r\nready\r\n0\r\n\r\n", State::kFound, State::kFound},
    {"chunked: over two chunks", kChunked, "3\r\nrea\r\n2;x=y\r\ndy\r\n0\r\n\r\n", State::kFound,
     State::kFound},
    {"chunked: not there", kChunked, "4\r\nread\r\n0\r\n\r\n", State::kAbsent, State::kAbsent},
    {"chunked: the text as a size's extension", kChunked, "1;ready\r\nx\r\n0\r\n\r\n", State::kAbsent,
     State::kAbsent},
    {"chunked: stronger than a length", kChunked + kLength + "3\r\n", "A\r\n12345ready\r\n", State::kFound,
     State::kFound},
    {"chunked: no size", kChunked, "ready\r\n", State::kBad, State::kBad},
    {"chunked: size of 16 digits", kChunked, "1234567890123456\r\n", State::kBad, State::kBad},
    {"chunked: more data than said", kChunked, "1\r\nxy\r\n", State::kBad, State::kBad},
    {"chunked: cut short", kChunked, "9\r\nrea", State::kMore, State::kBad},
    {"chunked: endless size line", kChunked, std::string(300, '0'), State::kBad, State::kBad},
    {"last byte that is looked at", "", std::string(health::kMaxBodyBytes - 5, 'x') + "ready", State::kFound,
     State::kFound},
    {"one byte too far", "", std::string(health::kMaxBodyBytes - 4, 'x') + "ready", State::kAbsent,
     State::kAbsent},
};

}  // namespace

TEST_CASE("a body is looked through the same in one piece and byte by byte") {
    for (const Row& row : kRows) {
        CAPTURE(row.name);
        HttpHead head;
        const std::string head_text = "HTTP/1.1 200 OK\r\n" + row.head + "\r\n";
        REQUIRE(head.feed(head_text + row.body) == HttpHead::State::kDone);
        CHECK(head.size() == head_text.size());
        HttpBody whole("ready", head.framing());
        CHECK(whole.feed(row.body) == row.fed);
        CHECK(whole.end() == row.ended);
        HttpBody pieces("ready", head.framing());
        for (const char c : row.body) (void)pieces.feed({&c, 1});
        CHECK(pieces.end() == row.ended);
    }
}

TEST_CASE("the fields of an interim answer say nothing about the final one's body") {
    HttpHead head;
    REQUIRE(head.feed("HTTP/1.1 103 Hints\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\n\r\n") ==
            HttpHead::State::kDone);
    CHECK_FALSE(head.framing().length.has_value());
}
