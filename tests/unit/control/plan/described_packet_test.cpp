// Described packets, read back by the fast path's own parser.
#include "control/plan/described_packet.h"

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "dataplane/core/parse.h"
#include "dataplane/core/quic.h"

namespace detour::plan {
namespace {

struct Parsed {
    std::vector<std::uint8_t> frame;
    core::Packet packet;
    core::Parsed kind = core::Parsed::kMalformed;
};

DescribedPacket described(const char* client, const char* vip) {
    DescribedPacket out;
    out.flow = {*api::IpAddress::parse(client), api::Port{40000}, *api::Vip::parse(vip), {}};
    return out;
}

Parsed parsed(const DescribedPacket& packet) {
    const auto made = make_packet(packet);
    REQUIRE(made);
    Parsed out;
    out.frame.resize(14);
    out.frame[12] = packet.flow.client.is_v6() ? 0x86 : 0x08;
    out.frame[13] = packet.flow.client.is_v6() ? 0xdd : 0x00;
    out.frame.insert(out.frame.end(), made->begin(), made->end());
    out.packet.data = out.frame.data();
    out.packet.length = static_cast<std::uint16_t>(out.frame.size());
    out.kind = core::parse(out.packet);
    return out;
}

TEST_CASE("each kind of packet is one that the fast path takes for what it is") {
    for (const auto& [client, vip] : {std::pair{"198.51.100.7", "203.0.113.10:443/tcp"},
                                      std::pair{"2001:db8::7", "[2001:db8:f::10]:443/tcp"},
                                      std::pair{"198.51.100.7", "203.0.113.10:53/udp"},
                                      std::pair{"2001:db8::7", "[2001:db8:f::10]:53/udp"}}) {
        for (const auto& [segment, flags] :
             {std::pair{Segment::kSyn, 2}, std::pair{Segment::kAck, 16}, std::pair{Segment::kData, 24},
              std::pair{Segment::kFin, 17}, std::pair{Segment::kRst, 4}}) {
            for (const std::uint32_t size : {0U, 100U, 1500U, 9978U}) {
                DescribedPacket packet = described(client, vip);
                packet.segment = segment;
                packet.size = size;
                const Parsed out = parsed(packet);
                const bool tcp = packet.flow.vip.protocol == api::Protocol::kTcp;
                REQUIRE(out.kind == core::Parsed::kTransport);
                CHECK(out.packet.protocol == (tcp ? 6 : 17));
                CHECK(out.packet.tcp_flags == (tcp ? flags : 0));
                CHECK(__builtin_bswap16(out.packet.source_port) == 40000);
                CHECK(__builtin_bswap16(out.packet.destination_port) == packet.flow.vip.port.value());
                if (size != 0) CHECK(out.packet.ip_length == size);
            }
        }
    }
}

TEST_CASE("a QUIC packet carries its connection id where a server's stands") {
    DescribedPacket packet = described("198.51.100.7", "203.0.113.10:443/udp");
    packet.flow.cid = std::string("\x51\x5a\x03\x04", 4);
    const Parsed out = parsed(packet);
    const std::size_t payload = out.packet.l4 + 8U;
    const auto cid = core::server_chosen_cid(std::span(out.frame).subspan(payload));
    REQUIRE(cid.size() >= packet.flow.cid.size());
    CHECK(std::memcmp(cid.data(), packet.flow.cid.data(), packet.flow.cid.size()) == 0);
}

TEST_CASE("sizes that hold no packet, and mixed families, are refused") {
    DescribedPacket packet = described("198.51.100.7", "203.0.113.10:443/tcp");
    for (const std::uint32_t size : {39U, 9979U}) {
        packet.size = size;
        const auto made = make_packet(packet);
        REQUIRE(!made);
        CHECK(made.error().what.find("expected 40 to 9978") != std::string::npos);
    }
    CHECK(!make_packet(described("2001:db8::7", "203.0.113.10:443/tcp")));
}

}  // namespace
}  // namespace detour::plan
