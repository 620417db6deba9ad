// A probe's packet comes out encapsulated as the fast path would have done it.
#include "control/health/tunnel_packet.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/core/bytes.h"

using namespace detour;
using health::ProbeRequest;
using health::TunnelPacket;

namespace {

api::IpAddress address(const char* text) {
    return api::IpAddress::parse(text).value();
}

ProbeRequest asked(const char* backend, const char* vip, api::Encap encap, std::uint32_t mtu = 1500) {
    ProbeRequest request;
    request.address = address(backend);
    request.tunnel = health::ProbeTunnel{address(vip), encap, mtu};
    return request;
}

using Bytes = std::vector<std::uint8_t>;

/// An IP packet to the VIP; `payload` behind the IP header.
Bytes packet(const char* vip, std::uint8_t protocol, const Bytes& payload) {
    const auto to = address(vip);
    const auto from = address(to.is_v6() ? "2001:db8:8::2" : "10.8.0.2");
    Bytes out;
    if (to.is_v6()) {
        out = {0x60, 0, 0, 0, 0, static_cast<std::uint8_t>(payload.size()), protocol, 64};
    } else {
        out = {0x45, 0, 0, static_cast<std::uint8_t>(20 + payload.size()), 0, 0, 0x40, 0, 64, protocol, 0, 0};
    }
    out.insert(out.end(), from.bytes().begin(), from.bytes().begin() + static_cast<long>(from.size()));
    out.insert(out.end(), to.bytes().begin(), to.bytes().begin() + static_cast<long>(to.size()));
    if (!to.is_v6()) {
        std::uint32_t sum = 0;
        for (std::size_t i = 0; i < 20; i += 2) sum += static_cast<std::uint32_t>(out[i] << 8U | out[i + 1]);
        core::store_be16(out.data() + 10, static_cast<std::uint16_t>(~((sum & 0xffffU) + (sum >> 16U))));
    }
    out.insert(out.end(), payload.begin(), payload.end());
    return out;
}

/// A SYN from port 40000 to 80.
const Bytes kSyn{0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0};

std::optional<health::ProbeKey> read(TunnelPacket& into, const Bytes& bytes) {
    std::copy(bytes.begin(), bytes.end(), into.room().begin());
    return into.read(bytes.size());
}

}  // namespace

TEST_CASE("each encapsulation over each family holds the packet unchanged") {
    struct Row {
        const char* backend;
        const char* vip;
        api::Encap encap;
        std::size_t header;
        std::uint8_t protocol;
    };
    const char* b4 = "10.1.0.11";
    const char* b6 = "2001:db8:1::11";
    const char* v4 = "203.0.113.10";
    const char* v6 = "2001:db8:f::10";
    using enum api::Encap;
    const std::vector<Row> rows = {
        {b4, v4, kGue, 28, 17}, {b6, v4, kGue, 48, 17}, {b4, v6, kGue, 28, 17},  {b6, v6, kGue, 48, 17},
        {b4, v4, kIpip, 20, 4}, {b6, v4, kIpip, 40, 4}, {b4, v6, kIpip, 20, 41}, {b6, v6, kIpip, 40, 41},
        {b4, v4, kGre, 24, 47}, {b6, v4, kGre, 44, 47}, {b4, v6, kGre, 24, 47},  {b6, v6, kGre, 44, 47},
    };
    auto made = std::make_unique<TunnelPacket>();
    const core::HashSeed seed = core::make_hash_seed(api::FleetSeed::from_text("a seed"));
    for (const Row& row : rows) {
        CAPTURE(row.backend);
        CAPTURE(row.vip);
        CAPTURE(row.header);
        const auto request = asked(row.backend, row.vip, row.encap);
        const bool outer_v6 = request.address.is_v6();
        const auto source = address(outer_v6 ? "2001:db8:8::1" : "192.0.2.1");
        const auto end = health::make_tunnel_end(request, source);
        const Bytes inner = packet(row.vip, 6, kSyn);
        const auto key = read(*made, inner);
        REQUIRE(key);
        CHECK(*key == health::ProbeKey{6, request.tunnel->vip.is_v6(), 40'000});
        const auto outer = made->wrap(end, seed);
        REQUIRE(outer.size() == row.header + inner.size());
        CHECK(std::equal(inner.begin(), inner.end(), outer.begin() + static_cast<long>(row.header)));
        CHECK(outer[outer_v6 ? 6 : 9] == row.protocol);
        const std::size_t at = outer_v6 ? 8 : 12;
        CHECK(std::equal(source.bytes().begin(), source.bytes().begin() + static_cast<long>(source.size()),
                         outer.begin() + static_cast<long>(at)));
        CHECK(std::equal(request.address.bytes().begin(),
                         request.address.bytes().begin() + static_cast<long>(source.size()),
                         outer.begin() + static_cast<long>(at + source.size())));
        CHECK(health::largest_inner(request) == 1500 - row.header);
    }
}

TEST_CASE("a packet of exactly the tunnel's size passes, one byte more does not") {
    auto made = std::make_unique<TunnelPacket>();
    const core::HashSeed seed = core::make_hash_seed(api::FleetSeed::from_text("a seed"));
    const Bytes inner = packet("203.0.113.10", 6, kSyn);
    for (const std::uint32_t less : {0U, 1U}) {
        const auto mtu = static_cast<std::uint32_t>(inner.size()) + 28 - less;
        const auto end = health::make_tunnel_end(asked("10.1.0.11", "203.0.113.10", api::Encap::kGue, mtu),
                                                 address("192.0.2.1"));
        REQUIRE(read(*made, inner));
        CHECK(made->wrap(end, seed).empty() == (less == 1));
    }
}

TEST_CASE("what is no packet of a probe has no key") {
    const Bytes echo{8, 0, 0, 0, 0x12, 0x34, 0, 1, 0, 0, 0, 0};
    Bytes answer = echo;
    answer[0] = 0;
    Bytes echo6 = echo;
    echo6[0] = 128;
    const Bytes udp{0x9c, 0x40, 0, 53, 0, 8, 0, 0};
    struct Row {
        const char* name;
        Bytes bytes;
        std::optional<health::ProbeKey> key;
    };
    const char* v4 = "203.0.113.10";
    const char* v6 = "2001:db8:f::10";
    Bytes cut = packet(v4, 6, kSyn);
    cut.resize(30);
    const std::vector<Row> rows = {
        {"udp", packet(v4, 17, udp), health::ProbeKey{17, false, 40'000}},
        {"echo", packet(v4, 1, echo), health::ProbeKey{1, false, 0x1234}},
        {"echo over IPv6", packet(v6, 58, echo6), health::ProbeKey{58, true, 0x1234}},
        {"echo answer", packet(v4, 1, answer), std::nullopt},
        {"echo cut off", packet(v4, 1, {8, 0, 0, 0, 0x12}), std::nullopt},
        {"router solicitation", packet(v6, 58, {133, 0, 0, 0, 0, 0, 0, 0}), std::nullopt},
        {"another protocol", packet(v4, 89, udp), std::nullopt},
        {"cut off", cut, std::nullopt},
        {"nothing", {}, std::nullopt},
        {"one byte", {0x45}, std::nullopt},
        {"no IP", Bytes(60, 0), std::nullopt},
    };
    auto made = std::make_unique<TunnelPacket>();
    for (const Row& row : rows) {
        CAPTURE(row.name);
        CHECK((read(*made, row.bytes) == row.key));
    }
    CHECK_FALSE(made->read(made->room().size() + 1));
}
