// QUIC datagrams: which connection id they are for, and which backend that names.
//
// Only what no key hides is read: the version-independent header (RFC 8999) and, of versions 1 and 2 (RFC
// 9000, RFC 9369), the long header's type. Server ids as in the plaintext mode of QUIC-LB
// (draft-ietf-quic-load-balancers-21, section 5.2). Tables are built once, then read by any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/api/quic_server_id.h"

namespace detour::core {

/// The destination connection id of a UDP datagram's first QUIC packet, as far as a server must have chosen
/// it: that of a short header, and of a Handshake packet of version 1 or 2. Empty for Initial and 0-RTT,
/// whose id the client may have made up, for versions that are not known here, and for what is no QUIC. A
/// short header does not say how long the id is: up to 20 bytes, or what there is.
[[nodiscard]] std::span<const std::uint8_t> server_chosen_cid(
    std::span<const std::uint8_t> datagram) noexcept;

/// Server id -> backend, of one pool. Open addressing, at most half full.
class QuicServers {
  public:
    QuicServers() = default;  ///< knows none
    explicit QuicServers(std::size_t count);
    /// At most `count` times. All ids of one configuration have one length (api::check()).
    void insert(const api::QuicServerId& id, std::uint16_t backend) noexcept;
    [[nodiscard]] bool empty() const noexcept { return slots_.empty(); }

    /// The backend that `cid` names, or kNoBackendId: another configuration, too short for server id and
    /// nonce, or an id that nobody has.
    [[nodiscard]] std::uint16_t find(std::span<const std::uint8_t> cid) const noexcept;

  private:
    using Key = std::array<std::uint64_t, 2>;  ///< the id, padded with zeros; its last byte 1 + rotation
    struct Slot {
        Key key{};  ///< zeros: empty
        std::uint16_t backend = 0;
    };
    [[nodiscard]] static Key key_of(const std::uint8_t* id, std::size_t length,
                                    std::uint8_t rotation) noexcept;
    [[nodiscard]] std::size_t position(const Key& key) const noexcept;

    std::array<std::uint8_t, 8> lengths_{};  ///< of server ids, by configuration; 0: not in use
    std::vector<Slot> slots_;
};

}  // namespace detour::core
