// Frames on a byte stream: any split of the bytes gives the same payloads.
#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "dataplane/api/framing.h"
#include "dataplane/api/limits.h"
#include "tests/support/random_seed.h"

using namespace detour;
using api::FrameReader;

namespace {

/// Everything that `reader` has whole.
std::vector<std::string> drain(FrameReader& reader) {
    std::vector<std::string> out;
    while (true) {
        auto payload = reader.next();
        REQUIRE(payload.has_value());
        if (!payload->has_value()) return out;
        out.push_back(**payload);
    }
}

}  // namespace

TEST_CASE("a frame is the length in four bytes, big endian, then the payload") {
    CHECK(api::frame("") == std::string(4, '\0'));
    CHECK(api::frame("abc") == std::string("\0\0\0\3abc", 7));
    CHECK(api::frame(std::string(0x010203, 'x')).substr(0, 4) == std::string("\0\1\2\3", 4));
}

TEST_CASE("payloads come out whole and in order however the stream is cut") {
    std::mt19937_64 random(support::random_seed());
    for (int round = 0; round < 100; ++round) {
        std::vector<std::string> sent;
        std::string stream;
        for (int i = 0; i < 20; ++i) {
            sent.emplace_back(random() % 5 == 0 ? 0 : random() % 20'000, static_cast<char>('a' + i));
            stream += api::frame(sent.back());
        }
        FrameReader reader;
        std::vector<std::string> got;
        for (std::size_t at = 0; at < stream.size();) {
            const std::size_t n = 1 + random() % (round % 2 == 0 ? 7'000 : 70'000);
            reader.feed(std::string_view(stream).substr(at, n));
            at += n;
            if (random() % 3 == 0) continue;  // let some frames pile up
            for (std::string& payload : drain(reader)) got.push_back(std::move(payload));
        }
        for (std::string& payload : drain(reader)) got.push_back(std::move(payload));
        CHECK(got == sent);
    }
}

TEST_CASE("a frame comes out with its last byte and not before") {
    FrameReader reader;
    const std::string bytes = api::frame("hello");
    for (std::size_t i = 0; i + 1 < bytes.size(); ++i) {
        reader.feed(bytes.substr(i, 1));
        CHECK(drain(reader).empty());
    }
    reader.feed(bytes.substr(bytes.size() - 1));
    CHECK(drain(reader) == std::vector<std::string>{"hello"});
}

TEST_CASE("the longest message is taken, one byte more is refused at its length") {
    FrameReader reader;
    std::string head = api::frame("").replace(0, 4, "\x04\0\0\0", 4);  // kMaxMessageBytes
    static_assert(api::kMaxMessageBytes == 0x04000000);
    reader.feed(head);
    CHECK(drain(reader).empty());
    FrameReader other;
    head[3] = 1;
    other.feed(head);
    const auto refused = other.next();
    REQUIRE(!refused.has_value());
    CHECK(refused.error().code == api::ErrorCode::kLimit);
}
