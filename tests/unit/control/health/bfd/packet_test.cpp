#include "control/health/bfd/packet.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/support/random_seed.h"

using namespace detour::bfd;

namespace {

using Bytes = std::vector<std::uint8_t>;

/// Up, 50 ms x 3, ours 0x0b0c0d0e, theirs 0x01020304; written by hand from the figure in RFC 5880
/// section 4.1.
const Bytes kGood = {0x20, 0xc0, 3,    24,   1, 2, 3,    4,    0x0b, 0x0c, 0x0d, 0x0e,
                     0,    0,    0xc3, 0x50, 0, 1, 0x86, 0xa0, 0,    0,    0,    9};

Bytes with(std::size_t at, std::uint8_t value) {
    Bytes bytes = kGood;
    bytes[at] = value;
    return bytes;
}

Bytes without_discriminator(std::size_t at, std::uint8_t second_byte) {
    Bytes bytes = with(1, second_byte);
    for (std::size_t i = 0; i < 4; ++i) bytes[at + i] = 0;
    return bytes;
}

Bytes longer(Bytes bytes, std::size_t more) {
    bytes.resize(bytes.size() + more);
    return bytes;
}

}  // namespace

TEST_CASE("a packet by hand is read field by field, and written back byte by byte") {
    const auto packet = decode(kGood);
    REQUIRE(packet.has_value());
    ControlPacket expected;
    expected.state = State::kUp;
    expected.detect_mult = 3;
    expected.mine = Discriminator{0x01020304};
    expected.yours = Discriminator{0x0b0c0d0e};
    expected.desired_min_tx = microseconds{50'000};
    expected.required_min_rx = microseconds{100'000};
    expected.required_min_echo_rx = microseconds{9};
    CHECK(*packet == expected);
    const auto bytes = encode(expected);
    CHECK(Bytes(bytes.begin(), bytes.end()) == kGood);
}

TEST_CASE("each bit of the second byte, and the diagnostic, has its own field") {
    CHECK(decode(with(1, 0xe0))->poll);
    CHECK(decode(with(1, 0xd0))->final);
    CHECK(decode(with(1, 0xc8))->control_plane_independent);
    CHECK(decode(with(1, 0xc2))->demand);
    CHECK_FALSE(decode(kGood)->poll);
    CHECK(decode(with(1, 0x00))->state == State::kAdminDown);
    CHECK(decode(with(1, 0x40))->state == State::kDown);
    CHECK(decode(with(1, 0x80))->state == State::kInit);
    CHECK(decode(with(0, 0x27))->diagnostic == Diagnostic::kAdministrativelyDown);
    CHECK(decode(with(0, 0x3f))->diagnostic == static_cast<Diagnostic>(31));
    CHECK(to_string(static_cast<Diagnostic>(31)) == "reserved");
}

TEST_CASE("what RFC 5880 section 6.8.6 refuses is dropped, each for its own reason") {
    struct Row {
        std::string name;
        Bytes bytes;
        Drop expected;
    };
    const std::vector<Row> rows = {
        {"empty", {}, Drop::kTooShort},
        {"23 bytes", Bytes(kGood.begin(), kGood.end() - 1), Drop::kTooShort},
        {"version 0", with(0, 0x00), Drop::kVersion},
        {"version 2", with(0, 0x40), Drop::kVersion},
        {"length 0", with(3, 0), Drop::kLength},
        {"length 23", with(3, 23), Drop::kLength},
        {"authenticated with length 25",
         longer(
             [] {
                 Bytes bytes = with(1, 0xc4);
                 bytes[3] = 25;
                 return bytes;
             }(),
             2),
         Drop::kLength},
        {"length one above the payload", with(3, 25), Drop::kLengthBeyondPayload},
        {"length 255", with(3, 255), Drop::kLengthBeyondPayload},
        {"detect multiplier 0", with(2, 0), Drop::kDetectMultZero},
        {"multipoint", with(1, 0xc1), Drop::kMultipoint},
        {"my discriminator 0", without_discriminator(4, 0xc0), Drop::kMyDiscriminatorZero},
        {"your discriminator 0 in Up", without_discriminator(8, 0xc0), Drop::kYourDiscriminatorZero},
        {"your discriminator 0 in Init", without_discriminator(8, 0x80), Drop::kYourDiscriminatorZero},
        {"authenticated",
         longer(
             [] {
                 Bytes bytes = with(1, 0xc4);
                 bytes[3] = 26;
                 return bytes;
             }(),
             2),
         Drop::kAuthentication},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        const auto packet = decode(row.bytes);
        REQUIRE_FALSE(packet.has_value());
        CHECK(to_string(packet.error()) == to_string(row.expected));
    }
}

TEST_CASE("what looks like a mistake but is none is taken") {
    CHECK(decode(without_discriminator(8, 0x40)).has_value());  // Down without your discriminator
    CHECK(decode(without_discriminator(8, 0x00)).has_value());  // AdminDown without your discriminator
    CHECK(decode(longer(kGood, 100)).has_value());              // bytes behind the length
    Bytes long_length = longer(kGood, 6);
    long_length[3] = 30;
    CHECK(decode(long_length).has_value());
    CHECK(decode(with(2, 255)).has_value());
}

TEST_CASE("names: every reason, state and diagnostic has its own") {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < kDropCount; ++i) names.emplace_back(to_string(static_cast<Drop>(i)));
    for (std::size_t i = 0; i < names.size(); ++i)
        for (std::size_t j = 0; j < i; ++j) CHECK(names[i] != names[j]);
    CHECK(to_string(static_cast<Drop>(kDropCount)) == "unknown");
    CHECK(to_string(State::kAdminDown) == "admin-down");
    CHECK(to_string(State::kUp) == "up");
    CHECK(to_string(Diagnostic::kReverseConcatenatedPathDown) == "reverse-concatenated-path-down");
}

TEST_CASE("intervals beyond the field are cut, not wrapped") {
    ControlPacket packet = *decode(kGood);
    packet.desired_min_tx = microseconds{0x1'0000'0005};
    packet.required_min_rx = microseconds{-1};
    const auto again = decode(encode(packet));
    REQUIRE(again.has_value());
    CHECK(again->desired_min_tx == microseconds{0xffff'ffff});
    CHECK(again->required_min_rx == microseconds{0});
}

TEST_CASE("any accepted packet survives encoding unchanged") {
    std::mt19937_64 random(detour::support::random_seed());
    int accepted = 0;
    for (int i = 0; i < 200'000; ++i) {
        Bytes bytes = kGood;
        for (int flips = 0; flips < 3; ++flips)
            bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
        const auto packet = decode(bytes);
        if (!packet) continue;
        ++accepted;
        const auto again = decode(encode(*packet));
        REQUIRE(again.has_value());
        REQUIRE(*again == *packet);
    }
    CHECK(accepted > 1000);
}
