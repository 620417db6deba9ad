// Recent SYNs: where the SYN of a handshake in flight was sent. Per worker, direct-mapped, 16 bytes an entry.
//
// A SYN makes no flow entry; it writes here, and the handshake's ACK is answered from here. So a drain, a
// ramp or a reused 5-tuple breaks no handshake in flight, a flood can only overwrite, and a spoofed SYN can't
// unpin a live flow. IPv6 keys are 64-bit keyed hashes of the whole key. One owner, no other thread reads.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

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
        : pages_(std::bit_ceil(entries) * sizeof(SynEntry)),
          entries_(static_cast<SynEntry*>(pages_.get())),
          mask_(std::bit_ceil(entries) - 1) {}

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
        SynEntry& e = entries_[index(hash)];
        if (e.key != key || e.time == 0) return nullptr;
        if (static_cast<std::uint16_t>(now - e.time) > kLifetime) return nullptr;
        return &e;
    }
    void put(std::uint64_t key, std::uint64_t hash, SynEntry entry) noexcept {
        entry.key = key;
        entries_[index(hash)] = entry;
    }

    [[nodiscard]] std::size_t size() const noexcept { return mask_ + 1; }
    /// For the sweep.
    [[nodiscard]] SynEntry& at(std::size_t i) noexcept { return entries_[i]; }

  private:
    [[nodiscard]] std::size_t index(std::uint64_t hash) const noexcept { return (hash >> 20U) & mask_; }

    Pages pages_;
    SynEntry* entries_;
    std::size_t mask_;
};

}  // namespace detour::core
