// (address, protocol, port) -> VIP: two open-addressing tables, at most half full, 16 bytes an IPv4 VIP and
// 32 an IPv6 one.
//
// Built once, then read by any thread. A lookup touches one cache line as a rule.
#pragma once

#include <immintrin.h>

#include <array>
#include <cstdint>
#include <vector>

#include "dataplane/api/types.h"

namespace detour::core {

/// What every packet of a VIP needs to know of its pool, on the line that the lookup has in the cache anyway.
struct VipEntry {
    std::uint16_t pool = 0;     ///< index into ForwardingTables::pools
    std::uint16_t pool_id = 0;  ///< stable PoolId
    std::uint16_t vip = 0;      ///< stable VipId, part of the flow key
    api::HashKey hash = api::HashKey::kFiveTuple;
    std::uint8_t protocol = 0;  ///< 0: empty slot
};
static_assert(sizeof(VipEntry) == 8);

class VipMap {
  public:
    using Address = std::array<std::uint64_t, 2>;  ///< wire bytes; IPv4 in the first 4, the rest 0

    VipMap();
    /// `count`: how many will be inserted, of either family.
    explicit VipMap(std::size_t count);
    /// Adds the VIP, and once per address a marker (protocol 255, port 0) for has_address(). `entry` needs no
    /// protocol.
    void insert(const api::Vip& vip, VipEntry entry);

    /// True when any VIP has this address: fragments and ICMP have no port to look up.
    [[nodiscard]] bool has_address(const Address& address, std::uint8_t v6) const noexcept {
        return find(address, v6, kAddressMarker, 0) != nullptr;
    }

    /// Null when it is no VIP. `port` in wire order.
    [[nodiscard]] const VipEntry* find(const Address& address, std::uint8_t v6, std::uint8_t protocol,
                                       std::uint16_t port) const noexcept {
        if (v6 != 0) return find_v6(address, protocol, port);
        return find_v4(static_cast<std::uint32_t>(address[0]), protocol, port);
    }
    [[nodiscard]] const VipEntry* find_v4(std::uint32_t address, std::uint8_t protocol,
                                          std::uint16_t port) const noexcept {
        const std::uint64_t key = key_v4(address, protocol, port);
        std::size_t i = position(key) & mask_v4_;
        while (slots_v4_[i].key != key) {
            if (slots_v4_[i].key == 0) return nullptr;
            i = (i + 1) & mask_v4_;
        }
        return &slots_v4_[i].entry;
    }
    [[nodiscard]] const VipEntry* find_v6(const Address& address, std::uint8_t protocol,
                                          std::uint16_t port) const noexcept {
        std::size_t i = position_v6(address, protocol, port) & mask_v6_;
        for (; slots_v6_[i].entry.protocol != 0; i = (i + 1) & mask_v6_) {
            const SlotV6& s = slots_v6_[i];
            const std::uint64_t differs = (s.address[0] ^ address[0]) | (s.address[1] ^ address[1]) |
                                          static_cast<std::uint64_t>(s.port ^ port) |
                                          static_cast<std::uint64_t>(s.entry.protocol ^ protocol);
            if (differs == 0) return &s.entry;
        }
        return nullptr;
    }

    /// Slots that the worst lookup of a VIP looks at.
    [[nodiscard]] std::size_t longest_probe() const noexcept;

  private:
    static constexpr std::uint8_t kAddressMarker = 255;
    struct SlotV4 {
        std::uint64_t key = 0;  ///< 0: empty
        VipEntry entry;
    };
    struct alignas(32) SlotV6 {
        Address address{};
        VipEntry entry;
        std::uint16_t port = 0;  ///< wire order
    };
    static_assert(sizeof(SlotV4) == 16);
    static_assert(sizeof(SlotV6) == 32);

    /// The protocol is never 0, so neither is the key.
    [[nodiscard]] static constexpr std::uint64_t key_v4(std::uint32_t address, std::uint8_t protocol,
                                                        std::uint16_t port) noexcept {
        return static_cast<std::uint64_t>(address) << 32U | static_cast<std::uint64_t>(port) << 16U |
               protocol;
    }
    // VIPs are the operator's, so nobody builds collisions. A multiplication alone would not do: neighbouring
    // addresses differ in their last byte, which in network order is the key's highest.
    [[nodiscard]] static std::size_t position(std::uint64_t key) noexcept { return _mm_crc32_u64(0, key); }
    [[nodiscard]] static std::size_t position_v6(const Address& address, std::uint8_t protocol,
                                                 std::uint16_t port) noexcept {
        return _mm_crc32_u64(_mm_crc32_u64(position(address[0]), address[1]), key_v4(0, protocol, port));
    }
    void put(const Address& address, bool v6, std::uint16_t port, const VipEntry& entry);

    std::vector<SlotV4> slots_v4_;
    std::vector<SlotV6> slots_v6_;
    std::size_t mask_v4_ = 0;
    std::size_t mask_v6_ = 0;
};

}  // namespace detour::core
