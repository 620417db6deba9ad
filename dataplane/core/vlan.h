// An 802.1Q tag in front of a frame that is ready otherwise: what a next hop behind a VLAN interface needs.
//
// Apart from the prebuilt headers, which fill one cache line without it. Pure function, any thread.
#pragma once

#include <cstring>

#include "dataplane/core/batch.h"
#include "dataplane/core/bytes.h"

namespace detour::core {

inline constexpr std::uint16_t kVlanBytes = 4;

/// `id` 1 … 4094; priority 0. False when the headroom is too small; nothing is changed then.
[[nodiscard]] inline bool tag_frame(Packet& p, std::uint16_t id) noexcept {
    constexpr std::size_t kMacs = 12;
    if (p.headroom < kVlanBytes) return false;
    p.data -= kVlanBytes;
    std::memmove(p.data, p.data + kVlanBytes, kMacs);
    store_be16(p.data + kMacs, 0x8100);
    store_be16(p.data + kMacs + 2, id);
    p.headroom = static_cast<std::uint16_t>(p.headroom - kVlanBytes);
    p.length = static_cast<std::uint16_t>(p.length + kVlanBytes);
    p.l3 = static_cast<std::uint8_t>(p.l3 + kVlanBytes);
    return true;
}

}  // namespace detour::core
