#include "control/failover/capacity.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

namespace detour::failover {

namespace {

constexpr double kNothing = 1e-9;
/// A site counts as full a little before its last flow, so that rounding ends no round early.
constexpr double kFull = 1e-6;
/// A difference in shares that is worth a change of an admit.
constexpr double kWorthMoving = 1e-3;
constexpr int kSpillRounds = 40;

double room_of(double budget, double used) {
    return budget <= 0 ? std::numeric_limits<double>::infinity() : std::max(0.0, budget - used);
}

/// The pools of one priority.
class Class {
  public:
    Class(std::span<const CapacityPool> pools, std::vector<std::size_t> members,
          std::span<const Load> budgets, Allocation& out)
        : pools_(pools),
          members_(std::move(members)),
          budgets_(budgets),
          out_(out),
          left_(members_.size(), 1.0) {}

    void fill() {
        closed_ = closed_sites();
        // Each round closes a site or places all that can be placed.
        for (std::size_t round = 0; round <= budgets_.size(); ++round) {
            if (!step()) break;
        }
        for (std::size_t i = 0; i < members_.size(); ++i) settle(i);
    }

  private:
    [[nodiscard]] std::vector<bool> closed_sites() const {
        std::vector<bool> closed(budgets_.size());
        for (std::size_t s = 0; s < budgets_.size(); ++s)
            closed[s] = room(s).new_flows <= 0 || room(s).gbps <= 0;
        return closed;
    }

    [[nodiscard]] Load room(std::size_t site) const {
        return {room_of(budgets_[site].new_flows, out_.load[site].new_flows),
                room_of(budgets_[site].gbps, out_.load[site].gbps)};
    }

    /// How what is left of one pool would be split over the sites that are not closed.
    [[nodiscard]] std::vector<double> split(const CapacityPool& pool) const {
        std::vector<SharePart> open;
        for (const CapacityPart& part : pool.parts) {
            open.push_back(part.share);
            if (closed_[part.site]) open.back().admit = 0;
        }
        return shares(open);
    }

    /// What one part may take of what is left: all that comes to it by weight, unless it comes because
    /// another one is full.
    [[nodiscard]] double most(std::size_t i, std::size_t p, double asked) const {
        const CapacityPool& pool = pools_[members_[i]];
        const double admit = pool.parts[p].share.admit;
        const bool pushed = std::any_of(pool.parts.begin(), pool.parts.end(), [&](const CapacityPart& part) {
            return closed_[part.site] && part.share.weight > 0 && part.share.admit > 0;
        });
        if (!pushed || admit >= 1) return asked;
        return std::clamp(admit - out_.pools[members_[i]].share[p], 0.0, asked);
    }

    bool step() {
        std::vector<Load> want(budgets_.size());
        std::vector<std::vector<double>> splits(members_.size());
        for (std::size_t i = 0; i < members_.size(); ++i) {
            if (left_[i] <= kNothing) continue;
            const CapacityPool& pool = pools_[members_[i]];
            splits[i] = split(pool);
            for (std::size_t p = 0; p < pool.parts.size(); ++p) {
                Load& at = want[pool.parts[p].site];
                splits[i][p] = most(i, p, left_[i] * splits[i][p]);
                at.new_flows += splits[i][p] * pool.offered.new_flows;
                at.gbps += splits[i][p] * pool.offered.gbps;
            }
        }
        std::vector<double> fits(budgets_.size(), 1.0);
        bool closed_one = false;
        for (std::size_t s = 0; s < budgets_.size(); ++s) {
            const Load free = room(s);
            if (want[s].new_flows > free.new_flows) fits[s] = free.new_flows / want[s].new_flows;
            if (want[s].gbps > free.gbps) fits[s] = std::min(fits[s], free.gbps / want[s].gbps);
            if (fits[s] >= 1 - kFull) continue;
            out_.full[s] = closed_[s] = closed_one = true;
        }
        place(splits, fits);
        return closed_one;
    }

    void place(const std::vector<std::vector<double>>& splits, const std::vector<double>& fits) {
        for (std::size_t i = 0; i < members_.size(); ++i) {
            const CapacityPool& pool = pools_[members_[i]];
            double placed = 0;
            for (std::size_t p = 0; p < splits[i].size(); ++p) {
                const std::uint32_t site = pool.parts[p].site;
                const double part = splits[i][p] * fits[site];
                out_.pools[members_[i]].share[p] += part;
                out_.load[site].new_flows += part * pool.offered.new_flows;
                out_.load[site].gbps += part * pool.offered.gbps;
                placed += part;
            }
            left_[i] -= placed;
        }
    }

    void settle(std::size_t i) {
        const CapacityPool& pool = pools_[members_[i]];
        PoolAllocation& got = out_.pools[members_[i]];
        std::vector<SharePart> all;
        for (const CapacityPart& part : pool.parts) all.push_back(part.share);
        const std::vector<double> natural = shares(all);
        const bool any = std::any_of(natural.begin(), natural.end(), [](double share) { return share > 0; });
        got.shed = any && left_[i] > kFull ? left_[i] : 0;
        got.route = got.share;
        double full = 0;
        for (std::size_t p = 0; p < natural.size(); ++p) full += closed_[pool.parts[p].site] ? natural[p] : 0;
        for (std::size_t p = 0; p < natural.size(); ++p) {
            if (full > 0 && closed_[pool.parts[p].site]) got.route[p] += got.shed * natural[p] / full;
            got.limited |= got.route[p] < natural[p] - kWorthMoving;
        }
    }

    std::span<const CapacityPool> pools_;
    std::vector<std::size_t> members_;
    std::span<const Load> budgets_;
    Allocation& out_;
    std::vector<double> left_;  ///< of each member's flows
    std::vector<bool> closed_;  ///< by site
};

}  // namespace

Allocation allocate(std::span<const CapacityPool> pools, std::span<const Load> budgets) {
    Allocation result;
    result.load.resize(budgets.size());
    result.full.resize(budgets.size());
    std::map<std::uint32_t, std::vector<std::size_t>> classes;
    for (std::size_t i = 0; i < pools.size(); ++i) {
        PoolAllocation none;
        none.share.resize(pools[i].parts.size());
        none.route.resize(pools[i].parts.size());
        result.pools.push_back(std::move(none));
        classes[pools[i].priority].push_back(i);
    }
    for (auto& [priority, members] : classes) Class(pools, std::move(members), budgets, result).fill();
    return result;
}

std::vector<double> spill(std::span<const CapacityPart> parts, std::span<const double> wanted) {
    const double sum = std::accumulate(wanted.begin(), wanted.end(), 0.0);
    std::vector<double> factors(parts.size(), 1.0);
    if (sum <= kNothing) return factors;
    for (int round = 0; round < kSpillRounds; ++round) {
        std::vector<SharePart> now;
        for (std::size_t i = 0; i < parts.size(); ++i) {
            now.push_back(parts[i].share);
            now.back().admit *= factors[i];
        }
        const std::vector<double> got = shares(now);
        bool settled = true;
        for (std::size_t i = 0; i < parts.size(); ++i) {
            const double goal = wanted[i] / sum;
            if (got[i] <= goal + 1e-4) continue;
            factors[i] *= goal / got[i];
            settled = false;
        }
        if (settled) break;
    }
    return factors;
}

}  // namespace detour::failover
