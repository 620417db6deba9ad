// The flow table: which backend a client's flow is pinned to. Per worker, share-nothing, allocation-free.
//
// A v4 entry is 16 bytes: one word is the whole key (client address, client port, VIP id), the other the last
// ACK seen, the backend, the state and the age. A v6 entry is 32 bytes. Two candidate buckets of one cache
// line each (4 or 2 entries); inside them entries seen once give way before confirmed ones, so a flood does
// not evict idle messengers, and among equals the oldest goes.
//
// Threads: one owner writes. Other threads may look up (ICMP errors and fragments reach the wrong worker
// under RSS): words are relaxed atomics, a writer empties the state before it changes a key, and a reader
// reads the key again after the value: a torn entry is a miss.
#pragma once

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
    kClosing = 2,      ///< FIN or RST seen
    kSeenOnce = 3,     ///< one packet
    kUdp = 4,          ///< UDP, more than one packet
    kEstablished = 5,  ///< TCP, more than one packet
};

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
    void clear() noexcept { set_value(FlowValue{}); }
    /// Owner only.
    void write(const Key& key, FlowValue v) noexcept {
        clear();
        std::atomic_thread_fence(std::memory_order_release);
        for (std::size_t i = 0; i < Key::kWords; ++i) words_[i].store(key.at(i), std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_release);
        set_value(v);
    }
    [[nodiscard]] std::uint64_t key_word(std::size_t i) const noexcept {
        return words_[i].load(std::memory_order_relaxed);
    }

  private:
    std::array<std::atomic<std::uint64_t>, Key::kWords + 1> words_{};
};
static_assert(sizeof(FlowEntry<FlowKeyV4>) == 16);
static_assert(sizeof(FlowEntry<FlowKeyV6>) == 32);

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
    [[gnu::always_inline]] void prefetch(std::uint64_t hash) const noexcept {
        __builtin_prefetch(&buckets_[first(hash)]);
        __builtin_prefetch(&buckets_[second(hash)]);
    }

    /// Owner: the entry with this key, or null.
    [[nodiscard]] Entry* find(const Key& key, std::uint64_t hash) noexcept {
        for (Entry& e : buckets_[first(hash)].entries) {
            if (e.has_key(key) && e.value().state() != FlowState::kEmpty) return &e;
        }
        for (Entry& e : buckets_[second(hash)].entries) {
            if (e.has_key(key) && e.value().state() != FlowState::kEmpty) return &e;
        }
        return nullptr;
    }

    /// Any thread: a copy of the value, kEmpty when there is none or it was being written.
    [[nodiscard]] FlowValue peek(const Key& key, std::uint64_t hash) const noexcept {
        for (const std::size_t b : {first(hash), second(hash)}) {
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

    /// Owner: makes an entry for a key that find() does not know. Never fails; returns true when a live one
    /// gave way.
    bool insert(const Key& key, std::uint64_t hash, FlowValue value, std::uint16_t now_tick) noexcept {
        // Two choices, the emptier bucket wins: at half load both are full for about 2 keys in 10,000.
        const std::size_t a = first(hash);
        const std::size_t b = second(hash);
        Candidate best = weakest(buckets_[a], now_tick);
        const Candidate other = weakest(buckets_[b], now_tick);
        if (other.free > best.free || (best.free == 0 && other.worth < best.worth)) best = other;
        const bool evicted = best.worth != 0;
        Entry* victim = best.entry;
        if (victim->value().state() == FlowState::kEmpty) ++used_;
        victim->write(key, value);
        return evicted;
    }

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
        std::uint32_t free = 0;   ///< free or expired entries of its bucket
    };
    [[nodiscard]] static Candidate weakest(Bucket& bucket, std::uint16_t now_tick) noexcept {
        Candidate c;
        c.worth = ~0U;
        for (Entry& e : bucket.entries) {
            const std::uint32_t worth = worth_of(e.value(), now_tick);
            c.free += worth == 0 ? 1 : 0;
            if (worth < c.worth) {
                c.worth = worth;
                c.entry = &e;
            }
        }
        return c;
    }
    [[nodiscard]] std::size_t first(std::uint64_t hash) const noexcept { return (hash >> 28U) & mask_; }
    [[nodiscard]] std::size_t second(std::uint64_t hash) const noexcept {
        return (hash * 0x9e3779b97f4a7c15ULL >> 24U) & mask_;
    }
    /// 0 free or expired; then by state, then the younger the more.
    [[nodiscard]] static std::uint32_t worth_of(FlowValue v, std::uint16_t now) noexcept {
        if (v.state() == FlowState::kEmpty) return 0;
        const std::uint16_t age = age_of(v.tick(), now);
        if (age > idle_limit(v.state())) return 0;
        return static_cast<std::uint32_t>(v.state()) << 16U | (0x1000U - age);
    }

    Pages pages_;
    Bucket* buckets_;
    std::size_t mask_;
    std::size_t used_ = 0;
};

using FlowTableV4 = FlowTable<FlowKeyV4>;
using FlowTableV6 = FlowTable<FlowKeyV6>;

}  // namespace detour::core
