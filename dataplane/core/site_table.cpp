// How the ranks come about.
//
// Plain weighted rendezvous gives slot s the site with the least -log2(u(s, site)) / weight. That is right on
// average and off by the root of the count in one table. So every rank is filled in groups: the slots that
// agree in the set of sites ranked so far (at rank 0 there is one group). Which sites are dark decides which
// group's flows look at this rank, so each group gets its own exact shares. What rounding owes a site in one
// group, it gets in the next. Then slots move from sites above their share to sites below, the slot that
// minds least first, and no slot more than needed: what is left is close to plain rendezvous, and so a new or
// removed site disturbs few others. Integers only: every host must come to the same table.

#include "dataplane/core/site_table.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <queue>

#include "dataplane/core/hash.h"

namespace detour::core {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::size_t kSlots = api::kSiteSlots;
constexpr std::size_t kRanks = api::kSiteRanks;
constexpr std::size_t kNextTierRanks = 2;
constexpr unsigned kLogBits = 40;  ///< fractional bits of a logarithm
constexpr unsigned kStepBits = 11;
constexpr unsigned kShareBits = 32;  ///< fractional bits of a share, in slots

/// log2(1 + i / 2048) in units of 2^-40, by repeated squaring.
[[nodiscard]] std::array<std::uint64_t, (1U << kStepBits) + 1> make_log_steps() {
    std::array<std::uint64_t, (1U << kStepBits) + 1> steps{};
    for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
        std::uint64_t y = (1ULL << 63U) + (static_cast<std::uint64_t>(i) << (63U - kStepBits));
        std::uint64_t log = 0;
        for (unsigned bit = 0; bit < kLogBits; ++bit) {
            const Wide square = static_cast<Wide>(y) * y;
            const bool two_or_more = square >> 127U != 0;
            y = static_cast<std::uint64_t>(square >> (two_or_more ? 64U : 63U));
            log = log << 1U | (two_or_more ? 1U : 0U);
        }
        steps[i] = log;
    }
    steps.back() = 1ULL << kLogBits;
    return steps;
}

/// -log2(x / 2^64) in units of 2^-40, at most 64; linear between 2048 steps, which is right to 2^-24.
[[nodiscard]] std::uint64_t minus_log2(std::uint64_t x) noexcept {
    static const auto steps = make_log_steps();
    x |= 1U;
    const auto zeros = static_cast<unsigned>(std::countl_zero(x));
    const std::uint64_t mantissa = x << zeros << 1U;
    const std::uint64_t step = mantissa >> (64U - kStepBits);
    const std::uint64_t rest = mantissa << kStepBits >> 32U;
    const std::uint64_t log = steps[step] + ((steps[step + 1] - steps[step]) * rest >> 32U);
    return (static_cast<std::uint64_t>(zeros + 1) << kLogBits) - log;
}

/// The first `count` bytes as a set: sorted, one after the other. At most 7, so that no two sets are alike.
[[nodiscard]] std::uint64_t set_of(std::array<std::uint8_t, kRanks> bytes, std::size_t count) noexcept {
    std::uint64_t set = 0;
    for (std::size_t i = 0; i < count; ++i) {
        std::size_t at = i;
        for (; at > 0 && bytes[at - 1] > bytes[at]; --at) std::swap(bytes[at - 1], bytes[at]);
    }
    for (std::size_t i = 0; i < count; ++i) set = set << 8U | bytes[i];
    return set;
}

/// The tiers' places: ranks first … first + count - 1 go to the sites begin … end - 1.
struct TierPlace {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::size_t first = 0;
    std::size_t count = 0;
};

/// One slot that could go from a site above its share to one below.
struct Move {
    std::uint64_t cost = 0;
    std::uint16_t slot = 0;
    std::uint8_t to = 0;
    /// The cheapest first in a priority queue, ties by slot and site.
    bool operator<(const Move& other) const noexcept {
        if (cost != other.cost) return cost > other.cost;
        return slot != other.slot ? slot > other.slot : to > other.to;
    }
};

/// Sites in the order that the tables use: by tier, then by key hash. Weight 0 is left out.
class Builder {
  public:
    Builder(std::vector<RankedSite> sites, std::uint64_t seed) : sites_(std::move(sites)) {
        place_tiers();
        score_all(seed);
    }

    [[nodiscard]] std::array<std::uint64_t, kSlots> run() {
        for (auto& slot : order_) slot.fill(kNoIndex);
        for (const TierPlace& place : places_)
            for (std::size_t rank = place.first; rank < place.first + place.count; ++rank)
                fill_rank(place, rank);
        std::array<std::uint64_t, kSlots> result{};
        for (std::size_t slot = 0; slot < kSlots; ++slot)
            for (std::size_t rank = 0; rank < kRanks; ++rank) {
                const std::uint8_t index = order_[slot][rank];
                const std::uint64_t site = index == kNoIndex ? SiteTable::kNone : sites_[index].site;
                result[slot] |= site << (8 * rank);
            }
        return result;
    }

  private:
    static constexpr std::uint8_t kNoIndex = 255;

    struct Member {
        std::uint64_t group = 0;  ///< the sites ranked so far, sorted, a byte each
        std::uint16_t slot = 0;
        auto operator<=>(const Member&) const noexcept = default;
    };

    void place_tiers() {
        std::size_t rank = 0;
        for (std::size_t begin = 0; begin < sites_.size() && rank < kRanks;) {
            std::size_t end = begin;
            while (end < sites_.size() && sites_[end].tier == sites_[begin].tier) ++end;
            const std::size_t limit = kRanks - std::min(kNextTierRanks, sites_.size() - end);
            const std::size_t room = rank < limit ? limit - rank : kRanks - rank;
            places_.push_back({begin, end, rank, std::min(room, end - begin)});
            rank += places_.back().count;
            begin = end;
        }
    }

    void score_all(std::uint64_t seed) {
        scores_.resize(kSlots * sites_.size());
        for (std::size_t i = 0; i < sites_.size(); ++i) {
            const std::uint64_t base = mix64(sites_[i].key_hash ^ mix64(seed));
            const std::uint64_t inverse = std::numeric_limits<std::uint64_t>::max() / sites_[i].weight;
            for (std::size_t slot = 0; slot < kSlots; ++slot) {
                const std::uint64_t log = minus_log2(mix64(base + slot * 0x9e3779b97f4a7c15ULL));
                scores_[slot * sites_.size() + i] =
                    static_cast<std::uint64_t>(static_cast<Wide>(log << 17U) * inverse >> 64U);
            }
        }
    }

    [[nodiscard]] std::uint64_t score(std::size_t slot, std::size_t site) const noexcept {
        return scores_[slot * sites_.size() + site];
    }

    [[nodiscard]] bool ranked(std::size_t slot, std::uint8_t site, std::size_t ranks) const noexcept {
        for (std::size_t rank = 0; rank < ranks; ++rank)
            if (order_[slot][rank] == site) return true;
        return false;
    }

    void fill_rank(const TierPlace& place, std::size_t rank) {
        std::vector<Member> members(kSlots);
        for (std::size_t slot = 0; slot < kSlots; ++slot) {
            members[slot] = {set_of(order_[slot], rank), static_cast<std::uint16_t>(slot)};
        }
        std::sort(members.begin(), members.end());
        owed_.assign(sites_.size(), 0);
        for (auto first = members.begin(); first != members.end();) {
            const auto last =
                std::find_if(first, members.end(), [&](const Member& m) { return m.group != first->group; });
            fill_group(place, rank, {first, last});
            first = last;
        }
    }

    /// The sites that a slot of this group may still take: those of the tier that it has not ranked yet.
    void find_candidates(const TierPlace& place, std::size_t slot, std::size_t rank) {
        candidates_.clear();
        for (std::size_t i = place.begin; i < place.end; ++i)
            if (!ranked(slot, static_cast<std::uint8_t>(i), rank))
                candidates_.push_back(static_cast<std::uint8_t>(i));
    }

    void fill_group(const TierPlace& place, std::size_t rank, std::span<const Member> group) {
        find_candidates(place, group.front().slot, rank);
        apportion(group.size());
        for (const Member& member : group) {
            std::uint8_t best = candidates_.front();
            for (const std::uint8_t site : candidates_)
                if (score(member.slot, site) < score(member.slot, best)) best = site;
            order_[member.slot][rank] = best;
            --quota_[best];
        }
        correct(rank, group);
    }

    /// Whole slots for every candidate: its share and what it is owed from earlier groups, by largest
    /// remainder.
    void apportion(std::size_t slots) {
        quota_.assign(sites_.size(), 0);
        std::uint64_t total = 0;
        for (const std::uint8_t site : candidates_) total += sites_[site].weight;
        auto left = static_cast<std::int64_t>(slots);
        for (const std::uint8_t site : candidates_) {
            const std::uint64_t share =
                (static_cast<std::uint64_t>(slots) * sites_[site].weight << kShareBits) / total;
            owed_[site] += static_cast<std::int64_t>(share);
            quota_[site] = static_cast<std::int32_t>(std::max<std::int64_t>(0, owed_[site] >> kShareBits));
            owed_[site] -= static_cast<std::int64_t>(quota_[site]) << kShareBits;
            left -= quota_[site];
        }
        for (; left != 0; left += left > 0 ? -1 : 1) give(left > 0 ? 1 : -1);
    }

    /// One slot more for the candidate that is owed most, or one less for the one that is owed least.
    void give(std::int32_t one) {
        std::uint8_t chosen = kNoIndex;
        for (const std::uint8_t site : candidates_) {
            if (one < 0 && quota_[site] == 0) continue;
            if (chosen == kNoIndex || (owed_[site] - owed_[chosen]) * one > 0) chosen = site;
        }
        quota_[chosen] += one;
        owed_[chosen] -= static_cast<std::int64_t>(one) << kShareBits;
    }

    /// `quota_` holds what each site lacks (below 0: has too much). Moves the cheapest slots until nothing
    /// lacks.
    void correct(std::size_t rank, std::span<const Member> group) {
        std::int64_t lacking = 0;
        for (const std::uint8_t site : candidates_) lacking += std::max(0, quota_[site]);
        if (lacking == 0) return;
        std::vector<Move> moves;
        for (const Member& member : group)
            if (quota_[order_[member.slot][rank]] < 0) moves.push_back(cheapest(member.slot, rank));
        std::priority_queue<Move> queue(std::less<Move>{}, std::move(moves));
        while (lacking > 0) {
            const Move move = queue.top();
            queue.pop();
            std::uint8_t& holder = order_[move.slot][rank];
            if (quota_[holder] >= 0) continue;
            if (quota_[move.to] <= 0) {
                queue.push(cheapest(move.slot, rank));
                continue;
            }
            ++quota_[holder];
            --quota_[move.to];
            holder = move.to;
            --lacking;
        }
    }

    /// The move of `slot` to the lacking site that its scores mind least.
    [[nodiscard]] Move cheapest(std::uint16_t slot, std::size_t rank) const {
        Move best{std::numeric_limits<std::uint64_t>::max(), slot, kNoIndex};
        const std::uint64_t now = score(slot, order_[slot][rank]);
        for (const std::uint8_t site : candidates_) {
            if (quota_[site] <= 0) continue;
            const std::uint64_t cost = score(slot, site) - now;
            if (best.to == kNoIndex || cost < best.cost) best = {cost, slot, site};
        }
        return best;
    }

    std::vector<RankedSite> sites_;
    std::vector<TierPlace> places_;
    std::vector<std::uint64_t> scores_;  ///< by slot, then site
    std::array<std::array<std::uint8_t, kRanks>, kSlots> order_{};
    std::vector<std::uint8_t> candidates_;
    std::vector<std::int32_t> quota_;
    std::vector<std::int64_t> owed_;  ///< in 2^-32 slots, carried from group to group of one rank
};

}  // namespace

std::shared_ptr<const SiteTable> SiteTable::build(std::span<const RankedSite> sites, std::uint64_t seed) {
    auto table = std::make_shared<SiteTable>();
    table->sites_.assign(sites.begin(), sites.end());
    std::sort(table->sites_.begin(), table->sites_.end(), [](const RankedSite& a, const RankedSite& b) {
        return a.key_hash != b.key_hash ? a.key_hash < b.key_hash : a.site < b.site;
    });
    std::vector<RankedSite> ranked;
    std::copy_if(table->sites_.begin(), table->sites_.end(), std::back_inserter(ranked),
                 [](const RankedSite& site) { return site.weight != 0; });
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const RankedSite& a, const RankedSite& b) { return a.tier < b.tier; });
    table->slots_ = std::make_unique<Builder>(std::move(ranked), seed)->run();
    return table;
}

}  // namespace detour::core
