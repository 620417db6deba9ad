// DNS queries, and answers of every kind.
#include "control/health/dns_message.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace detour;
using namespace std::string_literals;
using health::DnsAnswer;
using Kind = health::DnsAnswer::Kind;

namespace {

const health::DnsQuestion kQuestion{0x1234, "talk.Example", config::DnsType::kAaaa};
const std::string kAsked = "\x04talk\x07"s + "Example\0\0\x1c\0\x01"s;

std::string answer(const std::string& id, const std::string& flags, const std::string& questions,
                   const std::string& rest) {
    return id + flags + questions + "\0\0\0\0\0\0"s + rest;
}

}  // namespace

TEST_CASE("a query is one question") {
    CHECK(health::dns_query(kQuestion) == "\x12\x34\x01\0\0\x01\0\0\0\0\0\0"s + kAsked);
    CHECK(health::dns_query({1, "a.", config::DnsType::kA}).substr(12) == "\x01"s + "a\0\0\x01\0\x01"s);
}

TEST_CASE("each answer is told from the others") {
    const std::string id = "\x12\x34";
    const std::string one = "\0\x01"s;
    const std::string none = "\0\0"s;
    const std::string ok = "\x81\x80";
    const std::string lower = "\x04talk\x07"s + "example\0\0\x1c\0\x01"s;
    struct Row {
        const char* name;
        std::string bytes;
        DnsAnswer expected;
    };
    const std::vector<Row> rows = {
        {"noerror", answer(id, ok, one, kAsked), {Kind::kAnswer, 0}},
        {"nxdomain", answer(id, "\x81\x83", one, kAsked), {Kind::kAnswer, 3}},
        {"the name in another case", answer(id, ok, one, lower), {Kind::kAnswer, 0}},
        {"records behind it", answer(id, ok, one, kAsked + "whatever"), {Kind::kAnswer, 0}},
        {"truncated flag", answer(id, "\x83\x80", one, kAsked), {Kind::kAnswer, 0}},
        {"formerr without the question", answer(id, "\x81\x81", none, ""), {Kind::kAnswer, 1}},
        {"noerror without the question", answer(id, ok, none, ""), {Kind::kBad, 0}},
        {"another id", answer("\x12\x35", ok, one, kAsked), {Kind::kNotOurs, 0}},
        {"our query echoed", health::dns_query(kQuestion), {Kind::kNotOurs, 0}},
        {"another name", answer(id, ok, one, "\x04walk" + kAsked.substr(5)), {Kind::kBad, 0}},
        {"another type", answer(id, ok, one, kAsked.substr(0, 15) + "\x01\0\x01"s), {Kind::kBad, 0}},
        {"two questions", answer(id, ok, "\0\x02"s, kAsked + kAsked), {Kind::kBad, 0}},
        {"another opcode", answer(id, "\xa9\x80", one, kAsked), {Kind::kBad, 0}},
        {"question cut short", answer(id, ok, one, kAsked.substr(0, 17)), {Kind::kBad, 0}},
        {"header cut short", answer(id, ok, one, "").substr(0, 11), {Kind::kBad, 0}},
        {"id alone", id, {Kind::kBad, 0}},
        {"half an id", "\x12", {Kind::kNotOurs, 0}},
        {"nothing", "", {Kind::kNotOurs, 0}},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        CHECK(health::read_dns_answer(row.bytes, kQuestion) == row.expected);
    }
}
