// (address, protocol, port) -> VIP: an open-addressing table of 32-byte entries, at most half full.
//
// Built once, then read by any thread. A lookup touches one cache line as a rule.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "dataplane/api/types.h"

namespace detour::core {

struct VipSlot {
    std::array<std::uint64_t, 2> address{};  ///< wire bytes; IPv4 in the first 4, the rest 0
    std::uint16_t port = 0;                  ///< wire order
    std::uint8_t protocol = 0;               ///< 0: empty slot
    std::uint8_t v6 = 0;
    std::uint16_t pool = 0;  ///< index into ForwardingTables::pools
    std::uint16_t vip = 0;   ///< stable VipId
    std::uint64_t unused = 0;
};
static_assert(sizeof(VipSlot) == 32);

class VipMap {
  public:
    VipMap();
    /// `count`: how many will be inserted.
    explicit VipMap(std::size_t count);
    /// Adds the VIP, and once per address a marker (protocol 255, port 0) for has_address().
    void insert(const api::Vip& vip, std::uint16_t pool, std::uint16_t vip_id);

    /// True when any VIP has this address: fragments and ICMP have no port to look up.
    [[nodiscard]] bool has_address(std::array<std::uint64_t, 2> address, std::uint8_t v6) const noexcept {
        return find(address, v6, kAddressMarker, 0) != nullptr;
    }

    /// Null when it is no VIP. `address` as in VipSlot, `port` in wire order.
    [[nodiscard]] const VipSlot* find(std::array<std::uint64_t, 2> address, std::uint8_t v6,
                                      std::uint8_t protocol, std::uint16_t port) const noexcept {
        std::size_t i = position(address, protocol, port) & mask_;
        while (slots_[i].protocol != 0) {
            const VipSlot& s = slots_[i];
            if (s.address == address && s.port == port && s.protocol == protocol && s.v6 == v6) return &s;
            i = (i + 1) & mask_;
        }
        return nullptr;
    }

  private:
    static constexpr std::uint8_t kAddressMarker = 255;
    [[nodiscard]] static std::size_t position(std::array<std::uint64_t, 2> address, std::uint8_t protocol,
                                              std::uint16_t port) noexcept {
        std::uint64_t x = address[0] * 0x9e3779b97f4a7c15ULL ^ address[1];
        x = (x ^ (static_cast<std::uint64_t>(port) << 8U) ^ protocol) * 0xbf58476d1ce4e5b9ULL;
        return static_cast<std::size_t>(x >> 32U);
    }
    void put(const VipSlot& slot);

    std::vector<VipSlot> slots_;
    std::size_t mask_ = 0;
};

}  // namespace detour::core
