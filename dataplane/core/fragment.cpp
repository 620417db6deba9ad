#include "dataplane/core/fragment.h"

#include <algorithm>

#include "dataplane/core/bytes.h"
#include "dataplane/core/parse.h"

namespace detour::core {
namespace {

/// Where a fragment's payload lies, and what its header says.
struct Shape {
    std::uint32_t payload = 0;  ///< offset from the packet's first byte
    std::uint32_t length = 0;
    std::uint32_t begin = 0;  ///< in 8-byte units
    std::uint8_t protocol = 0;
    bool more = false;
    std::uint64_t tag = 0;
};

Shape shape_v4(const Packet& p, const HashSeed& seed) noexcept {
    const std::uint8_t* ip = p.data + p.l3;
    const std::uint32_t header = (ip[0] & 0x0fU) * 4U;
    const std::uint16_t flags = load_be16(ip + 6);
    Shape s;
    s.payload = p.l3 + header;
    s.length = p.ip_length - header;
    s.begin = flags & 0x1fffU;
    s.more = (flags & 0x2000U) != 0;
    s.protocol = ip[9];
    s.tag =
        hash_v4(seed, load<std::uint32_t>(ip + 12), load<std::uint32_t>(ip + 16), load_be16(ip + 4), ip[9]);
    return s;
}

Shape shape_v6(const Packet& p, const HashSeed& seed) noexcept {
    const std::uint8_t* ip = p.data + p.l3;
    const std::uint8_t* extension = p.data + p.l4;
    const std::uint16_t flags = load_be16(extension + 2);
    Shape s;
    s.payload = p.l4 + 8U;
    s.length = p.ip_length - (s.payload - p.l3);
    s.begin = flags >> 3U;
    s.more = (flags & 1U) != 0;
    s.protocol = extension[0];
    s.tag = hash_v6(seed, ip + 8, ip + 24, load<std::uint32_t>(extension + 4), s.protocol);
    return s;
}

/// The ports, and for TCP the flags and numbers, of a first fragment with a whole header.
bool read_transport(Packet& p, const Shape& s) noexcept {
    const std::uint8_t* at = p.data + s.payload;
    if (s.protocol == 17 && load_be16(at + 4) < s.length) return false;
    if (s.protocol == 6) {
        const std::uint32_t header = (at[12] >> 4U) * 4U;
        if (header < 20 || header > s.length || bad_tcp_flags(at[13])) return false;
        p.tcp_flags = at[13];
    }
    p.protocol = s.protocol;
    p.l4 = static_cast<std::uint16_t>(s.payload);
    std::memcpy(&p.source_port, at, 4);
    return true;
}

FragmentKind kind_of(Packet& p, const Shape& s) noexcept {
    if (s.length == 0 || (s.more && s.length % 8 != 0)) return FragmentKind::kBad;
    if (s.begin * 8 + s.length > 65'535) return FragmentKind::kBad;
    if (s.protocol != 6 && s.protocol != 17) return FragmentKind::kOther;
    // A second fragment at 8 bytes would hold TCP's flags (RFC 1858, section 3.2.2).
    if (s.begin == 1 && s.protocol == 6) return FragmentKind::kTiny;
    if (s.begin != 0) return FragmentKind::kLater;
    if (s.length < (s.protocol == 6 ? 20U : 8U)) return FragmentKind::kTiny;
    return read_transport(p, s) ? FragmentKind::kFirst : FragmentKind::kBad;
}

}  // namespace

Fragment read_fragment(Packet& p, const HashSeed& seed) noexcept {
    const Shape s = p.v6 != 0 ? shape_v6(p, seed) : shape_v4(p, seed);
    p.protocol = 0;  // so that no later stage takes it for a whole TCP or UDP packet
    Fragment f;
    f.kind = kind_of(p, s);
    f.tag = s.tag;
    f.begin = static_cast<std::uint16_t>(s.begin);
    f.end = static_cast<std::uint16_t>(s.begin + (s.length + 7) / 8);
    f.more = s.more;
    return f;
}

FragmentEntry::Added FragmentEntry::add(std::uint16_t begin, std::uint16_t end) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        if (begin >= ranges[i].begin && end <= ranges[i].end) return Added::kAgain;
        if (begin < ranges[i].end && end > ranges[i].begin) return Added::kOverlap;
    }
    Range added{begin, end};
    for (std::size_t i = 0; i < count;) {
        if (ranges[i].end != added.begin && ranges[i].begin != added.end) {
            ++i;
            continue;
        }
        added = {std::min(added.begin, ranges[i].begin), std::max(added.end, ranges[i].end)};
        ranges[i] = ranges[--count];
    }
    if (count == ranges.size()) return Added::kTooMany;
    ranges[count++] = added;
    return Added::kNew;
}

FragmentEntry* FragmentCache::find(std::uint64_t tag, std::uint32_t now_ms) noexcept {
    FragmentEntry* set = &entries_[(tag >> 32U) % kSets * kWays];
    for (std::size_t i = 0; i < kWays; ++i) {
        const bool live = set[i].state != FragmentEntry::State::kEmpty && now_ms - set[i].time <= kLifetime;
        if (live && set[i].tag == tag) return &set[i];
    }
    return nullptr;
}

FragmentEntry& FragmentCache::find_or_make(std::uint64_t tag, std::uint32_t now_ms) noexcept {
    if (FragmentEntry* known = find(tag, now_ms)) return *known;
    FragmentEntry* set = &entries_[(tag >> 32U) % kSets * kWays];
    FragmentEntry* victim = set;
    for (std::size_t i = 0; i < kWays; ++i) {
        const bool empty = set[i].state == FragmentEntry::State::kEmpty;
        if (empty || now_ms - set[i].time >= now_ms - victim->time) victim = &set[i];
        if (empty) break;
    }
    // Newest first: of those of the same millisecond the first to come goes.
    std::move_backward(set, victim, victim + 1);
    *set = {};
    set->tag = tag;
    set->time = now_ms;
    set->state = FragmentEntry::State::kWaiting;
    return *set;
}

std::uint16_t FragmentCache::hold(std::uint64_t tag, std::uint32_t now_ms) noexcept {
    std::size_t same = 0;
    std::uint16_t free = kNoSlot;
    for (std::uint16_t i = 0; i < kSlots; ++i) {
        if (!slots_[i].used) free = i;
        same += slots_[i].used && slots_[i].tag == tag ? 1 : 0;
    }
    if (free == kNoSlot || same >= kSlotsPerTag) return kNoSlot;
    slots_[free] = {.tag = tag, .time = now_ms, .used = true, .released = false};
    ++held_;
    return free;
}

void FragmentCache::release(std::uint64_t tag) noexcept {
    if (held_ == 0) return;
    for (Slot& slot : slots_) slot.released |= slot.used && slot.tag == tag;
}

}  // namespace detour::core
