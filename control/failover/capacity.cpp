#include "control/failover/capacity.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace detour::failover {

namespace {

constexpr double kNothing = 1e-9;
/// A site counts as full a little before its last flow, so that rounding ends no round early.
constexpr double kFull = 1e-6;
/// A site this much above what it may get is left alone: the estimate of shares is no better.
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
          left_(members_.size(), 1.0) {
        for (const std::size_t member : members_) ramped_.emplace_back(pools_[member].parts.size());
    }

    void fill() {
        closed_ = closed_sites();
        // Each round closes a site, brings a part to the end of its ramp's step, or places all that is left.
        while (step()) {
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
    [[nodiscard]] std::vector<double> split(std::size_t i) const {
        const CapacityPool& pool = pools_[members_[i]];
        std::vector<SharePart> open;
        for (std::size_t p = 0; p < pool.parts.size(); ++p) {
            open.push_back(pool.parts[p].share);
            if (closed_[pool.parts[p].site] || ramped_[i][p]) open.back().admit = 0;
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

    /// True when there is something left to do.
    bool step() {
        bool again = false;
        std::vector<Load> want(budgets_.size());
        std::vector<std::vector<double>> splits(members_.size());
        for (std::size_t i = 0; i < members_.size(); ++i) {
            if (left_[i] <= kNothing) continue;
            const CapacityPool& pool = pools_[members_[i]];
            splits[i] = split(i);
            for (std::size_t p = 0; p < pool.parts.size(); ++p) {
                Load& at = want[pool.parts[p].site];
                const double asked = left_[i] * splits[i][p];
                splits[i][p] = most(i, p, asked);
                if (splits[i][p] < asked) again = ramped_[i][p] = true;
                at.new_flows += splits[i][p] * pool.offered.new_flows;
                at.gbps += splits[i][p] * pool.offered.gbps;
            }
        }
        std::vector<double> fits(budgets_.size(), 1.0);
        for (std::size_t s = 0; s < budgets_.size(); ++s) {
            const Load free = room(s);
            if (want[s].new_flows > free.new_flows) fits[s] = free.new_flows / want[s].new_flows;
            if (want[s].gbps > free.gbps) fits[s] = std::min(fits[s], free.gbps / want[s].gbps);
            if (fits[s] >= 1 - kFull) continue;
            out_.full[s] = closed_[s] = again = true;
        }
        place(splits, fits);
        return again;
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
        }
    }

    std::span<const CapacityPool> pools_;
    std::vector<std::size_t> members_;
    std::span<const Load> budgets_;
    Allocation& out_;
    std::vector<double> left_;  ///< of each member's flows
    std::vector<bool> closed_;  ///< by site
    /// By member and part: on a partial admit, and it has what its admit lets it have.
    std::vector<std::vector<bool>> ramped_;
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

namespace {

Load& operator+=(Load& sum, const Load& more) {
    sum.new_flows += more.new_flows;
    sum.gbps += more.gbps;
    return sum;
}

Load operator*(double part, const Load& load) {
    return {part * load.new_flows, part * load.gbps};
}

/// Which part of `excess` may stay so that `all`, which it is part of, comes to `most`.
double stays(double most, double all, double excess) {
    return excess <= 0 ? 1 : std::clamp((most - (all - excess)) / excess, 0.0, 1.0);
}

/// All pools' admits, lowered together until no site gets more than it may.
class Spill {
  public:
    Spill(std::span<const CapacityPool> pools, std::span<const Load> budgets, const Allocation& wanted)
        : pools_(pools), wanted_(wanted), most_(budgets.begin(), budgets.end()) {
        std::vector<Load> routed(budgets.size());
        for (std::size_t i = 0; i < pools_.size(); ++i) {
            factors_.emplace_back(pools_[i].parts.size(), 1.0);
            got_.push_back(shares_of(i));
            for (std::size_t p = 0; p < pools_[i].parts.size(); ++p)
                routed[pools_[i].parts[p].site] += wanted_.pools[i].route[p] * pools_[i].offered;
        }
        for (std::size_t s = 0; s < most_.size(); ++s) {
            most_[s].new_flows = most_of(budgets[s].new_flows, routed[s].new_flows);
            most_[s].gbps = most_of(budgets[s].gbps, routed[s].gbps);
        }
    }

    std::vector<std::vector<double>> run() {
        for (int round = 0; round < kSpillRounds && lower(weigh(), round < kSpillRounds / 2 ? 1 : 2);
             ++round) {
        }
        return std::move(factors_);
    }

  private:
    /// What is shed is sent to the full sites, beyond their budget.
    static double most_of(double budget, double routed) {
        if (budget <= 0) return std::numeric_limits<double>::infinity();
        return std::max(budget, routed) * (1 + kWorthMoving);
    }

    [[nodiscard]] std::vector<double> shares_of(std::size_t i) const {
        std::vector<SharePart> now;
        for (std::size_t p = 0; p < pools_[i].parts.size(); ++p) {
            now.push_back(pools_[i].parts[p].share);
            now.back().admit *= factors_[i][p];
        }
        return shares(now);
    }

    [[nodiscard]] double excess(std::size_t i, std::size_t p) const {
        return std::max(0.0, got_[i][p] - wanted_.pools[i].route[p]);
    }

    /// By site: which part of what exceeds the routes there may stay.
    [[nodiscard]] std::vector<double> weigh() const {
        std::vector<Load> all(most_.size());
        std::vector<Load> beyond(most_.size());
        for (std::size_t i = 0; i < pools_.size(); ++i) {
            for (std::size_t p = 0; p < pools_[i].parts.size(); ++p) {
                all[pools_[i].parts[p].site] += got_[i][p] * pools_[i].offered;
                beyond[pools_[i].parts[p].site] += excess(i, p) * pools_[i].offered;
            }
        }
        std::vector<double> keep(most_.size());
        for (std::size_t s = 0; s < most_.size(); ++s) {
            keep[s] = std::min(stays(most_[s].new_flows, all[s].new_flows, beyond[s].new_flows),
                               stays(most_[s].gbps, all[s].gbps, beyond[s].gbps));
        }
        return keep;
    }

    /// True when anything changed. `pace` above 1: where one part's admit draws little, since others fall
    /// too.
    bool lower(const std::vector<double>& keep, double pace) {
        bool changed = false;
        for (std::size_t i = 0; i < pools_.size(); ++i) {
            bool mine = false;
            for (std::size_t p = 0; p < pools_[i].parts.size(); ++p) {
                const double more = excess(i, p);
                const double less = more * (1 - keep[pools_[i].parts[p].site]);
                if (less <= kNothing) continue;
                factors_[i][p] *= std::pow((got_[i][p] - less) / got_[i][p], pace);
                mine = true;
            }
            if (mine) got_[i] = shares_of(i);
            changed |= mine;
        }
        return changed;
    }

    std::span<const CapacityPool> pools_;
    const Allocation& wanted_;
    std::vector<Load> most_;                    ///< by site
    std::vector<std::vector<double>> factors_;  ///< by pool and part
    std::vector<std::vector<double>> got_;      ///< the pools' shares under them
};

}  // namespace

std::vector<std::vector<double>> spill(std::span<const CapacityPool> pools, std::span<const Load> budgets,
                                       const Allocation& wanted) {
    return Spill(pools, budgets, wanted).run();
}

}  // namespace detour::failover
