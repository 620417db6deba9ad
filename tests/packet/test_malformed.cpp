// Bad packets: each ends in a counted reason, none is read beyond its end (buffers are exact: ASan would see
// it).
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "dataplane/core/parse_plain.h"
#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using api::Reason;

namespace {

Frame v4() {
    return Frame().ether(kRouterMac, kHostMac).ipv4("198.51.100.7", "203.0.113.10");
}
Frame v6() {
    return Frame().ether(kRouterMac, kHostMac).ipv6("2001:db8:c::7", "2001:db8:f::10");
}
Frame from4(std::string_view source) {
    return Frame().ether(kRouterMac, kHostMac).ipv4(source, "203.0.113.10");
}
Frame from6(std::string_view source) {
    return Frame().ether(kRouterMac, kHostMac).ipv6(source, "2001:db8:f::10");
}
TcpFields syn() {
    return {.source = 40000, .destination = 443, .flags = kSyn};
}
TcpFields flags(std::uint8_t f) {
    return {.source = 40000, .destination = 443, .flags = f};
}

Bytes with(Bytes bytes, std::size_t at, std::uint8_t value) {
    bytes.at(at) = value;
    return bytes;
}

/// Sets a byte of the IPv4 header and makes its checksum right again.
Bytes with_ip(Bytes bytes, std::size_t at, std::uint8_t value) {
    bytes.at(14 + at) = value;
    bytes[24] = bytes[25] = 0;
    const std::size_t header = std::min<std::size_t>((bytes[14] & 0xfU) * 4U, bytes.size() - 14);
    const std::uint16_t sum =
        plain_checksum(Bytes(bytes.begin() + 14, bytes.begin() + 14 + static_cast<std::ptrdiff_t>(header)));
    bytes[24] = static_cast<std::uint8_t>(sum >> 8U);
    bytes[25] = static_cast<std::uint8_t>(sum);
    return bytes;
}

Frame extensions(unsigned count) {
    Frame frame = v6();
    for (unsigned i = 0; i < count; ++i) frame.extension(60);
    return frame.tcp(syn());
}

struct Row {
    const char* name;
    Bytes frame;
    Reason reason;
};

std::vector<Row> rows() {
    const Bytes tcp4 = v4().tcp(syn()).bytes();
    const Bytes tcp6 = v6().tcp(syn()).bytes();
    const Bytes udp4 = v4().udp(5353, 53).payload(4).bytes();
    const Bytes udp6 = v6().udp(5353, 53).payload(4).bytes();
    return {
        {"no byte", {}, Reason::kTruncatedEthernet},
        {"13 bytes", Bytes(13), Reason::kTruncatedEthernet},
        {"tag cut off", Bytes(Frame().ether(kRouterMac, kHostMac).vlan(1).bytes()),
         Reason::kTruncatedEthernet},
        {"v4 header cut off", Bytes(tcp4.begin(), tcp4.begin() + 33), Reason::kTruncatedIp},
        {"v6 header cut off", Bytes(tcp6.begin(), tcp6.begin() + 53), Reason::kTruncatedIp},
        {"v6 in an IPv4 frame", with(tcp4, 14, 0x65), Reason::kBadIpVersion},
        {"v4 in an IPv6 frame", with(tcp6, 14, 0x45), Reason::kBadIpVersion},
        {"IHL 4", with_ip(tcp4, 0, 0x44), Reason::kBadIpHeaderLength},
        {"IHL beyond the total length", with_ip(v4().udp(1, 53).bytes(), 0, 0x48), Reason::kTruncatedIp},
        {"total length above the frame", with_ip(tcp4, 3, 41), Reason::kBadIpTotalLength},
        {"total length below the header", with_ip(tcp4, 3, 19), Reason::kBadIpTotalLength},
        {"IPv4 checksum", with(tcp4, 24, static_cast<std::uint8_t>(tcp4[24] ^ 1U)), Reason::kBadIpChecksum},
        {"v6 payload length above the frame", with(tcp6, 19, 21), Reason::kBadIpTotalLength},
        {"source 0.0.0.0", from4("0.0.0.0").tcp(syn()).bytes(), Reason::kBadSource},
        {"source loopback", from4("127.0.0.1").tcp(syn()).bytes(), Reason::kBadSource},
        {"source multicast", from4("224.0.0.1").tcp(syn()).bytes(), Reason::kBadSource},
        {"source broadcast", from4("255.255.255.255").tcp(syn()).bytes(), Reason::kBadSource},
        {"source ::", from6("::").tcp(syn()).bytes(), Reason::kBadSource},
        {"source ::1", from6("::1").tcp(syn()).bytes(), Reason::kBadSource},
        {"source ff02::1", from6("ff02::1").tcp(syn()).bytes(), Reason::kBadSource},
        {"9 extension headers", extensions(9).bytes(), Reason::kTooManyExtensions},
        {"8 extension headers", extensions(8).bytes(), Reason::kForwardedNew},
        {"hop-by-hop, routing, AH", v6().extension(0).extension(43).extension(51, 1).tcp(syn()).bytes(),
         Reason::kForwardedNew},
        {"extension beyond the packet", with(v6().extension(60).tcp(syn()).bytes(), 55, 3),
         Reason::kTruncatedIp},
        {"TCP of 19 bytes", with_ip(Bytes(tcp4.begin(), tcp4.end() - 1), 3, 39), Reason::kTruncatedTcp},
        {"data offset 4", with(tcp4, 46, 0x40), Reason::kBadTcpOffset},
        {"data offset beyond", with(tcp4, 46, 0x60), Reason::kBadTcpOffset},
        {"v6 data offset beyond", with(tcp6, 66, 0x60), Reason::kBadTcpOffset},
        {"no TCP flag", v4().tcp(flags(0)).bytes(), Reason::kBadTcpFlags},
        {"SYN FIN", v4().tcp(flags(kSyn | kFin)).bytes(), Reason::kBadTcpFlags},
        {"SYN RST", v6().tcp(flags(kSyn | kRst)).bytes(), Reason::kBadTcpFlags},
        {"FIN alone", v4().tcp(flags(kFin)).bytes(), Reason::kBadTcpFlags},
        {"UDP of 7 bytes", with_ip(Bytes(udp4.begin(), udp4.end() - 5), 3, 27), Reason::kTruncatedUdp},
        {"UDP length 7", with(udp4, 39, 7), Reason::kBadUdpLength},
        {"UDP length beyond", with(udp4, 39, 13), Reason::kBadUdpLength},
        {"v6 UDP length beyond", with(udp6, 59, 13), Reason::kBadUdpLength},
        {"first fragment, not a multiple of 8", with_ip(tcp4, 6, 0x20), Reason::kBadFragment},
        {"v6 first fragment, not a multiple of 8", v6().fragment(1).tcp(syn()).bytes(), Reason::kBadFragment},
        {"v6 atomic fragment", v6().fragment(0).tcp(syn()).bytes(), Reason::kForwardedNew},
        {"reserved IPv4 flag", with_ip(tcp4, 6, 0xc0), Reason::kForwardedNew},
        {"another port of the VIP", v4().tcp({.source = 1, .destination = 22, .flags = kSyn}).bytes(),
         Reason::kNoService},
        {"UDP to a TCP VIP", v4().udp(1, 443).bytes(), Reason::kNoService},
        {"another address",
         Frame().ether(kRouterMac, kHostMac).ipv4("198.51.100.7", "203.0.113.11").tcp(syn()).bytes(),
         Reason::kNotOurs},
        {"fragment to another address",
         with_ip(Frame().ether(kRouterMac, kHostMac).ipv4("198.51.100.7", "203.0.113.11").tcp(syn()).bytes(),
                 6, 0x20),
         Reason::kNotOurs},
        {"ARP", with(with(Bytes(60), 12, 0x08), 13, 0x06), Reason::kNotOurs},
        {"another protocol", with_ip(tcp4, 9, 132), Reason::kNotOurs},
        {"three VLAN tags",
         Frame()
             .ether(kRouterMac, kHostMac)
             .vlan(1)
             .vlan(2)
             .vlan(3)
             .ipv4("198.51.100.7", "203.0.113.10")
             .tcp(syn())
             .bytes(),
         Reason::kNotOurs},
        {"echo request", v4().icmp(8, 0, 1).payload(8).bytes(), Reason::kEchoAnswered},
        {"v6 echo request", v6().icmp(128, 0, 1).payload(8).bytes(), Reason::kEchoAnswered},
        {"v6 duplicate address detection",
         Frame().ether(kRouterMac, kHostMac).ipv6("::", "ff02::1:ff00:1").icmp(135, 0, 0).payload(16).bytes(),
         Reason::kNotOurs},
        {"v6 without a source, to a VIP",
         Frame().ether(kRouterMac, kHostMac).ipv6("::", "2001:db8:f::10").tcp(syn()).bytes(),
         Reason::kBadSource},
        {"DHCP",
         Frame()
             .ether(kRouterMac, kHostMac)
             .ipv4("0.0.0.0", "255.255.255.255")
             .udp(68, 67)
             .payload(300)
             .bytes(),
         Reason::kNotOurs},
        {"echo reply", v4().icmp(0, 0, 1).payload(8).bytes(), Reason::kIcmpToKernel},
        {"v6 neighbour solicitation", v6().icmp(135, 0, 0).payload(16).bytes(), Reason::kIcmpToKernel},
    };
}

}  // namespace

TEST_CASE("each malformed, unknown or odd packet has its own reason") {
    FastPath fast(make_plan());
    for (const Row& row : rows()) {
        CAPTURE(row.name);
        const std::uint64_t before = fast.count(row.reason);
        Bytes frame = row.frame;
        if (std::string_view(row.name) == "tag cut off") frame.resize(15);
        const Out out = fast.send(frame);
        CHECK(api::info(out.reason).name == api::info(row.reason).name);
        CHECK(fast.count(row.reason) == before + 1);
        CHECK(out.verdict != core::Verdict::kPending);
    }
}

TEST_CASE("cut at every byte: always a counted reason, never forwarded") {
    const Bytes frames[] = {
        v4().tcp(syn()).bytes(),
        v4().udp(5353, 53).payload(20).bytes(),
        v6().extension(0).extension(43, 1).tcp(syn()).bytes(),
        v6().udp(5353, 53).payload(20).bytes(),
        Frame()
            .ether(kRouterMac, kHostMac)
            .vlan(1)
            .vlan(2)
            .ipv4("198.51.100.7", "203.0.113.10")
            .tcp(syn())
            .bytes(),
        v4().icmp(3, 4, 1400).inner(v4().tcp(syn()).bytes()).bytes(),
    };
    FastPath fast(make_plan());
    std::uint64_t sent = 0;
    for (const Bytes& whole : frames) {
        for (std::size_t length = 0; length < whole.size(); ++length) {
            const Out out =
                fast.send(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)));
            ++sent;
            CHECK(out.verdict == core::Verdict::kDrop);
        }
    }
    std::uint64_t counted = 0;
    for (std::size_t r = 0; r < api::kReasonCount; ++r) counted += fast.count(static_cast<Reason>(r));
    CHECK(counted == sent);
}

namespace {

bool same_fields(const core::Packet& a, const core::Packet& b) {
    return a.length == b.length && a.l3 == b.l3 && a.l4 == b.l4 && a.ip_length == b.ip_length &&
           a.v6 == b.v6 && a.protocol == b.protocol && a.tcp_flags == b.tcp_flags &&
           a.source_port == b.source_port && a.destination_port == b.destination_port;
}

}  // namespace

TEST_CASE("what the common frame's parser takes, the whole parser takes with the same fields") {
    const std::array<Bytes, 4> frames{
        v4().tcp(syn()).payload(30).bytes(), v6().tcp(syn()).payload(30).bytes(),
        v4().udp(5353, 53).payload(30).bytes(), v6().udp(5353, 53).payload(30).bytes()};
    std::size_t taken = 0;
    for (const Bytes& whole : frames) {
        // Every byte of the headers at every value, and every length.
        for (std::size_t at = 12; at < std::min<std::size_t>(72, whole.size()); ++at) {
            for (unsigned value = 0; value < 256; ++value) {
                Bytes frame = with(whole, at, static_cast<std::uint8_t>(value));
                if (at == 71) frame.resize(std::min<std::size_t>(value, frame.size()));
                if (frame.size() >= 34 && frame[12] == 8 && at != 24 && at != 25) {
                    frame[24] = frame[25] = 0;
                    const std::uint16_t sum = plain_checksum({frame.begin() + 14, frame.begin() + 34});
                    frame[24] = static_cast<std::uint8_t>(sum >> 8U);
                    frame[25] = static_cast<std::uint8_t>(sum);
                }
                core::Packet plain;
                plain.data = frame.data();
                plain.length = static_cast<std::uint16_t>(frame.size());
                core::Packet full = plain;
                if (!core::parse_plain(plain)) continue;
                ++taken;
                CAPTURE(at);
                CAPTURE(value);
                CHECK(core::parse(full) == core::Parsed::kTransport);
                CHECK(same_fields(plain, full));
            }
        }
    }
    CHECK(taken > 10'000);
}
