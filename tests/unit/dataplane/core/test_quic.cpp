// QUIC headers without keys, and server ids in connection ids.
#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "dataplane/core/quic.h"
#include "dataplane/core/tables.h"
#include "tests/support/quic_packets.h"
#include "tests/support/random_seed.h"

using namespace detour;
using namespace detour::support;

namespace {

const Bytes kCid{0x05, 0xaa, 0xbb, 1, 2, 3, 4, 5, 6};

Bytes cid_of(const Bytes& datagram) {
    // Exactly as much memory as there is datagram, so that a sanitizer sees a read beyond it.
    const Bytes copy(datagram.begin(), datagram.end());
    const auto cid = core::server_chosen_cid(copy);
    return {cid.begin(), cid.end()};
}

Bytes first(const Bytes& bytes, std::size_t count) {
    return {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count)};
}

api::QuicServerId id(unsigned rotation, const Bytes& bytes) {
    return *api::QuicServerId::make(rotation, std::string(bytes.begin(), bytes.end()));
}

}  // namespace

TEST_CASE("a connection id is read where a server must have chosen it") {
    using enum QuicType;
    struct Row {
        const char* name;
        Bytes datagram;
        Bytes want;
    };
    const Bytes twenty(20, 7);
    const Bytes twenty_one(21, 7);
    const Bytes rest{0xee, 0xee};
    const std::vector<Row> rows{
        {"nothing", {}, {}},
        {"a short header alone", {0x40}, {}},
        {"a short header", quic_short(twenty), twenty},
        {"a short header with less than 20 bytes", quic_short({9, 8}, 1), {9, 8, 0xee}},
        {"a short header with the fixed bit greased (RFC 9287)", quic_short(twenty, 4, 0x05), twenty},
        {"a Handshake of version 1", quic_long(kHandshake, kQuic1, kCid), kCid},
        {"a Handshake of version 2", quic_long(kHandshake, kQuic2, kCid), kCid},
        {"the longest id", quic_long(kHandshake, kQuic1, twenty), twenty},
        {"longer than any", quic_long(kHandshake, kQuic1, twenty_one), {}},
        {"a Handshake without an id", quic_long(kHandshake, kQuic1, {}), {}},
        {"an Initial of version 1", quic_long(kInitial, kQuic1, kCid), {}},
        {"an Initial of version 2", quic_long(kInitial, kQuic2, kCid), {}},
        {"0-RTT of version 1", quic_long(kZeroRtt, kQuic1, kCid), {}},
        {"0-RTT of version 2", quic_long(kZeroRtt, kQuic2, kCid), {}},
        {"a Retry, which clients don't send", quic_long(kRetry, kQuic1, kCid), {}},
        {"an unknown version", quic_long(kHandshake, 0xff00001d, kCid), {}},
        {"version 0, which clients don't send", quic_long(kHandshake, 0, kCid), {}},
        {"only a first byte", {0xe0}, {}},
        {"cut before the id's length", first(quic_long(kHandshake, kQuic1, kCid), 5), {}},
        {"cut after the id's length", first(quic_long(kHandshake, kQuic1, kCid), 6), {}},
        {"cut in the id", first(quic_long(kHandshake, kQuic1, kCid), 6 + kCid.size() - 1), {}},
        {"cut behind the id", first(quic_long(kHandshake, kQuic1, kCid), 6 + kCid.size()), kCid},
    };
    for (const Row& row : rows) {
        INFO(row.name);
        CHECK(cid_of(row.datagram) == row.want);
    }
}

TEST_CASE("a server id is found by its configuration and length") {
    core::QuicServers servers(4);
    servers.insert(id(0, {0xaa}), 10);
    servers.insert(id(0, {0xab}), 11);
    servers.insert(id(3, {0xaa, 0x01, 0x02}), 12);
    servers.insert(id(6, Bytes(15, 0)), 13);
    const auto find = [&](const Bytes& cid) { return servers.find(cid); };
    CHECK(find(quic_lb_cid(0, {0xaa})) == 10);
    CHECK(find(quic_lb_cid(0, {0xab}, 31)) == 11);
    CHECK(find(quic_lb_cid(3, {0xaa, 0x01, 0x02})) == 12);
    CHECK(find(quic_lb_cid(6, Bytes(15, 0), 0, 4)) == 13);
    CHECK_MESSAGE(find(quic_lb_cid(0, {0xac})) == core::kNoBackendId, "nobody's id");
    CHECK_MESSAGE(find(quic_lb_cid(1, {0xaa})) == core::kNoBackendId, "a configuration that is not in use");
    CHECK_MESSAGE(find(quic_lb_cid(3, {0xaa, 0x01, 0x03})) == core::kNoBackendId, "its last byte differs");
    CHECK_MESSAGE(find(quic_lb_cid(7, {0xaa})) == core::kNoBackendId, "7: no configuration");
    CHECK_MESSAGE(find(quic_lb_cid(0, {0xaa}, 0, 4)) == 10, "the shortest nonce");
    CHECK_MESSAGE(find(quic_lb_cid(0, {0xaa}, 0, 3)) == core::kNoBackendId, "too short for a nonce");
    CHECK(find({}) == core::kNoBackendId);
    CHECK(core::QuicServers().empty());
    CHECK_FALSE(servers.empty());
}

TEST_CASE("of 65,535 server ids each finds its backend, and others find none") {
    std::mt19937_64 random(random_seed());
    core::QuicServers servers(65535);
    for (unsigned i = 0; i < 65535; ++i)
        servers.insert(id(i % 7, {static_cast<std::uint8_t>(i), static_cast<std::uint8_t>(i >> 8U), 0}),
                       static_cast<std::uint16_t>(i));
    for (unsigned i = 0; i < 65535; ++i) {
        const Bytes bytes{static_cast<std::uint8_t>(i), static_cast<std::uint8_t>(i >> 8U), 0};
        REQUIRE(servers.find(quic_lb_cid(i % 7, bytes)) == i);
        REQUIRE(servers.find(quic_lb_cid((i + 1) % 7, bytes)) == core::kNoBackendId);
        const Bytes other{bytes[0], bytes[1], static_cast<std::uint8_t>(1 + random() % 255)};
        REQUIRE(servers.find(quic_lb_cid(i % 7, other)) == core::kNoBackendId);
    }
}

TEST_CASE("a server id's text: hex digits, its configuration before a colon") {
    for (const char* text : {"0a", "00ff", "6:0102030405060708090a0b0c0d0e0f", "1:0a"}) {
        const auto read = api::QuicServerId::parse(text);
        REQUIRE(read.has_value());
        CHECK(read->to_string() == text);
    }
    CHECK(api::QuicServerId::parse("0:0A")->to_string() == "0a");
    CHECK(api::QuicServerId::parse("5:0A0b")->rotation() == 5);
    for (const char* text : {"", "0", "0a0", "0g", "0x0a", "7:0a", "10:0a", "-1:0a", ":0a", "1:", "0a:1",
                             " 0a", "+a", "000102030405060708090a0b0c0d0e0f"}) {
        INFO(text);
        CHECK_FALSE(api::QuicServerId::parse(text).has_value());
    }
}
