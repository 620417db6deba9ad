// Recent SYNs: where the SYN of a handshake in flight was sent. Per worker, 16 bytes an entry, four to a
// cache line.
//
// A key has one line; a new SYN takes a free or expired place in it, else the oldest one's (docs/adr/0005).
//
// A SYN makes no flow entry; it writes here, and the handshake's ACK is answered from here. So a drain, a
// ramp or a reused 5-tuple breaks no handshake in flight, a flood can only overwrite, and a spoofed SYN can't
// unpin a live flow. IPv6 keys are 64-bit keyed hashes of the whole key. One owner; others may peek().
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "dataplane/core/pages.h"

namespace detour::core {

struct SynEntry {
    std::uint64_t key = 0;
    std::uint32_t isn = 0;  ///< the client's initial sequence number
    std::uint16_t backend = 0;
    std::uint16_t time = 0;  ///< units of 16 ms, 0 never used: see SynTable::time_of
};
static_assert(sizeof(SynEntry) == 16);

class SynTable {
  public:
    /// How long a handshake may take: five retransmissions of a SYN-ACK by Linux.
    static constexpr std::uint16_t kLifetime = 63'000 / 16;

    explicit SynTable(std::size_t entries)
        : pages_(std::bit_ceil(std::max(entries, kWays)) * sizeof(SynEntry)),
          entries_(static_cast<SynEntry*>(pages_.get())),
          size_(std::bit_ceil(std::max(entries, kWays))) {}

    /// 16 ms units; never 0, so that zeroed memory is no entry.
    [[nodiscard]] static constexpr std::uint16_t time_of(std::uint64_t now_ns) noexcept {
        return static_cast<std::uint16_t>((now_ns / 16'000'000ULL) | 1U);
    }

    // Inlined always: GCC 12 takes a function that only prefetches for one without effect and drops the call.
    [[gnu::always_inline]] void prefetch(std::uint64_t hash) const noexcept {
        __builtin_prefetch(&entries_[index(hash)]);
    }

    /// The SYN remembered for this key, or null when there is none or it is too old.
    [[nodiscard]] SynEntry* find(std::uint64_t key, std::uint64_t hash, std::uint16_t now) noexcept {
        SynEntry* line = &entries_[index(hash)];
        for (std::size_t i = 0; i < kWays; ++i) {
            if (line[i].key == key && line[i].time != 0 && age(line[i], now) <= kLifetime) return &line[i];
        }
        return nullptr;
    }
    /// Any thread: a copy of what find() would find. The owner may be writing it: an entry whose key changes
    /// meanwhile is none, and one of the same key may be half of an older SYN's.
    [[nodiscard]] std::optional<SynEntry> peek(std::uint64_t key, std::uint64_t hash,
                                               std::uint16_t now) const noexcept {
        using Word [[gnu::may_alias]] = std::uint64_t;
        const auto* words = reinterpret_cast<const Word*>(&entries_[index(hash)]);
        for (std::size_t i = 0; i < kWays; ++i, words += 2) {
            if (__atomic_load_n(words, __ATOMIC_ACQUIRE) != key) continue;
            const std::uint64_t rest = __atomic_load_n(words + 1, __ATOMIC_ACQUIRE);
            if (__atomic_load_n(words, __ATOMIC_RELAXED) != key) continue;
            const auto entry = std::bit_cast<SynEntry>(std::array{key, rest});
            if (entry.time != 0 && age(entry, now) <= kLifetime) return entry;
        }
        return std::nullopt;
    }
    /// Remembers `entry`, whose time is now, in place of this key's last one or the one in the line that is
    /// worth least. Returns another key's entry that had to give way; its time is 0 when none did.
    SynEntry put(std::uint64_t key, std::uint64_t hash, SynEntry entry) noexcept {
        SynEntry* line = &entries_[index(hash)];
        SynEntry* victim = line;
        std::uint32_t oldest = 0;
        for (std::size_t i = 0; i < kWays; ++i) {
            if (line[i].key == key && line[i].time != 0) {
                victim = &line[i];
                break;
            }
            const std::uint32_t spent = line[i].time == 0 ? kNever : age(line[i], entry.time) + 1U;
            if (spent > oldest) {
                oldest = spent;
                victim = &line[i];
            }
        }
        entry.key = key;
        SynEntry gone = *victim;
        *victim = entry;
        if (gone.key == key) gone.time = 0;
        return gone;
    }
    /// Milliseconds since its SYN, to 32; below 2^20.
    [[nodiscard]] static std::uint32_t age_ms(const SynEntry& entry, std::uint16_t now) noexcept {
        return 16U * age(entry, now);
    }

    /// Entries.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    /// For the sweep.
    [[nodiscard]] SynEntry& at(std::size_t i) noexcept { return entries_[i]; }

  private:
    static constexpr std::size_t kWays = 64 / sizeof(SynEntry);
    static constexpr std::uint32_t kNever = 1U << 17U;  ///< older than any age

    [[nodiscard]] static std::uint16_t age(const SynEntry& entry, std::uint16_t now) noexcept {
        return static_cast<std::uint16_t>(now - entry.time);
    }
    /// Of the first entry of the key's cache line.
    [[nodiscard]] std::size_t index(std::uint64_t hash) const noexcept {
        return (hash >> 20U) & (size_ - 1) & ~(kWays - 1);
    }

    Pages pages_;
    SynEntry* entries_;
    std::size_t size_;
};

}  // namespace detour::core
