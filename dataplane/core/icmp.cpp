#include "dataplane/core/icmp.h"

#include <cstring>

#include "dataplane/core/bytes.h"
#include "dataplane/core/parse.h"

namespace detour::core {
namespace {

constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;
constexpr std::uint8_t kFragmentHeader = 44;

/// Unreachable (with "fragmentation needed"), time exceeded, parameter problem.
bool is_error_v4(std::uint8_t type) noexcept {
    return type == 3 || type == 11 || type == 12;
}
/// Unreachable, too big, time exceeded, parameter problem.
bool is_error_v6(std::uint8_t type) noexcept {
    return type >= 1 && type <= 4;
}

/// `ports` points at the first 8 bytes of a TCP or UDP header.
QuotedFlow flow_of(const std::uint8_t* vip, const std::uint8_t* client, const std::uint8_t* ports,
                   std::uint8_t protocol) noexcept {
    return {vip, client, load<std::uint16_t>(ports), load<std::uint16_t>(ports + 2), protocol};
}

std::optional<QuotedFlow> quoted_v4(const Packet& p, const std::uint8_t* quote, std::size_t room) noexcept {
    if (room < 20 || quote[0] >> 4U != 4) return std::nullopt;
    const std::size_t header = (quote[0] & 0x0fU) * 4U;
    if (header < 20 || room < header + 8) return std::nullopt;
    if (quote[9] != kTcp && quote[9] != kUdp) return std::nullopt;
    if ((load_be16(quote + 6) & 0x1fffU) != 0) return std::nullopt;
    if (std::memcmp(quote + 12, p.data + p.l3 + 16, 4) != 0) return std::nullopt;
    return flow_of(quote + 12, quote + 16, quote + header, quote[9]);
}

std::optional<QuotedFlow> quoted_v6(const Packet& p, const std::uint8_t* quote, std::size_t room) noexcept {
    if (room < 48 || quote[0] >> 4U != 6) return std::nullopt;
    // Of the extension headers a server's answers carry one: that of a first fragment.
    std::uint8_t protocol = quote[6];
    std::size_t ports = 40;
    if (protocol == kFragmentHeader) {
        if (room < 56 || (load_be16(quote + 42) & 0xfff8U) != 0) return std::nullopt;
        protocol = quote[40];
        ports = 48;
    }
    if (protocol != kTcp && protocol != kUdp) return std::nullopt;
    if (std::memcmp(quote + 8, p.data + p.l3 + 24, 16) != 0) return std::nullopt;
    return flow_of(quote + 8, quote + 24, quote + ports, protocol);
}

}  // namespace

std::optional<QuotedFlow> quoted_flow(const Packet& p) noexcept {
    const std::size_t length = static_cast<std::size_t>(p.l3) + p.ip_length - p.l4;
    if (length < 8) return std::nullopt;
    const std::uint8_t* icmp = p.data + p.l4;
    const bool error = p.v6 != 0 ? is_error_v6(icmp[0]) : is_error_v4(icmp[0]);
    if (!error) return std::nullopt;
    return p.v6 != 0 ? quoted_v6(p, icmp + 8, length - 8) : quoted_v4(p, icmp + 8, length - 8);
}

bool is_echo_request(const Packet& p) noexcept {
    const std::size_t length = static_cast<std::size_t>(p.l3) + p.ip_length - p.l4;
    const std::uint8_t* icmp = p.data + p.l4;
    return length >= 8 && icmp[0] == (p.v6 != 0 ? 128 : 8) && icmp[1] == 0;
}

}  // namespace detour::core
