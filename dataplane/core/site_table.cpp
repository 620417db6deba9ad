// How the ranks come about.
//
// Plain weighted rendezvous gives slot s the site with the least -log2(u(s, site)) / weight. That is right on
// average and off by the root of the count in one table. So every rank is filled in groups: the slots that
// agree in the set of sites ranked so far (at rank 0 there is one group). Which sites are dark decides which
// group's flows look at this rank, so each group gets its own exact shares. What rounding owes a site in one
// group, it gets in the next. Then slots move from sites above their share to sites below. Where all slots
// are one group (rank 0, and the first of a tier whose upper tiers are all ranked), the moves are those that
// the slots mind least together (balance.h): what is left is close to plain rendezvous, and a new or removed
// site disturbs few others. In the small groups of the other ranks, the slot that minds least goes first.
// Scores are kept as logarithms: what a slot minds is the ratio of two scores, whatever the weights.
//
// A site's random numbers are spread evenly: in 4096 slots each 4096th of their range comes once, in an order
// that is the site's own. So a third fewer slots have to be moved. Integers only: every host must come to
// the same table.

#include "dataplane/core/site_table.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "dataplane/core/balance.h"
#include "dataplane/core/hash.h"

namespace detour::core {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::size_t kSlots = api::kSiteSlots;
constexpr std::size_t kRanks = api::kSiteRanks;
constexpr std::size_t kNextTierRanks = 2;
constexpr unsigned kLogBits = 40;  ///< fractional bits of a logarithm
constexpr unsigned kStepBits = 11;
constexpr unsigned kSlotBits = std::bit_width(kSlots - 1);
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

/// A site's own order of the slots: a permutation, by four Feistel rounds of 6 bits on 6 bits.
class SlotOrder {
  public:
    explicit SlotOrder(std::uint64_t key) noexcept {
        for (auto& round : rounds_)
            for (std::uint8_t& value : round)
                value = static_cast<std::uint8_t>(mix64(key += 0x9e3779b97f4a7c15ULL) >> (64U - kHalfBits));
    }
    [[nodiscard]] std::uint64_t place_of(std::size_t slot) const noexcept {
        std::size_t left = slot >> kHalfBits;
        std::size_t right = slot & kHalfMask;
        for (const auto& round : rounds_) {
            const std::size_t mixed = left ^ round[right];
            left = right;
            right = mixed;
        }
        return left << kHalfBits | right;
    }

  private:
    static constexpr unsigned kHalfBits = 6;
    static constexpr std::size_t kHalfMask = (1U << kHalfBits) - 1;
    static_assert(kSlots == 1U << (2 * kHalfBits));
    std::array<std::array<std::uint8_t, kHalfMask + 1>, 4> rounds_{};
};

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
    /// The cheapest on top of a heap, ties by slot and site.
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
        for (const TierPlace& place : places_) {
            prefer(place);
            for (std::size_t rank = place.first; rank < place.first + place.count; ++rank)
                fill_rank(place, rank);
        }
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
            bases_.push_back(base);
            const SlotOrder order(base);
            const std::uint64_t inverse = std::numeric_limits<std::uint64_t>::max() / sites_[i].weight;
            for (std::size_t slot = 0; slot < kSlots; ++slot) {
                const std::uint64_t within = mix64(base + slot * 0x9e3779b97f4a7c15ULL) >> kSlotBits;
                const std::uint64_t log = minus_log2(order.place_of(slot) << (64U - kSlotBits) | within);
                const auto plain = static_cast<std::uint64_t>(static_cast<Wide>(log << 17U) * inverse >> 64U);
                scores_[slot * sites_.size() + i] = (64ULL << kLogBits) - minus_log2(plain);
            }
        }
    }

    [[nodiscard]] std::uint64_t score(std::size_t slot, std::size_t site) const noexcept {
        return scores_[slot * sites_.size() + site];
    }

    /// Groups are met in the order of the upper bits of their sets, so that no id counts.
    void fill_rank(const TierPlace& place, std::size_t rank) {
        constexpr std::uint64_t kSlotMask = kSlots - 1;
        for (std::size_t slot = 0; slot < kSlots; ++slot) sorted_[slot] = (sets_[slot] & ~kSlotMask) | slot;
        std::sort(sorted_.begin(), sorted_.end());
        owed_.assign(sites_.size(), 0);
        for (std::size_t at = 0; at < kSlots;) {
            const std::uint64_t set = sets_[sorted_[at] & kSlotMask];
            group_.clear();
            for (; at < kSlots && sets_[sorted_[at] & kSlotMask] == set; ++at)
                group_.push_back(static_cast<std::uint16_t>(sorted_[at] & kSlotMask));
            const auto ranked = order_[group_.front()];
            for (std::size_t i = 0; i < rank; ++i) used_[ranked[i]] = true;
            fill_group(place, rank);
            for (std::size_t i = 0; i < rank; ++i) used_[ranked[i]] = false;
        }
        for (std::size_t slot = 0; slot < kSlots; ++slot) sets_[slot] += bases_[order_[slot][rank]];
    }

    /// Plain rendezvous: each slot's best sites of this tier, best first. 8 are enough, since 7 at most are
    /// used.
    void prefer(const TierPlace& place) {
        for (std::size_t slot = 0; slot < kSlots; ++slot) {
            auto& best = preferred_[slot];
            std::size_t count = 0;
            for (std::size_t i = place.begin; i < place.end; ++i) {
                const std::uint64_t mine = score(slot, i);
                if (count == kRanks && mine >= score(slot, best[kRanks - 1])) continue;
                std::size_t at = count < kRanks ? count++ : kRanks - 1;
                for (; at > 0 && mine < score(slot, best[at - 1]); --at) best[at] = best[at - 1];
                best[at] = static_cast<std::uint8_t>(i);
            }
        }
    }

    void fill_group(const TierPlace& place, std::size_t rank) {
        find_candidates(place);
        if (group_.size() == 1) {
            order_[group_.front()][rank] = most_owed();
            return;
        }
        apportion();
        std::int64_t lacking = 0;
        for (const std::uint16_t slot : group_) {
            std::size_t at = 0;
            while (used_[preferred_[slot][at]]) ++at;
            const std::uint8_t best = preferred_[slot][at];
            order_[slot][rank] = best;
            if (--quota_[best] < 0) ++lacking;
        }
        if (lacking == 0) return;
        if (group_.size() == kSlots && candidates_.size() == place.end - place.begin)
            correct_all(place, rank);
        else
            correct(rank, lacking);
    }

    void correct_all(const TierPlace& place, std::size_t rank) {
        for (std::size_t slot = 0; slot < kSlots; ++slot) holder_[slot] = order_[slot][rank];
        balance({scores_, sites_.size(), place.begin, place.end - place.begin}, quota_, holder_);
        for (std::size_t slot = 0; slot < kSlots; ++slot) order_[slot][rank] = holder_[slot];
    }

    /// Those of the tier that the group has not used. Each is owed its share of the group from now on.
    void find_candidates(const TierPlace& place) {
        candidates_.clear();
        std::uint64_t total = 0;
        for (std::size_t i = place.begin; i < place.end; ++i) {
            if (used_[i]) continue;
            candidates_.push_back(static_cast<std::uint8_t>(i));
            total += sites_[i].weight;
        }
        const std::uint64_t inverse = std::numeric_limits<std::uint64_t>::max() / total;
        for (const std::uint8_t site : candidates_) {
            const std::uint64_t weighted = group_.size() * sites_[site].weight << kShareBits;
            owed_[site] += static_cast<std::int64_t>(static_cast<Wide>(weighted) * inverse >> 64U);
        }
    }

    /// Makes whole slots of what the candidates are owed, by largest remainder.
    void apportion() {
        auto left = static_cast<std::int64_t>(group_.size());
        for (const std::uint8_t site : candidates_) {
            const std::int64_t whole = std::max<std::int64_t>(0, owed_[site] >> kShareBits);
            quota_[site] = static_cast<std::int32_t>(whole);
            owed_[site] -= whole << kShareBits;
            left -= whole;
        }
        for (; left > 0; --left) ++quota_[most_owed()];
        for (; left < 0; ++left) take_one();
    }

    /// The candidate that is owed most, which is then owed a slot less.
    [[nodiscard]] std::uint8_t most_owed() {
        std::uint8_t chosen = candidates_.front();
        for (const std::uint8_t site : candidates_) chosen = owed_[site] > owed_[chosen] ? site : chosen;
        owed_[chosen] -= 1LL << kShareBits;
        return chosen;
    }

    /// One slot less for the candidate that is owed least and has one.
    void take_one() {
        std::uint8_t chosen = kNoIndex;
        for (const std::uint8_t site : candidates_)
            if (quota_[site] > 0 && (chosen == kNoIndex || owed_[site] < owed_[chosen])) chosen = site;
        --quota_[chosen];
        owed_[chosen] += 1LL << kShareBits;
    }

    /// `quota_` holds what each site lacks (below 0: has too much). Moves the cheapest slots until nothing
    /// lacks.
    void correct(std::size_t rank, std::int64_t lacking) {
        lacking_.clear();
        for (const std::uint8_t site : candidates_)
            if (quota_[site] > 0) lacking_.push_back(site);
        moves_.clear();
        for (const std::uint16_t slot : group_)
            if (quota_[order_[slot][rank]] < 0) moves_.push_back(cheapest(slot, rank));
        std::make_heap(moves_.begin(), moves_.end());
        while (lacking > 0) {
            std::pop_heap(moves_.begin(), moves_.end());
            const Move move = moves_.back();
            moves_.pop_back();
            std::uint8_t& holder = order_[move.slot][rank];
            if (quota_[holder] >= 0) continue;
            if (quota_[move.to] <= 0) {
                moves_.push_back(cheapest(move.slot, rank));
                std::push_heap(moves_.begin(), moves_.end());
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
        for (const std::uint8_t site : lacking_) {
            if (quota_[site] <= 0) continue;
            const std::uint64_t cost = score(slot, site) - now;
            if (best.to == kNoIndex || cost < best.cost) best = {cost, slot, site};
        }
        return best;
    }

    std::vector<RankedSite> sites_;
    std::vector<std::uint64_t> bases_;  ///< by site: what its random numbers start from
    std::vector<TierPlace> places_;
    std::vector<std::uint64_t> scores_;  ///< by slot, then site
    std::array<std::array<std::uint8_t, kRanks>, kSlots> order_{};
    std::array<std::array<std::uint8_t, kRanks>, kSlots> preferred_{};

    // Of one rank: the set of sites that each slot has ranked, as the sum of their bases, which no two sets
    // share.
    std::array<std::uint64_t, kSlots> sets_{};
    std::array<std::uint64_t, kSlots> sorted_{};
    std::vector<std::int64_t> owed_;  ///< in 2^-32 slots, carried from group to group

    // Of one group.
    std::vector<std::uint16_t> group_;
    std::array<bool, 256> used_{};
    std::vector<std::uint8_t> candidates_;
    std::array<std::int32_t, 256> quota_{};
    std::vector<std::uint8_t> lacking_;
    std::vector<Move> moves_;
    std::array<std::uint8_t, kSlots> holder_{};
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
