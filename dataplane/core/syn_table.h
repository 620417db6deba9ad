// Recent SYNs: where the SYN of a handshake in flight was sent. Per worker, 16 bytes an entry, four to a
// cache line.
//
// A key has one line; a new SYN takes a free or expired place in it, else the oldest one's (docs/adr/0005).
//
// A SYN makes no flow entry; it writes here, and the handshake's ACK is answered from here. So a drain, a
// ramp or a reused 5-tuple breaks no handshake in flight, a flood can only overwrite, and a spoofed SYN can't
// unpin a live flow. IPv6 keys are 64-bit keyed hashes of the whole key. One owner; others may peek().
#pragma once

#include <immintrin.h>

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

    struct Place {
        SynEntry* known;  ///< the SYN remembered for this key; null when there is none or it is too old
        SynEntry* next;   ///< where a new one goes: in place of this key's last one or of what is worth least
    };
    /// Both by one look at the key's line. Good until the table is written to.
    [[nodiscard]] Place look(std::uint64_t key, std::uint64_t hash, std::uint16_t now) noexcept {
        SynEntry* entries = &entries_[index(hash)];
        const Line line(entries, key, now);
        const unsigned known = line.known();
        return {known == 0 ? nullptr : entries + std::countr_zero(known), entries + line.next()};
    }
    /// look()'s `known` alone.
    [[nodiscard]] SynEntry* find(std::uint64_t key, std::uint64_t hash, std::uint16_t now) noexcept {
        SynEntry* entries = &entries_[index(hash)];
        const unsigned known = Line(entries, key, now).known();
        return known == 0 ? nullptr : entries + std::countr_zero(known);
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
    /// Writes `entry` at look()'s `next` for its key and time. Returns another key's entry that had to give
    /// way; its time is 0 when none did.
    static SynEntry put(SynEntry& next, const SynEntry& entry) noexcept {
        SynEntry gone = next;
        next = entry;
        if (gone.key == entry.key) gone.time = 0;
        return gone;
    }
    /// look() and put() in one.
    SynEntry put(std::uint64_t key, std::uint64_t hash, SynEntry entry) noexcept {
        entry.key = key;
        return put(*look(key, hash, entry.time).next, entry);
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
    static_assert(kWays == 4);
    /// A key's line, an entry in each lane.
    class Line {
      public:
        Line(const SynEntry* entries, std::uint64_t key, std::uint16_t now) noexcept {
            const auto* at = reinterpret_cast<const __m128i*>(entries);
            const std::array e{_mm_load_si128(at), _mm_load_si128(at + 1), _mm_load_si128(at + 2),
                               _mm_load_si128(at + 3)};
            const __m128i wanted = _mm_set1_epi64x(static_cast<long long>(key));
            const __m128i first = _mm_cmpeq_epi64(_mm_unpacklo_epi64(e[0], e[1]), wanted);
            const __m128i last = _mm_cmpeq_epi64(_mm_unpacklo_epi64(e[2], e[3]), wanted);
            const __m128i same =
                _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(first), _mm_castsi128_ps(last), 0x88));
            const __m128i times = _mm_srli_epi32(
                _mm_unpackhi_epi64(_mm_unpackhi_epi32(e[0], e[1]), _mm_unpackhi_epi32(e[2], e[3])), 16);
            never_ = _mm_cmpeq_epi32(times, _mm_setzero_si128());
            own_ = _mm_andnot_si128(never_, same);
            ages_ = _mm_and_si128(_mm_sub_epi32(_mm_set1_epi32(now), times), _mm_set1_epi32(0xffff));
        }
        /// A bit for each entry that is this key's and young enough.
        [[nodiscard]] unsigned known() const noexcept {
            const __m128i old = _mm_cmpgt_epi32(ages_, _mm_set1_epi32(kLifetime));
            return static_cast<unsigned>(_mm_movemask_ps(_mm_castsi128_ps(_mm_andnot_si128(old, own_))));
        }
        /// The place of this key's own, else the first free one, else the oldest one's, the first of equals.
        [[nodiscard]] unsigned next() const noexcept {
            const __m128i own = _mm_and_si128(own_, _mm_set1_epi32(1 << 19));
            const __m128i free = _mm_and_si128(never_, _mm_set1_epi32(1 << 18));
            const __m128i age = _mm_or_si128(_mm_slli_epi32(ages_, 2), _mm_set_epi32(0, 1, 2, 3));
            __m128i most = _mm_or_si128(_mm_or_si128(own, free), age);
            most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0b01'00'11'10));
            most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0b10'11'00'01));
            return 3U - (static_cast<unsigned>(_mm_cvtsi128_si32(most)) & 3U);
        }

      private:
        __m128i never_;  ///< ones where there is no entry
        __m128i own_;    ///< ones where it is this key's
        __m128i ages_;   ///< in units of time_of()
    };
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
