// What a QUIC client sends, as far as it can be read without keys: headers for tests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "tests/support/packets.h"

namespace detour::support {

inline constexpr std::uint32_t kQuic1 = 1;
inline constexpr std::uint32_t kQuic2 = 0x6b3343cf;

enum class QuicType : std::uint8_t { kInitial, kZeroRtt, kHandshake, kRetry };

/// One after the other.
[[nodiscard]] inline Bytes joined(std::initializer_list<Bytes> parts) {
    std::size_t size = 0;
    for (const Bytes& part : parts) size += part.size();
    Bytes out(size);
    auto at = out.begin();
    for (const Bytes& part : parts) at = std::copy(part.begin(), part.end(), at);
    return out;
}

/// A packet with a short header: connection id, then what only the ends can read.
[[nodiscard]] inline Bytes quic_short(const Bytes& cid, std::size_t rest = 24, std::uint8_t first = 0x45) {
    return joined({{first}, cid, Bytes(rest, 0xee)});
}

/// A packet with a long header; the types' numbers are those of its version (RFC 9000, 17.2; RFC 9369, 3.2).
[[nodiscard]] inline Bytes quic_long(QuicType type, std::uint32_t version, const Bytes& cid,
                                     std::size_t rest = 24) {
    const unsigned number = (static_cast<unsigned>(type) + (version == kQuic2 ? 1U : 0U)) % 4;
    const auto byte = [](std::size_t value) { return static_cast<std::uint8_t>(value); };
    const Bytes head{byte(0xc0U | number << 4U), byte(version >> 24U), byte(version >> 16U),
                     byte(version >> 8U),        byte(version),        byte(cid.size())};
    const Bytes client_id{4, 1, 2, 3, 4};
    return joined({head, cid, client_id, Bytes(rest, 0xee)});
}

/// What a server with this id makes up under a configuration; `salt` tells its connection ids apart.
[[nodiscard]] inline Bytes quic_lb_cid(unsigned rotation, const Bytes& server_id, std::uint8_t salt = 0,
                                       std::size_t nonce = 6) {
    const auto first = static_cast<std::uint8_t>(rotation << 5U | (salt & 0x1fU));
    return joined({{first}, server_id, Bytes(nonce, static_cast<std::uint8_t>(0x50U + salt))});
}

}  // namespace detour::support
