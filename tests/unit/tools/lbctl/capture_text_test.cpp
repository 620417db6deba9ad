// What lbctl capture writes: lines, and pcapng blocks. The files themselves are read by tshark in tests/e2e.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "dataplane/api/quic_server_id.h"
#include "tools/lbctl/packet_line.h"
#include "tools/lbctl/pcapng.h"

namespace detour::lbctl {
namespace {

std::vector<std::uint8_t> bytes(std::string_view hex) {
    const std::string text = api::bytes_from_hex(hex).value();
    return {text.begin(), text.end()};
}

constexpr const char* kMacs = "020000000002020000000001";
constexpr const char* kIpv4 = "450000280001000040060000c6336407cb00710a";
constexpr const char* kTcp = "0fa001bb0000000000000000501220000000";

std::uint32_t word(const std::string& text, std::size_t at) {
    std::uint32_t value = 0;
    REQUIRE(at + 4 <= text.size());
    std::memcpy(&value, text.data() + at, 4);
    return value;
}

TEST_CASE("a frame on a line") {
    struct Row {
        std::string hex;
        const char* line;
    };
    const std::string v4 = std::string(kMacs) + "0800" + kIpv4;
    const std::string v6 = std::string(kMacs) + "86dd" + "60000000000811402001" + std::string(28, '0') +
                           "2001" + std::string(28, '0');
    const std::vector<Row> rows{
        {v4 + kTcp, "198.51.100.7:4000 > 203.0.113.10:443 tcp S."},
        {std::string(kMacs) + "81000064" + "0800" + kIpv4 + kTcp,
         "vlan 100 198.51.100.7:4000 > 203.0.113.10:443 tcp S."},
        {v4 + "0fa001", "198.51.100.7 > 203.0.113.10 tcp cut off"},
        {v4, "198.51.100.7 > 203.0.113.10 tcp cut off"},
        {v6 + "0fa0003500080000", "[2001::]:4000 > [2001::]:53 udp"},
        {std::string(kMacs) + "0806", "arp"},
        {std::string(kMacs) + "88cc", "ethertype 0x88cc"},
        {std::string(kMacs) + "080045", "ip cut off"},
        {std::string(kMacs) + "080005", "not ip"},
        {"0200", "ethernet cut off"},
    };
    for (const Row& row : rows) CHECK(packet_line(bytes(row.hex)) == row.line);
    CHECK(packet_line({}) == "ethernet cut off");
    CHECK(ip_line(bytes(std::string(kIpv4) + kTcp)) == "198.51.100.7:4000 > 203.0.113.10:443 tcp S.");
}

TEST_CASE("each port's two sides are interfaces of their own, told once") {
    Pcapng file;
    const auto frame = bytes(kMacs);
    const auto block = [&](Pcapng::Way way, const char* port) {
        return file.packet({way, port, 0x1'0000'0002ULL, frame, 60, "dropped"});
    };
    const std::string first = block(Pcapng::Way::kReceived, "eth1");
    CHECK(word(first, 0) == 1);  // an interface comes first
    const std::string second = block(Pcapng::Way::kReceived, "eth1");
    CHECK(word(second, 0) == 6);
    CHECK(word(second, 8) == 0);
    CHECK(word(second, 12) == 1);   // time, upper half
    CHECK(word(second, 16) == 2);   // and lower
    CHECK(word(second, 20) == 12);  // kept
    CHECK(word(second, 24) == 60);  // on the wire
    CHECK(word(block(Pcapng::Way::kSent, "eth1"), 0) == 1);
    CHECK(word(block(Pcapng::Way::kSent, "eth1"), 8) == 1);
    CHECK(word(block(Pcapng::Way::kSent, "eth2"), 0) == 1);
    CHECK(word(block(Pcapng::Way::kSent, "eth2"), 8) == 2);
    CHECK(first.find("eth1 in") != std::string::npos);
    CHECK(second.find("dropped") != std::string::npos);
}

}  // namespace
}  // namespace detour::lbctl
