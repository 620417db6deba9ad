// Source addresses and ports, each pair used once in 12 million connections of a prefix, so that no TIME_WAIT
// can be in the way.
#pragma once

#include <arpa/inet.h>
#include <cstdint>
#include <random>

#include "tools/netlab/loadgen/options.h"

namespace detour::netlab {

inline constexpr std::uint32_t kFirstPort = 10'000;
inline constexpr std::uint32_t kPorts = 50'000;

class Sources {
  public:
    /// `count` addresses in each of `prefixes` prefixes. Begins anywhere: a run does not meet the half-open
    /// connections of the one before.
    Sources(Endpoint v4, Endpoint v6, std::uint32_t count, std::uint32_t prefixes)
        : v4_(v4), v6_(v6), addresses_(count), prefixes_(prefixes) {
        const auto round = std::uint64_t{std::random_device{}() % kPorts};
        count_v4_ = count_v6_ = round * count * prefixes;
    }

    /// Length 0 when no source was given for the family: the kernel chooses.
    Endpoint next(bool is_v6) {
        Endpoint result = is_v6 ? v6_ : v4_;
        if (result.length == 0) return result;
        std::uint64_t& count = is_v6 ? count_v6_ : count_v4_;
        const auto prefix = static_cast<std::uint32_t>(count % prefixes_);
        const std::uint64_t inside = count / prefixes_;
        const auto host = static_cast<std::uint8_t>(inside % addresses_);
        const in_port_t port = htons(static_cast<std::uint16_t>(kFirstPort + inside / addresses_ % kPorts));
        ++count;
        if (is_v6) {
            auto& address = reinterpret_cast<sockaddr_in6&>(result.address);
            address.sin6_addr.s6_addr[5] =
                static_cast<std::uint8_t>(address.sin6_addr.s6_addr[5] + prefix);  // the /48's last byte
            address.sin6_addr.s6_addr[15] = static_cast<std::uint8_t>(address.sin6_addr.s6_addr[15] + host);
            address.sin6_port = port;
        } else {
            auto& address = reinterpret_cast<sockaddr_in&>(result.address);
            address.sin_addr.s_addr = htonl(ntohl(address.sin_addr.s_addr) + (prefix << 8U) + host);
            address.sin_port = port;
        }
        return result;
    }

  private:
    Endpoint v4_;
    Endpoint v6_;
    std::uint32_t addresses_;
    std::uint32_t prefixes_;
    std::uint64_t count_v4_ = 0;
    std::uint64_t count_v6_ = 0;
};

}  // namespace detour::netlab
