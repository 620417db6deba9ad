#include "dataplane/core/vip_map.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace detour::core {

VipMap::VipMap() : VipMap(0) {}

// Each VIP may bring its address' marker, and a table may be half full.
VipMap::VipMap(std::size_t count)
    : slots_v4_(std::bit_ceil(4 * count + 2)),
      slots_v6_(std::bit_ceil(4 * count + 2)),
      mask_v4_(slots_v4_.size() - 1),
      mask_v6_(slots_v6_.size() - 1) {}

void VipMap::insert(const api::Vip& vip, VipEntry entry) {
    Address address{};
    static_assert(sizeof(address) == sizeof(vip.address.bytes()));
    std::memcpy(address.data(), vip.address.bytes().data(), sizeof(address));
    const bool v6 = vip.address.is_v6();
    entry.protocol = static_cast<std::uint8_t>(vip.protocol);
    put(address, v6, __builtin_bswap16(vip.port.value()), entry);
    if (has_address(address, v6 ? 1 : 0)) return;
    entry.protocol = kAddressMarker;
    put(address, v6, 0, entry);
}

std::size_t VipMap::longest_probe() const noexcept {
    std::size_t longest = 0;
    for (std::size_t i = 0; i < slots_v4_.size(); ++i) {
        if (slots_v4_[i].key != 0) longest = std::max(longest, (i - position(slots_v4_[i].key)) & mask_v4_);
    }
    for (std::size_t i = 0; i < slots_v6_.size(); ++i) {
        const SlotV6& s = slots_v6_[i];
        if (s.entry.protocol == 0) continue;
        longest = std::max(longest, (i - position_v6(s.address, s.entry.protocol, s.port)) & mask_v6_);
    }
    return longest + 1;
}

void VipMap::put(const Address& address, bool v6, std::uint16_t port, const VipEntry& entry) {
    if (v6) {
        std::size_t i = position_v6(address, entry.protocol, port) & mask_v6_;
        while (slots_v6_[i].entry.protocol != 0) i = (i + 1) & mask_v6_;
        slots_v6_[i] = {address, entry, port};
        return;
    }
    const std::uint64_t key = key_v4(static_cast<std::uint32_t>(address[0]), entry.protocol, port);
    std::size_t i = position(key) & mask_v4_;
    while (slots_v4_[i].key != 0) i = (i + 1) & mask_v4_;
    slots_v4_[i] = {key, entry};
}

}  // namespace detour::core
