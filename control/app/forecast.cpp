#include "control/app/forecast.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "control/failover/capacity.h"

namespace detour::app {

namespace {

constexpr double kWorthTelling = 0.001;

double ratio(api::Admit admit) {
    return static_cast<double>(admit.value()) / api::kAdmitAll.value();
}

unsigned tier_of(const Snapshot& snapshot, const std::string& site) {
    for (const auto& status : snapshot.sites) {
        if (status.name == site) return static_cast<unsigned>(status.tier);
    }
    return 0;
}

std::map<std::string, double> shares_by_site(const PoolStatus& pool, const Snapshot& snapshot,
                                             const std::set<std::string>& failing) {
    auto parts = parts_of(pool, snapshot);
    for (auto& part : parts) {
        if (failing.contains(part.site)) part.admit = 0;
    }
    const auto values = shares(parts);
    std::map<std::string, double> result;
    for (std::size_t i = 0; i < parts.size(); ++i) result[parts[i].site] = values[i];
    return result;
}

}  // namespace

std::vector<double> shares(const std::vector<SitePart>& parts) {
    std::vector<failover::SharePart> plain;
    for (const auto& part : parts) plain.push_back({part.weight, part.tier, part.admit});
    return failover::shares(plain);
}

std::vector<SitePart> parts_of(const PoolStatus& pool, const Snapshot& snapshot) {
    std::vector<SitePart> parts;
    for (const auto& site : pool.sites) {
        const bool usable = site.up + site.unknown > 0;
        parts.push_back({site.site, site.weight, tier_of(snapshot, site.site),
                         usable ? ratio(site.effective.admit) : 0.0});
    }
    return parts;
}

std::vector<control::Move> moves(const Snapshot& before, const Snapshot& after) {
    std::vector<control::Move> result;
    for (const auto& pool : before.pools) {
        const auto same = std::ranges::find(after.pools, pool.name, &PoolStatus::name);
        if (same == after.pools.end()) continue;
        const auto old_shares = shares_by_site(pool, before, {});
        const auto new_shares = shares_by_site(*same, after, {});
        double gained = 0;
        for (const auto& [site, share] : new_shares) {
            const auto old = old_shares.find(site);
            gained += std::max(0.0, share - (old == old_shares.end() ? 0.0 : old->second));
        }
        for (const auto& [from, had] : old_shares) {
            const auto now = new_shares.find(from);
            const double lost = had - (now == new_shares.end() ? 0.0 : now->second);
            if (lost < kWorthTelling || gained <= 0) continue;
            for (const auto& [to, has] : new_shares) {
                const auto old = old_shares.find(to);
                const double gain = has - (old == old_shares.end() ? 0.0 : old->second);
                if (gain < kWorthTelling) continue;
                result.push_back({pool.name, from, to, lost * gain / gained});
            }
        }
    }
    return result;
}

namespace {

/// One prediction: shares with and without the failure, loads, what is shed, who misses whom.
class Forecaster {
  public:
    Forecaster(const Snapshot& snapshot, const config::Config& config, const std::set<std::string>& failing)
        : snapshot_(snapshot), config_(config), failing_(failing) {}

    control::PlanFailReply make() {
        reply_.failing.assign(failing_.begin(), failing_.end());
        for (const auto& pool : snapshot_.pools) add_shares(pool);
        for (const auto& pool : snapshot_.pools) add_dependencies(pool);
        for (const auto& pool : snapshot_.pools) offered_ += pool.offered.new_flows + pool.offered.gbps;
        if (offered_ > 0) add_loads();
        return std::move(reply_);
    }

  private:
    void add_shares(const PoolStatus& pool) {
        control::PoolForecast told;
        told.pool = pool.name;
        told.lost = true;
        const auto now = shares_by_site(pool, snapshot_, {});
        const auto after = shares_by_site(pool, snapshot_, failing_);
        for (const auto& [site, share] : now) {
            const double later = after.at(site);
            told.lost = told.lost && later <= 0;
            told.sites.push_back({site, failing_.contains(site), share, later, std::nullopt});
        }
        const bool held_before =
            std::ranges::any_of(told.sites, [](const auto& site) { return site.now > 0; });
        if (told.lost) lost_.insert(pool.name);
        if (told.lost && held_before && pool.single_writer) {
            reply_.warnings.push_back(fmt::format(
                "pool {} writes in {} alone: no site takes it until the data layer makes another one primary",
                pool.name, pool.writer));
        } else if (told.lost && held_before) {
            reply_.warnings.push_back(fmt::format("pool {} is left without a site", pool.name));
        }
        reply_.pools.push_back(std::move(told));
    }

    void add_dependencies(const PoolStatus& pool) {
        if (lost_.contains(pool.name)) return;
        for (const auto& other : pool.depends_on) {
            if (!lost_.contains(other)) continue;
            reply_.warnings.push_back(
                fmt::format("pool {} goes on, but {} does not, on which it depends", pool.name, other));
        }
    }

    void add_loads() {
        std::vector<failover::CapacityPool> pools;
        std::vector<failover::Load> budgets;
        for (const auto& site : snapshot_.sites) {
            budgets.push_back(site.budget);
            control::SiteLoad load;
            load.site = site.name;
            load.fails = failing_.contains(site.name);
            if (site.budget.new_flows > 0) load.new_flows_capacity = site.budget.new_flows;
            if (site.budget.gbps > 0) load.gbps_capacity = site.budget.gbps;
            reply_.loads.push_back(std::move(load));
        }
        for (const auto& pool : snapshot_.pools) {
            add_load(pool, shares_by_site(pool, snapshot_, {}), shares_by_site(pool, snapshot_, failing_));
            pools.push_back(capacity_pool(pool));
        }
        const auto result = failover::allocate(pools, budgets);
        std::vector<std::string> shed;
        for (std::size_t i = 0; i < pools.size(); ++i) {
            if (result.pools[i].shed < kWorthTelling) continue;
            reply_.pools[i].shed = result.pools[i].shed;
            shed.push_back(
                fmt::format("{:.0f} % of {}", 100 * result.pools[i].shed, snapshot_.pools[i].name));
        }
        warn_of_overload();
        if (!shed.empty())
            reply_.warnings.push_back(fmt::format("there is no room for {}: shed", fmt::join(shed, ", ")));
    }

    void add_load(const PoolStatus& pool, const std::map<std::string, double>& now,
                  const std::map<std::string, double>& after) {
        for (auto& load : reply_.loads) {
            const auto before = now.find(load.site);
            if (before == now.end()) continue;
            load.new_flows_now += before->second * pool.offered.new_flows;
            load.new_flows_after += after.at(load.site) * pool.offered.new_flows;
            load.gbps_after += after.at(load.site) * pool.offered.gbps;
        }
    }

    [[nodiscard]] failover::CapacityPool capacity_pool(const PoolStatus& pool) const {
        failover::CapacityPool result;
        if (const auto* described = config_.find_pool(pool.name)) result.priority = described->priority;
        result.offered = pool.offered;
        for (const auto& part : parts_of(pool, snapshot_)) {
            const auto site = std::ranges::find(snapshot_.sites, part.site, &SiteStatus::name);
            const double admit = failing_.contains(part.site) ? 0.0 : part.admit;
            result.parts.push_back({static_cast<std::uint32_t>(site - snapshot_.sites.begin()),
                                    {part.weight, part.tier, admit}});
        }
        return result;
    }

    void warn_of_overload() {
        for (const auto& load : reply_.loads) {
            double most = 0;
            if (load.new_flows_capacity) most = load.new_flows_after / *load.new_flows_capacity;
            if (load.gbps_capacity) most = std::max(most, load.gbps_after / *load.gbps_capacity);
            if (most <= 0 && !load.new_flows_capacity && !load.gbps_capacity) continue;
            for (auto& pool : reply_.pools) {
                for (auto& share : pool.sites) {
                    if (share.site == load.site) share.load_after = most;
                }
            }
            if (most > 1) {
                reply_.warnings.push_back(
                    fmt::format("{} would be asked for {:.0f} % of this host's part of its capacity",
                                load.site, 100 * most));
            }
        }
    }

    const Snapshot& snapshot_;
    const config::Config& config_;
    const std::set<std::string>& failing_;
    control::PlanFailReply reply_;
    std::set<std::string> lost_;  ///< pools
    double offered_ = 0;
};

}  // namespace

control::PlanFailReply forecast(const Snapshot& snapshot, const config::Config& config,
                                const std::set<std::string>& failing) {
    return Forecaster(snapshot, config, failing).make();
}

}  // namespace detour::app
