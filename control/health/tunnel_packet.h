// One packet of a probe on its way into the tunnel: made by the kernel's own stack, encapsulated by the very
// code that the fast path uses (dataplane/core).
//
// Pure, one thread. The bytes come from a TUN device, on which anything may arrive: what is no packet of a
// probe gives no key and goes nowhere.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>

#include "control/health/outcome.h"
#include "dataplane/core/batch.h"
#include "dataplane/core/hash.h"
#include "dataplane/core/tables.h"

namespace detour::health {

/// Tells one probe's packets from another's: by the probe's own port, or an echo's identifier.
struct ProbeKey {
    std::uint8_t protocol = 0;  ///< TCP, UDP, ICMP or ICMPv6
    bool v6 = false;
    std::uint16_t port = 0;
    auto operator<=>(const ProbeKey&) const = default;
};

/// Where one probe's packets are sent.
struct TunnelEnd {
    core::EncapHeader header;
    core::BackendEntry backend;
    api::IpAddress address;
};

/// `source`: the tunnel's, of the backend's family.
[[nodiscard]] TunnelEnd make_tunnel_end(const ProbeRequest& asked, const api::IpAddress& source);

/// The largest IP packet, in bytes, that the tunnel carries to the backend. 0 for a probe without a tunnel.
[[nodiscard]] std::uint32_t largest_inner(const ProbeRequest& asked);

class TunnelPacket {
  public:
    /// Where the packet is to be put.
    [[nodiscard]] std::span<std::uint8_t> room() noexcept;
    /// Looks at the `size` bytes that were put there.
    [[nodiscard]] std::optional<ProbeKey> read(std::size_t size) noexcept;
    /// The outer IP packet; empty when this one is larger than the tunnel carries. Once after each read()
    /// that gave a key. Valid until the next call.
    [[nodiscard]] std::span<const std::uint8_t> wrap(const TunnelEnd& end,
                                                     const core::HashSeed& seed) noexcept;

  private:
    static constexpr std::size_t kEthernet = 14;
    static constexpr std::size_t kFront = api::kMaxEncapBytes;
    std::array<std::uint8_t, kFront + 10'000> bytes_{};
    core::Packet packet_;
};

}  // namespace detour::health
