// The packet that an ICMP or ICMPv6 error is about (RFC 792, 4443).
//
// With direct server return the answers to clients never pass here, but the errors about them do: they are
// sent to the VIP, so they come to the PoP, and the backend that needs them (path MTU discovery!) must be
// found from the quoted headers. Reads nothing beyond the packet. Pure function.
#pragma once

#include <optional>

#include "dataplane/core/batch.h"

namespace detour::core {

/// A quoted answer: from the VIP to the client. Ports and addresses as they lie in the packet.
struct QuotedFlow {
    const std::uint8_t* vip = nullptr;     ///< 4 or 16 bytes
    const std::uint8_t* client = nullptr;  ///< likewise
    std::uint16_t vip_port = 0;
    std::uint16_t client_port = 0;
    std::uint8_t protocol = 0;  ///< TCP or UDP
};

/// `packet` was parsed as kIcmp. Nothing when it is no error (echo, neighbour discovery), when what it quotes
/// is too short or no whole first part of a TCP or UDP packet, or when the quoted sender is not whom the
/// error is sent to.
[[nodiscard]] std::optional<QuotedFlow> quoted_flow(const Packet& packet) noexcept;

/// `packet` was parsed as kIcmp.
[[nodiscard]] bool is_echo_request(const Packet& packet) noexcept;

}  // namespace detour::core
