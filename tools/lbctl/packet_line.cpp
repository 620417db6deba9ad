#include "tools/lbctl/packet_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "dataplane/api/types.h"

namespace detour::lbctl {

namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t kMacs = 12;
constexpr int kMostTags = 2;

unsigned be16(Bytes bytes, std::size_t at) {
    return static_cast<unsigned>(bytes[at]) << 8U | bytes[at + 1];
}

std::string address_at(Bytes packet, std::size_t at, bool v6) {
    if (v6) {
        std::array<std::uint8_t, 16> bytes{};
        std::copy_n(packet.begin() + static_cast<std::ptrdiff_t>(at), 16, bytes.begin());
        return api::IpAddress::v6(bytes).to_string();
    }
    return fmt::format("{}.{}.{}.{}", packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
}

std::string flags_text(std::uint8_t flags) {
    constexpr std::array<std::pair<unsigned, char>, 6> kFlags{
        {{2, 'S'}, {1, 'F'}, {4, 'R'}, {8, 'P'}, {32, 'U'}, {16, '.'}}};
    std::string out;
    for (const auto& [bit, letter] : kFlags)
        if ((flags & bit) != 0) out += letter;
    return out.empty() ? "none" : out;
}

struct Ends {
    std::string from;
    std::string to;
    bool v6 = false;
};

std::string with_ports(const Ends& ends, Bytes l4, std::string_view protocol) {
    if (l4.size() < 4) return fmt::format("{} > {} {} cut off", ends.from, ends.to, protocol);
    const char* form = ends.v6 ? "[{}]:{} > [{}]:{} {}" : "{}:{} > {}:{} {}";
    return fmt::format(fmt::runtime(form), ends.from, be16(l4, 0), ends.to, be16(l4, 2), protocol);
}

std::string transport(const Ends& ends, unsigned protocol, Bytes l4) {
    const std::string plain = fmt::format("{} > {} ", ends.from, ends.to);
    switch (protocol) {
        case 6:
            return with_ports(ends, l4, "tcp") + (l4.size() > 13 ? " " + flags_text(l4[13]) : "");
        case 17:
            return with_ports(ends, l4, "udp");
        case 1:
        case 58:
            return plain +
                   (l4.size() < 2 ? "icmp cut off" : fmt::format("icmp type {} code {}", l4[0], l4[1]));
        case 4:
        case 41:
            return plain + "ipip";
        case 47:
            return plain + "gre";
        case 44:
            return plain + "fragment";
        default:
            return plain + fmt::format("protocol {}", protocol);
    }
}

}  // namespace

std::string ip_line(Bytes packet) {
    const unsigned version = packet.empty() ? 0 : packet[0] >> 4U;
    if (version == 4 && packet.size() >= 20) {
        const std::size_t header = static_cast<std::size_t>(packet[0] & 15U) * 4;
        const Ends ends{address_at(packet, 12, false), address_at(packet, 16, false), false};
        if ((be16(packet, 6) & 0x1fffU) != 0) return fmt::format("{} > {} fragment", ends.from, ends.to);
        if (header < 20 || header > packet.size()) return fmt::format("{} > {} cut off", ends.from, ends.to);
        return transport(ends, packet[9], packet.subspan(header));
    }
    if (version == 6 && packet.size() >= 40) {
        return transport({address_at(packet, 8, true), address_at(packet, 24, true), true}, packet[6],
                         packet.subspan(40));
    }
    return version == 4 || version == 6 ? "ip cut off" : "not ip";
}

std::string packet_line(Bytes frame) {
    std::string out;
    std::size_t at = kMacs;
    for (int tags = 0; tags < kMostTags && frame.size() >= at + 4; ++tags) {
        const unsigned type = be16(frame, at);
        if (type != 0x8100 && type != 0x88a8) break;
        out += fmt::format("vlan {} ", be16(frame, at + 2) & 0xfffU);
        at += 4;
    }
    if (frame.size() < at + 2) return out + "ethernet cut off";
    const unsigned type = be16(frame, at);
    if (type == 0x0806) return out + "arp";
    if (type != 0x0800 && type != 0x86dd) return out + fmt::format("ethertype {:#06x}", type);
    return out + ip_line(frame.subspan(at + 2));
}

}  // namespace detour::lbctl
