// The flow table: which backend a client's flow is pinned to. Per worker, share-nothing, allocation-free.
//
// A v4 entry is 16 bytes: one word is the whole key (client address, client port, VIP id), the other the last
// ACK seen, the backend, the state and the age. A v6 entry is 32 bytes. Two candidate buckets of one cache
// line each (4 or 2 entries); inside them entries seen once give way before confirmed ones, so a flood does
// not evict idle messengers, and among equals the oldest goes. When both buckets are full of live entries,
// one of them moves to its own other bucket if there is room (one step of cuckoo hashing, Pagh & Rodler
// 2004).
//
// The first bucket is a keyed hash's, so nobody without the seed can choose it. The second lies a distance
// away that depends on the entry's key alone, so that an entry can be moved without knowing its hash.
//
// Threads: one owner writes. Other threads may look up (ICMP errors and fragments reach the wrong worker
// under RSS): words are relaxed atomics, a writer empties the state before it changes a key, and a reader
// reads the key again after the value: a torn entry is a miss.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dataplane/core/pages.h"

namespace detour::core {

/// What is known of a flow. Order is eviction order: lower gives way first.
enum class FlowState : std::uint8_t {
    kEmpty = 0,
    kTombstone = 1,    ///< was reset; answered again until its client is gone
    kSwept = 2,        ///< was reset by the sweep, which has not heard from its client yet
    kClosing = 3,      ///< FIN or RST seen
    kSeenOnce = 4,     ///< one packet
    kUdp = 5,          ///< UDP, more than one packet
    kEstablished = 6,  ///< TCP, more than one packet
};

/// The flow is over: its client was told, and is told again whatever becomes of the site.
[[nodiscard]] constexpr bool was_reset(FlowState state) noexcept {
    return state == FlowState::kTombstone || state == FlowState::kSwept;
}

/// More than one packet was seen: a real client's flow, as far as anyone can tell.
[[nodiscard]] constexpr bool is_confirmed(FlowState state) noexcept {
    return state >= FlowState::kUdp;
}

/// The value word of an entry: ack 32 | backend 16 | state 3, syn-pending 1, age 12.
class FlowValue {
  public:
    constexpr FlowValue() noexcept = default;
    constexpr explicit FlowValue(std::uint64_t word) noexcept : word_(word) {}
    [[nodiscard]] static constexpr FlowValue make(std::uint16_t backend, FlowState state, std::uint32_t ack,
                                                  std::uint16_t tick) noexcept {
        return FlowValue(static_cast<std::uint64_t>(ack) << 32U | static_cast<std::uint64_t>(backend) << 16U |
                         static_cast<std::uint64_t>(state) << 13U | (tick & kTickMask));
    }
    [[nodiscard]] constexpr std::uint64_t word() const noexcept { return word_; }
    [[nodiscard]] constexpr std::uint32_t ack() const noexcept {
        return static_cast<std::uint32_t>(word_ >> 32U);
    }
    [[nodiscard]] constexpr std::uint16_t backend() const noexcept {
        return static_cast<std::uint16_t>(word_ >> 16U);
    }
    [[nodiscard]] constexpr FlowState state() const noexcept {
        return static_cast<FlowState>(word_ >> 13U & 7U);
    }
    /// A SYN with this flow's key was seen after the flow was made: its ACK may be a new flow's.
    [[nodiscard]] constexpr bool syn_pending() const noexcept { return (word_ >> 12U & 1U) != 0; }
    [[nodiscard]] constexpr std::uint16_t tick() const noexcept {
        return static_cast<std::uint16_t>(word_ & kTickMask);
    }

    [[nodiscard]] constexpr FlowValue with_state(FlowState s) const noexcept {
        return FlowValue((word_ & ~(7ULL << 13U)) | static_cast<std::uint64_t>(s) << 13U);
    }
    [[nodiscard]] constexpr FlowValue with_ack(std::uint32_t a) const noexcept {
        return FlowValue((word_ & 0xffffffffULL) | static_cast<std::uint64_t>(a) << 32U);
    }
    [[nodiscard]] constexpr FlowValue with_tick(std::uint16_t t) const noexcept {
        return FlowValue((word_ & ~static_cast<std::uint64_t>(kTickMask)) | (t & kTickMask));
    }
    [[nodiscard]] constexpr FlowValue with_backend(std::uint16_t b) const noexcept {
        return FlowValue((word_ & ~(0xffffULL << 16U)) | static_cast<std::uint64_t>(b) << 16U);
    }
    [[nodiscard]] constexpr FlowValue with_syn_pending(std::uint64_t one_or_zero) const noexcept {
        return FlowValue((word_ & ~(1ULL << 12U)) | one_or_zero << 12U);
    }

    /// An established flow without a SYN beside it.
    [[nodiscard]] constexpr bool is_settled() const noexcept {
        return (word_ & 0xf000U) == static_cast<std::uint64_t>(FlowState::kEstablished) << 13U;
    }
    /// As with_ack() and with_tick(); `tick` as tick_of() gives it.
    [[nodiscard]] constexpr FlowValue seen(std::uint32_t ack, std::uint16_t tick) const noexcept {
        return FlowValue((word_ & 0xfffff000U) | static_cast<std::uint64_t>(ack) << 32U | tick);
    }

    static constexpr std::uint16_t kTickMask = 0x0fff;

  private:
    std::uint64_t word_ = 0;
};

/// Ages count in ticks of 2 s in 12 bits: 2.3 h until an age wraps. The sweep visits every entry far more
/// often.
inline constexpr std::uint64_t kTickNs = 2'000'000'000ULL;
[[nodiscard]] constexpr std::uint16_t tick_of(std::uint64_t now_ns) noexcept {
    return static_cast<std::uint16_t>(now_ns / kTickNs & FlowValue::kTickMask);
}
[[nodiscard]] constexpr std::uint16_t age_of(std::uint16_t tick, std::uint16_t now) noexcept {
    return static_cast<std::uint16_t>((now - tick) & FlowValue::kTickMask);
}

/// Idle times after which an entry is dropped, in ticks.
[[nodiscard]] constexpr std::uint16_t idle_limit(FlowState state) noexcept {
    switch (state) {
        case FlowState::kEmpty:
            return 0;
        case FlowState::kTombstone:
        case FlowState::kSwept:
            return 30;  // 60 s
        case FlowState::kClosing:
            return 30;  // 60 s: retransmitted FINs still reach the backend
        case FlowState::kSeenOnce:
            return 60;  // 2 min
        case FlowState::kUdp:
            return 90;  // 3 min
        case FlowState::kEstablished:
            return 3600;  // 2 h, as Linux' tcp_keepalive_time: an idle messenger stays
    }
    return 0;
}

struct FlowKeyV4 {
    std::uint64_t word = 0;
    [[nodiscard]] static constexpr FlowKeyV4 make(std::uint32_t address, std::uint16_t port,
                                                  std::uint16_t vip) noexcept {
        return {static_cast<std::uint64_t>(address) << 32U | static_cast<std::uint64_t>(port) << 16U | vip};
    }
    constexpr bool operator==(const FlowKeyV4&) const noexcept = default;
    static constexpr std::size_t kWords = 1;
    [[nodiscard]] constexpr std::uint64_t at(std::size_t) const noexcept { return word; }
    [[nodiscard]] constexpr std::uint16_t vip() const noexcept { return static_cast<std::uint16_t>(word); }
    /// Between the two buckets; odd, so that they differ.
    [[nodiscard]] constexpr std::size_t distance() const noexcept {
        return static_cast<std::size_t>(word * 0x9e3779b97f4a7c15ULL >> 32U | 1U);
    }
};

struct FlowKeyV6 {
    std::array<std::uint64_t, 3> words{};
    [[nodiscard]] static FlowKeyV6 make(const std::uint8_t* address, std::uint16_t port,
                                        std::uint16_t vip) noexcept {
        FlowKeyV6 key;
        std::memcpy(key.words.data(), address, 16);
        key.words[2] = static_cast<std::uint64_t>(port) << 16U | vip;
        return key;
    }
    constexpr bool operator==(const FlowKeyV6&) const noexcept = default;
    static constexpr std::size_t kWords = 3;
    [[nodiscard]] constexpr std::uint64_t at(std::size_t i) const noexcept { return words[i]; }
    [[nodiscard]] constexpr std::uint16_t vip() const noexcept {
        return static_cast<std::uint16_t>(words[2]);
    }
    /// As FlowKeyV4's.
    [[nodiscard]] constexpr std::size_t distance() const noexcept {
        const std::uint64_t x =
            words[0] * 0xbf58476d1ce4e5b9ULL ^ words[1] * 0x94d049bb133111ebULL ^ words[2];
        return static_cast<std::size_t>(x * 0x9e3779b97f4a7c15ULL >> 32U | 1U);
    }
};

/// Key words first, value word last.
template <class Key>
class FlowEntry {
  public:
    [[nodiscard]] FlowValue value() const noexcept {
        return FlowValue(words_[Key::kWords].load(std::memory_order_relaxed));
    }
    void set_value(FlowValue v) noexcept { words_[Key::kWords].store(v.word(), std::memory_order_relaxed); }
    [[nodiscard]] bool has_key(const Key& key) const noexcept {
        for (std::size_t i = 0; i < Key::kWords; ++i) {
            if (words_[i].load(std::memory_order_relaxed) != key.at(i)) return false;
        }
        return true;
    }
    /// Empty. The key goes too, so that find() needs to compare keys only: no flow has the key 0 (an address
    /// of 0 is no client's).
    void clear() noexcept {
        set_value(FlowValue{});
        std::atomic_thread_fence(std::memory_order_release);
        for (std::size_t i = 0; i < Key::kWords; ++i) words_[i].store(0, std::memory_order_relaxed);
    }
    /// Owner only.
    void write(const Key& key, FlowValue v) noexcept {
        set_value(FlowValue{});
        std::atomic_thread_fence(std::memory_order_release);
        for (std::size_t i = 0; i < Key::kWords; ++i) words_[i].store(key.at(i), std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_release);
        set_value(v);
    }
    [[nodiscard]] std::uint64_t key_word(std::size_t i) const noexcept {
        return words_[i].load(std::memory_order_relaxed);
    }
    [[nodiscard]] Key key() const noexcept {
        std::array<std::uint64_t, Key::kWords> words;
        for (std::size_t i = 0; i < Key::kWords; ++i) words[i] = key_word(i);
        return std::bit_cast<Key>(words);
    }

  private:
    std::array<std::atomic<std::uint64_t>, Key::kWords + 1> words_{};
};
static_assert(sizeof(FlowEntry<FlowKeyV4>) == 16);
static_assert(sizeof(FlowEntry<FlowKeyV6>) == 32);

/// What a new entry may take the place of when there is no free one.
enum class MayEvict : std::uint8_t {
    kUnconfirmed,  ///< for what anyone can send from any address: a datagram, a segment without a handshake
    kConfirmed,    ///< the least of all, idle established flows too
};

/// What became of a new entry.
struct Inserted {
    bool made = true;  ///< false: it could have taken a confirmed one's place only, and may not
    FlowValue gone;    ///< the live entry that gave way; kEmpty: none had to
};

template <class Key>
class FlowTable {
  public:
    using Entry = FlowEntry<Key>;
    static constexpr std::size_t kBucketEntries = 64 / sizeof(Entry);
    struct alignas(64) Bucket {
        std::array<Entry, kBucketEntries> entries;
    };

    /// `entries` is rounded up to a power of two buckets. Throws std::bad_alloc at start-up only.
    explicit FlowTable(std::size_t entries)
        : pages_(std::bit_ceil((entries + kBucketEntries - 1) / kBucketEntries) * sizeof(Bucket)),
          buckets_(static_cast<Bucket*>(pages_.get())),
          mask_(pages_.size() / sizeof(Bucket) - 1) {}

    // Inlined always: GCC 12 takes a function that only prefetches for one without effect and drops the call.
    /// The line that find_first() reads.
    [[gnu::always_inline]] void prefetch_first(std::uint64_t hash) const noexcept {
        __builtin_prefetch(&buckets_[first(hash)]);
    }
    /// The other one that find() and insert() read.
    [[gnu::always_inline]] void prefetch_second(const Key& key, std::uint64_t hash) const noexcept {
        __builtin_prefetch(&buckets_[other(first(hash), key)]);
    }

    /// Owner: the entry with this key if it lies in its first bucket, as all but a few in a hundred do while
    /// half of the table is in use; else null, which means nothing.
    [[nodiscard]] Entry* find_first(const Key& key, std::uint64_t hash) noexcept {
        return find_in(buckets_[first(hash)], key);
    }
    /// Owner: the entry with this key, or null.
    [[nodiscard]] Entry* find(const Key& key, std::uint64_t hash) noexcept {
        const std::size_t a = first(hash);
        Entry* entry = find_in(buckets_[a], key);
        return entry != nullptr ? entry : find_in(buckets_[other(a, key)], key);
    }

    /// Any thread: a copy of the value, kEmpty when there is none or it was being written.
    [[nodiscard]] FlowValue peek(const Key& key, std::uint64_t hash) const noexcept {
        for (const std::size_t b : {first(hash), other(first(hash), key)}) {
            for (const Entry& e : buckets_[b].entries) {
                if (!e.has_key(key)) continue;
                std::atomic_thread_fence(std::memory_order_acquire);
                const FlowValue v = e.value();
                std::atomic_thread_fence(std::memory_order_acquire);
                if (e.has_key(key) && v.state() != FlowState::kEmpty) return v;
            }
        }
        return FlowValue{};
    }

    /// Owner: makes an entry for a key that find() does not know. Makes none when a confirmed one would have
    /// to give way and `may_evict` forbids it.
    Inserted insert(const Key& key, std::uint64_t hash, FlowValue value, std::uint16_t now_tick,
                    MayEvict may_evict = MayEvict::kConfirmed) noexcept {
        // The first bucket as long as it has room: established flows then cost one cache line each.
        const std::size_t a = first(hash);
        const std::size_t b = other(a, key);
        Candidate best = weakest(buckets_[a], now_tick);
        if (best.worth != 0) {
            const Candidate second = weakest(buckets_[b], now_tick);
            if (second.worth < best.worth) best = second;
        }
        if (best.worth != 0) {
            Entry* moved = make_room(a, now_tick);
            if (moved == nullptr) moved = make_room(b, now_tick);
            if (moved != nullptr) best = {.entry = moved, .worth = 0};
        }
        if (may_evict == MayEvict::kUnconfirmed && best.worth >= kConfirmedWorth) return {.made = false};
        const FlowValue before = best.entry->value();
        if (before.state() == FlowState::kEmpty) ++used_;
        best.entry->write(key, value);
        return {.gone = best.worth != 0 ? before : FlowValue{}};
    }

    /// The first so many buckets are behind a sweep that is under way: no entry moves there from before it.
    void swept(std::size_t buckets) noexcept { swept_ = buckets; }

    void erase(Entry& entry) noexcept {
        entry.clear();
        --used_;
    }

    /// Occupied entries, expired ones that the sweep has not met included. Owner only.
    [[nodiscard]] std::size_t used() const noexcept { return used_; }
    [[nodiscard]] std::size_t buckets() const noexcept { return mask_ + 1; }
    [[nodiscard]] std::size_t capacity() const noexcept { return buckets() * kBucketEntries; }
    /// Owner, for the sweep.
    [[nodiscard]] Bucket& bucket(std::size_t index) noexcept { return buckets_[index]; }

  private:
    struct Candidate {
        Entry* entry = nullptr;
        std::uint32_t worth = 0;  ///< 0: free or expired
    };
    /// The first of those that are worth least.
    [[nodiscard]] static Candidate weakest(Bucket& bucket, std::uint16_t now_tick) noexcept {
        constexpr int kPositionBits = 2;
        __m128i least = _mm_or_si128(_mm_slli_epi32(worths(low_halves(bucket), now_tick), kPositionBits),
                                     _mm_set_epi32(3, 2, 1, 0));
        if constexpr (kBucketEntries == 2) least = _mm_unpacklo_epi64(least, least);
        least = _mm_min_epu32(least, _mm_shuffle_epi32(least, 0b01'00'11'10));
        least = _mm_min_epu32(least, _mm_shuffle_epi32(least, 0b10'11'00'01));
        const auto found = static_cast<std::uint32_t>(_mm_cvtsi128_si32(least));
        return {.entry = &bucket.entries[found % (1U << kPositionBits)], .worth = found >> kPositionBits};
    }
    /// Moves one live entry of this full bucket to its other bucket and gives its place, now empty; null when
    /// none can move. A table that is full answers so nearly always, and looking costs cache misses: failures
    /// use up credit that only successes bring back, and time (`kCredit` anew every tick).
    [[nodiscard]] Entry* make_room(std::size_t index, std::uint16_t now_tick) noexcept {
        if (credit_tick_ != now_tick) {
            credit_tick_ = now_tick;
            credit_ = kCredit;
        }
        if (credit_ == 0) return nullptr;
        for (Entry& e : buckets_[index].entries) {
            const Key key = e.key();
            const std::size_t there = other(index, key);
            if (there < swept_ && index >= swept_) continue;
            const Candidate place = weakest(buckets_[there], now_tick);
            if (place.worth != 0 || place.entry == &e) continue;
            if (place.entry->value().state() == FlowState::kEmpty) ++used_;
            place.entry->write(key, e.value());
            e.clear();
            --used_;
            credit_ = std::min(credit_ + 4, kCredit);
            return &e;
        }
        --credit_;
        return nullptr;
    }
    [[nodiscard]] std::size_t first(std::uint64_t hash) const noexcept { return (hash >> 28U) & mask_; }
    [[nodiscard]] std::size_t other(std::size_t index, const Key& key) const noexcept {
        return (index ^ key.distance()) & mask_;
    }
    [[nodiscard]] static Entry* find_in(Bucket& bucket, const Key& key) noexcept {
        const unsigned m = matches(bucket, key);
        return m == 0 ? nullptr : &bucket.entries[static_cast<std::size_t>(std::countr_zero(m))];
    }
    /// A bit for each entry of the bucket that has this key.
    [[nodiscard]] static unsigned matches(const Bucket& bucket, const FlowKeyV4& key) noexcept {
        const auto* lines = reinterpret_cast<const __m256i*>(&bucket);
        const __m256i wanted = _mm256_set1_epi64x(static_cast<long long>(key.word));
        // Key words next to one another: entries 0, 2, 1, 3 of the bucket.
        const __m256i keys = _mm256_unpacklo_epi64(_mm256_load_si256(lines), _mm256_load_si256(lines + 1));
        const __m256i equal = _mm256_permute4x64_epi64(_mm256_cmpeq_epi64(keys, wanted), 0b11'01'10'00);
        return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(equal)));
    }
    [[nodiscard]] static unsigned matches(const Bucket& bucket, const FlowKeyV6& key) noexcept {
        const auto* lines = reinterpret_cast<const __m256i*>(&bucket);
        const __m256i wanted =
            _mm256_set_epi64x(0, static_cast<long long>(key.words[2]), static_cast<long long>(key.words[1]),
                              static_cast<long long>(key.words[0]));
        const auto same = [&](const __m256i* entry) {
            const __m256i equal = _mm256_cmpeq_epi64(_mm256_load_si256(entry), wanted);
            return (_mm256_movemask_pd(_mm256_castsi256_pd(equal)) & 7) == 7 ? 1U : 0U;
        };
        return same(lines) | same(lines + 1) << 1U;
    }
    /// The halves of the value words that hold state and age, in order; of two entries the first two lanes.
    [[nodiscard]] static __m128i low_halves(const Bucket& bucket) noexcept {
        const auto value_of = [&](std::size_t entry) {
            const auto* end = reinterpret_cast<const __m128i*>(&bucket.entries[entry] + 1);
            return _mm_load_si128(end - 1);
        };
        const __m128i first_two = _mm_unpackhi_epi32(value_of(0), value_of(1));
        if constexpr (kBucketEntries == 2)
            return first_two;
        else
            return _mm_unpacklo_epi64(first_two, _mm_unpackhi_epi32(value_of(2), value_of(3)));
    }
    /// By lane: 0 free or expired; then by state, then the younger the more.
    [[nodiscard]] static __m128i worths(__m128i values, std::uint16_t now) noexcept {
        static constexpr auto kLimits = [] {
            std::array<std::int32_t, 8> limits{};
            for (unsigned s = 0; s < limits.size(); ++s) limits[s] = idle_limit(static_cast<FlowState>(s));
            limits[static_cast<std::size_t>(FlowState::kEmpty)] = -1;  // any age is beyond it
            return limits;
        }();
        const __m128i states = _mm_and_si128(_mm_srli_epi32(values, 13), _mm_set1_epi32(7));
        const __m128i ages =
            _mm_and_si128(_mm_sub_epi32(_mm_set1_epi32(now), values), _mm_set1_epi32(FlowValue::kTickMask));
        const __m128i limits = _mm256_castsi256_si128(
            _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLimits.data())),
                                        _mm256_castsi128_si256(states)));
        const __m128i live =
            _mm_add_epi32(_mm_slli_epi32(states, 16), _mm_sub_epi32(_mm_set1_epi32(0x1000), ages));
        return _mm_andnot_si128(_mm_cmpgt_epi32(ages, limits), live);
    }
    static constexpr std::uint32_t kConfirmedWorth = static_cast<std::uint32_t>(FlowState::kUdp) << 16U;

    Pages pages_;
    Bucket* buckets_;
    std::size_t mask_;
    std::size_t used_ = 0;
    static constexpr std::uint32_t kCredit = 64;
    std::uint32_t credit_ = kCredit;
    std::uint16_t credit_tick_ = 0;
    std::size_t swept_ = 0;
};

using FlowTableV4 = FlowTable<FlowKeyV4>;
using FlowTableV6 = FlowTable<FlowKeyV6>;

}  // namespace detour::core
