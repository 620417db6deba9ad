// Maglev lookup table of one pool in one site (Eisenbud et al., NSDI 2016, section 3.4), with weights.
//
// The size is a prime of a fixed list, at least 320 x max_backends, and never changes with today's number of
// backends. A share is then within 0.4 % of its weight, and one backend more or less of a hundred moves 0.7 %
// of the others' flows on average and 0.9 % at worst: what moves falls with the root of the size
// (docs/adr/0007-maglev-size.md), and members' permutations are drawn in short walks, so that no two of them
// resemble each other (docs/adr/0012-short-walks.md). (A lone backend has a table of one entry,
// which leads every hash to it as any size would.) Members take turns in the order of their keys, as often as
// their weight earns; one whose weight earns no turn still gets one entry. Permutations depend on backend
// addresses and the seed alone. Immutable after building, any thread may read.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace detour::core {

struct MaglevMember {
    std::uint64_t key_hash = 0;  ///< of the backend's address
    std::uint16_t backend = 0;   ///< BackendId, what the table holds
    std::uint32_t weight = 0;    ///< 0: not in the table
    auto operator<=>(const MaglevMember&) const noexcept = default;
};

class MaglevTable {
  public:
    /// The prime used for `max_backends` (1 … 4096).
    [[nodiscard]] static std::uint32_t size_for(std::uint32_t max_backends) noexcept;

    /// `members` in any order; empty or all of weight 0 gives an empty table.
    [[nodiscard]] static std::shared_ptr<const MaglevTable> build(std::span<const MaglevMember> members,
                                                                  std::uint32_t max_backends,
                                                                  std::uint64_t seed);

    [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
    [[nodiscard]] std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(entries_.size()); }
    [[nodiscard]] std::uint16_t at(std::uint32_t index) const noexcept { return entries_[index]; }
    [[nodiscard]] const std::uint16_t* entries() const noexcept { return entries_.data(); }
    /// The index that a flow hash leads to in a table of `size` entries.
    [[nodiscard]] static std::uint32_t index_in(std::size_t size, std::uint64_t hash) noexcept {
        return static_cast<std::uint32_t>((hash >> 32U) * size >> 32U);
    }
    [[nodiscard]] std::uint32_t index_of(std::uint64_t hash) const noexcept {
        return index_in(entries_.size(), hash);
    }
    /// Sorted.
    [[nodiscard]] std::span<const MaglevMember> built_from() const noexcept { return members_; }
    /// True when build() of the same seed would make this very table again. `members` are sorted.
    [[nodiscard]] bool made_for(std::span<const MaglevMember> members,
                                std::uint32_t max_backends) const noexcept;

  private:
    std::vector<std::uint16_t> entries_;
    std::vector<MaglevMember> members_;
};

}  // namespace detour::core
