// Fragments of a datagram: which there are, and where its first one went (RFC 791, 8200, 1858, 5722, 8900).
//
// Only the first fragment has ports. The cache remembers, by a keyed hash of addresses, identification and
// protocol, the backend that it was sent to, so that the later ones follow. A later one that comes before it
// waits in a slot of its own: the stages name the slot, the io layer keeps the buffer. Bounded in entries,
// slots and time. One owner, no other thread.
#pragma once

#include <array>
#include <cstdint>

#include "dataplane/core/batch.h"
#include "dataplane/core/hash.h"

namespace detour::core {

enum class FragmentKind : std::uint8_t {
    kFirst,  ///< with a whole TCP or UDP header: ports, flags and numbers of the packet are set
    kLater,
    kOther,  ///< of another protocol than TCP and UDP
    kTiny,   ///< a first one too short for its header, or one that would overwrite it (RFC 1858)
    kBad,    ///< empty, of a length that only the last may have, or ending beyond 65,535
};

struct Fragment {
    FragmentKind kind = FragmentKind::kBad;
    std::uint64_t tag = 0;    ///< of its datagram
    std::uint16_t begin = 0;  ///< first and, exclusive, last 8-byte unit of the datagram's payload
    std::uint16_t end = 0;
    bool more = false;  ///< it is not the datagram's last
};

/// Reads a packet that parse() called kFragment.
[[nodiscard]] Fragment read_fragment(Packet& packet, const HashSeed& seed) noexcept;

struct FragmentEntry {
    enum class State : std::uint8_t { kEmpty, kWaiting, kKnown, kKernel, kDropped };
    struct Range {
        std::uint16_t begin = 0;
        std::uint16_t end = 0;
    };

    std::uint64_t tag = 0;
    std::uint64_t flow_hash = 0;
    std::uint32_t time = 0;  ///< ms
    std::uint16_t pool = 0;
    std::uint16_t pool_id = 0;
    std::uint16_t vip = 0;
    std::uint16_t backend = 0;
    State state = State::kEmpty;
    std::uint8_t count = 0;   ///< of ranges
    std::uint16_t whole = 0;  ///< units of the whole datagram; 0: its last fragment was not seen yet
    std::array<Range, 8> ranges{};

    enum class Added : std::uint8_t { kNew, kAgain, kOverlap, kTooMany };
    /// Notes that [begin, end) was seen. Ranges that touch become one, so fragments in order need one.
    [[nodiscard]] Added add(std::uint16_t begin, std::uint16_t end) noexcept;
    /// All of it was seen.
    [[nodiscard]] bool complete() const noexcept {
        return whole != 0 && count == 1 && ranges[0].begin == 0 && ranges[0].end == whole;
    }
};

class FragmentCache {
  public:
    static constexpr std::size_t kWays = 4;
    static constexpr std::size_t kSets = 256;
    static constexpr std::size_t kSlots = 64;          ///< fragments that wait
    static constexpr std::size_t kSlotsPerTag = 16;    ///< of one datagram
    static constexpr std::uint32_t kLifetime = 5'000;  ///< ms since the datagram's last fragment
    static constexpr std::uint32_t kPatience = 200;    ///< ms that a later fragment waits for the first

    /// Null when nothing is known of the datagram.
    [[nodiscard]] FragmentEntry* find(std::uint64_t tag, std::uint32_t now_ms) noexcept;
    /// The entry of the datagram; a new one takes the oldest place of its set.
    [[nodiscard]] FragmentEntry& find_or_make(std::uint64_t tag, std::uint32_t now_ms) noexcept;

    static constexpr std::uint16_t kNoSlot = kSlots;
    /// A slot for one that has to wait, or kNoSlot.
    [[nodiscard]] std::uint16_t hold(std::uint64_t tag, std::uint32_t now_ms) noexcept;
    /// Those waiting for this datagram's first fragment may go.
    void release(std::uint64_t tag) noexcept;

    [[nodiscard]] bool waiting() const noexcept { return held_ != 0; }
    enum class Due : std::uint8_t { kReleased, kExpired };
    /// Calls due(slot, why) for every slot that need not wait any longer, and empties it.
    template <class Function>
    void take_due(std::uint32_t now_ms, Function due) noexcept {
        for (std::uint16_t i = 0; i < kSlots && held_ != 0; ++i) {
            Slot& slot = slots_[i];
            if (!slot.used || (!slot.released && now_ms - slot.time < kPatience)) continue;
            slot.used = false;
            --held_;
            due(i, slot.released ? Due::kReleased : Due::kExpired);
        }
    }

  private:
    struct Slot {
        std::uint64_t tag = 0;
        std::uint32_t time = 0;
        bool used = false;
        bool released = false;
    };
    std::array<FragmentEntry, kSets * kWays> entries_{};
    std::array<Slot, kSlots> slots_{};
    std::uint32_t held_ = 0;
};

}  // namespace detour::core
