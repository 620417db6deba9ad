// The site table of a pool: 4096 slots, each ranking up to 8 sites.
//
// A slot's order is by tier, then weighted rendezvous (Thaler & Ravishankar 1998; weights by -ln(u)/w), then
// corrected so that each rank gives each site its exact share of slots, to one slot. The last two ranks are
// kept for the next tiers. A rank is one byte: the SiteId. Depends on site keys, weights, tiers and the seed
// alone. Immutable after building, any thread may read.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/api/limits.h"
#include "dataplane/api/types.h"

namespace detour::core {

struct RankedSite {
    std::uint64_t key_hash = 0;  ///< hash_text(seed, site key)
    std::uint8_t site = 0;       ///< SiteId, what the slots name
    std::uint32_t weight = 0;    ///< 0: never ranked
    std::uint8_t tier = 0;
    bool operator==(const RankedSite&) const noexcept = default;
};

class SiteTable {
  public:
    static constexpr std::uint8_t kNone = 255;

    /// The ranks of `slot`: byte r (little end first) is the SiteId of rank r, kNone beyond the last.
    [[nodiscard]] std::uint64_t ranks(std::uint32_t slot) const noexcept { return slots_[slot]; }
    [[nodiscard]] const std::uint64_t* slots() const noexcept { return slots_.data(); }
    [[nodiscard]] static std::uint8_t site_at(std::uint64_t ranks, unsigned rank) noexcept {
        return static_cast<std::uint8_t>(ranks >> (8 * rank));
    }

    /// What it was built from, sorted by key hash; equal inputs share one table.
    [[nodiscard]] std::span<const RankedSite> built_from() const noexcept { return sites_; }

    /// `sites` in any order, at most kMaxSites. O(4096 x sites x log).
    [[nodiscard]] static std::shared_ptr<const SiteTable> build(std::span<const RankedSite> sites,
                                                                std::uint64_t seed);

  private:
    std::array<std::uint64_t, api::kSiteSlots> slots_{};
    std::vector<RankedSite> sites_;
};

}  // namespace detour::core
