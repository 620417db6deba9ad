#include "dataplane/core/balance.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace detour::core {
namespace {

constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max() / 4;
constexpr std::size_t kNobody = ~std::size_t{0};

/// The cheapest move from one site to another.
struct Arc {
    std::int64_t cost = kFar;
    std::uint16_t slot = 0;
};

/// Sites are counted from 0 in here.
class Balance {
  public:
    Balance(const ScoreTable& table, std::span<std::int32_t> lacking, std::span<std::uint8_t> holder)
        : table_(table),
          lacking_(lacking),
          holder_(holder),
          held_(table.sites),
          arcs_(table.sites * table.sites),
          cost_(table.sites),
          before_(table.sites) {
        for (std::size_t slot = 0; slot < holder.size(); ++slot) {
            const std::size_t site = holder[slot] - table.first;
            held_[site].push_back(static_cast<std::uint16_t>(slot));
            offer(site, static_cast<std::uint16_t>(slot));
        }
    }

    void run() {
        std::int64_t missing = 0;
        for (std::size_t site = 0; site < table_.sites; ++site)
            missing += std::max(0, lacking_[table_.first + site]);
        for (; missing > 0; --missing) {
            find_paths();
            const std::size_t last = cheapest_end();
            if (last == kNobody) return;  // the sum of `lacking` was not 0
            --lacking_[table_.first + last];
            ++lacking_[table_.first + walk_back(last)];
        }
    }

  private:
    [[nodiscard]] std::int64_t cost_of(std::uint16_t slot, std::size_t from, std::size_t to) const noexcept {
        const std::uint64_t* scores = &table_.scores[slot * table_.stride + table_.first];
        return static_cast<std::int64_t>(scores[to]) - static_cast<std::int64_t>(scores[from]);
    }
    [[nodiscard]] Arc& arc(std::size_t from, std::size_t to) noexcept {
        return arcs_[from * table_.sites + to];
    }
    static void improve(Arc& arc, std::int64_t cost, std::uint16_t slot) noexcept {
        if (cost < arc.cost || (cost == arc.cost && slot < arc.slot)) arc = {cost, slot};
    }

    /// `slot` is `site`'s now, and may go from it to any other.
    void offer(std::size_t site, std::uint16_t slot) noexcept {
        for (std::size_t to = 0; to < table_.sites; ++to)
            if (to != site) improve(arc(site, to), cost_of(slot, site, to), slot);
    }

    /// `slot` is `site`'s no more: what it was the cheapest for is looked for among the others.
    void withdraw(std::size_t site, std::uint16_t slot) {
        std::erase(held_[site], slot);
        next_.clear();
        for (std::size_t to = 0; to < table_.sites; ++to) {
            if (to == site || arc(site, to).slot != slot) continue;
            arc(site, to) = {};
            next_.push_back(to);
        }
        // A slot's scores lie side by side.
        for (const std::uint16_t other : held_[site])
            for (const std::size_t to : next_) improve(arc(site, to), cost_of(other, site, to), other);
    }

    /// The cheapest chains from the sites that hold too much to all others (Bellman and Ford). No chain has
    /// more than `sites` moves, since no circle is for less than nothing.
    void find_paths() {
        fresh_.clear();
        for (std::size_t site = 0; site < table_.sites; ++site) {
            const bool has_too_much = lacking_[table_.first + site] < 0;
            cost_[site] = has_too_much ? 0 : kFar;
            before_[site] = kNobody;
            if (has_too_much) fresh_.push_back(site);
        }
        for (std::size_t round = 0; round < table_.sites && !fresh_.empty(); ++round) {
            next_.clear();
            for (const std::size_t from : fresh_) extend(from);
            std::sort(next_.begin(), next_.end());
            next_.erase(std::unique(next_.begin(), next_.end()), next_.end());
            fresh_.swap(next_);
        }
    }

    void extend(std::size_t from) {
        for (std::size_t to = 0; to < table_.sites; ++to) {
            const std::int64_t cost = cost_[from] + arc(from, to).cost;
            if (to == from || cost >= cost_[to]) continue;
            cost_[to] = cost;
            before_[to] = from;
            next_.push_back(to);
        }
    }

    [[nodiscard]] std::size_t cheapest_end() const noexcept {
        std::size_t best = kNobody;
        for (std::size_t site = 0; site < table_.sites; ++site)
            if (lacking_[table_.first + site] > 0 && cost_[site] < kFar &&
                (best == kNobody || cost_[site] < cost_[best]))
                best = site;
        return best;
    }

    /// Makes the moves of the chain that ends at `last`; its first site.
    std::size_t walk_back(std::size_t last) {
        chain_.clear();
        std::size_t to = last;
        for (; before_[to] != kNobody; to = before_[to])
            chain_.push_back({before_[to], to, arc(before_[to], to).slot});
        for (const Hop& hop : chain_) {
            withdraw(hop.from, hop.slot);
            held_[hop.to].push_back(hop.slot);
            holder_[hop.slot] = static_cast<std::uint8_t>(table_.first + hop.to);
            offer(hop.to, hop.slot);
        }
        return to;
    }

    struct Hop {
        std::size_t from = 0;
        std::size_t to = 0;
        std::uint16_t slot = 0;
    };

    const ScoreTable& table_;
    std::span<std::int32_t> lacking_;
    std::span<std::uint8_t> holder_;
    std::vector<std::vector<std::uint16_t>> held_;  ///< by site
    std::vector<Arc> arcs_;                         ///< by site from, then site to
    std::vector<std::int64_t> cost_;                ///< by site: of the cheapest chain that ends there
    std::vector<std::size_t> before_;               ///< by site: the one before it in that chain
    std::vector<std::size_t> fresh_;
    std::vector<std::size_t> next_;
    std::vector<Hop> chain_;
};

}  // namespace

void balance(const ScoreTable& table, std::span<std::int32_t> lacking, std::span<std::uint8_t> holder) {
    Balance(table, lacking, holder).run();
}

}  // namespace detour::core
