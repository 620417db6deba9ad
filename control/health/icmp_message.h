// ICMP and ICMPv6 echo requests and their answers (RFC 792, 4443).
//
// Pure, any thread. What comes back is not trusted: a raw socket shows every echo answer of that host, and
// anything may be in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace detour::health {

struct Echo {
    bool v6 = false;
    std::uint16_t identifier = 0;
    std::uint16_t sequence = 0;
    std::uint64_t cookie = 0;  ///< in the data: tells an answer to this echo from any other
};

inline constexpr std::size_t kLeastEchoBytes = 16;

/// `size`: of the ICMP message, at least kLeastEchoBytes. The checksum is right for IPv4; for IPv6 it is left
/// to the kernel, which knows the addresses.
[[nodiscard]] std::string echo_request(const Echo& echo, std::size_t size);

enum class EchoBytes : std::uint8_t {
    kMessage,  ///< from the ICMP header on
    kPacket,   ///< from the IPv4 header on, as a raw socket gives it
};
/// True when `bytes` are the answer to `echo`. The identifier counts only when it is not 0: a ping socket has
/// its own, and the kernel has looked at it.
[[nodiscard]] bool answers_echo(std::string_view bytes, EchoBytes form, const Echo& echo);

}  // namespace detour::health
