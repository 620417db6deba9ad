// IPv4, IPv6 and transport checksums of the packets that we write ourselves: answers and segments.
//
// Pure functions; `ip` has room for the header, 20 or 40 bytes. Lengths are bytes, addresses as on the wire.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "dataplane/core/bytes.h"
#include "dataplane/core/checksum.h"

namespace detour::core {

struct Address6 {
    std::array<std::uint8_t, 16> bytes;
};

/// A 20-byte header with DF and TTL 64; `total` counts it too.
inline void write_ipv4(std::uint8_t* ip, std::uint8_t protocol, std::uint16_t total, std::uint32_t source,
                       std::uint32_t destination) noexcept {
    std::memset(ip, 0, 20);
    ip[0] = 0x45;
    store_be16(ip + 2, total);
    ip[6] = 0x40;  // DF
    ip[8] = 64;
    ip[9] = protocol;
    store(ip + 12, source);
    store(ip + 16, destination);
    store(ip + 10, checksum(ip, 20));
}

inline void write_ipv6(std::uint8_t* ip, std::uint8_t next, std::uint16_t payload, const Address6& source,
                       const Address6& destination) noexcept {
    std::memset(ip, 0, 8);
    ip[0] = 0x60;
    store_be16(ip + 4, payload);
    ip[6] = next;
    ip[7] = 64;
    std::memcpy(ip + 8, source.bytes.data(), 16);
    std::memcpy(ip + 24, destination.bytes.data(), 16);
}

/// Pseudo header and payload, both families; `ip` holds the written header. In the byte order of the wire.
[[nodiscard]] inline std::uint16_t transport_checksum(const std::uint8_t* ip, bool v6, std::uint8_t protocol,
                                                      std::uint16_t length) noexcept {
    std::uint64_t sum = static_cast<std::uint64_t>(swap16(length)) + swap16(protocol);
    sum = v6 ? checksum_add(sum, ip + 8, 32) : checksum_add(sum, ip + 12, 8);
    sum = checksum_add(sum, ip + (v6 ? 40 : 20), length);
    return static_cast<std::uint16_t>(~checksum_fold(sum));
}

}  // namespace detour::core
