#include "dataplane/core/vip_map.h"

#include <bit>
#include <cstring>

namespace detour::core {

VipMap::VipMap() : VipMap(0) {}

VipMap::VipMap(std::size_t count) : slots_(std::bit_ceil(4 * count + 2)), mask_(slots_.size() - 1) {}

void VipMap::insert(const api::Vip& vip, std::uint16_t pool, std::uint16_t vip_id) {
    VipSlot slot;
    static_assert(sizeof(slot.address) == sizeof(vip.address.bytes()));
    std::memcpy(slot.address.data(), vip.address.bytes().data(), sizeof(slot.address));
    slot.port = __builtin_bswap16(vip.port.value());
    slot.protocol = static_cast<std::uint8_t>(vip.protocol);
    slot.v6 = vip.address.is_v6() ? 1 : 0;
    slot.pool = pool;
    slot.vip = vip_id;
    put(slot);
    if (has_address(slot.address, slot.v6)) return;
    slot.protocol = kAddressMarker;
    slot.port = 0;
    put(slot);
}

void VipMap::put(const VipSlot& slot) {
    std::size_t i = position(slot.address, slot.protocol, slot.port) & mask_;
    while (slots_[i].protocol != 0) i = (i + 1) & mask_;
    slots_[i] = slot;
}

}  // namespace detour::core
