#include "control/app/forecast.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

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
    std::vector<double> result(parts.size(), 0.0);
    std::set<unsigned> tiers;
    for (const auto& part : parts) tiers.insert(part.tier);
    double left = 1;
    double given = 0;
    for (const unsigned tier : tiers) {
        double sum = 0;
        double refused = 1;  // the part of the flows that no site of this tier takes
        for (const auto& part : parts) {
            if (part.tier != tier || part.weight == 0) continue;
            sum += part.weight * part.admit;
            refused *= 1 - part.admit;
        }
        if (sum <= 0) continue;
        for (std::size_t i = 0; i < parts.size(); ++i) {
            if (parts[i].tier != tier) continue;
            result[i] = left * (1 - refused) * parts[i].weight * parts[i].admit / sum;
            given += result[i];
        }
        left *= refused;
    }
    // What every site refused goes to the one that admits most: as good as to those that took something.
    if (given > 0) {
        for (double& share : result) share /= given;
    }
    return result;
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

control::PlanFailReply forecast(const Snapshot& snapshot, const config::Config& config,
                                const std::set<std::string>& failing,
                                const std::function<std::optional<double>(api::SiteId)>& rate) {
    control::PlanFailReply reply;
    reply.failing.assign(failing.begin(), failing.end());
    // New flows by site: each pool counts the same, since the fast path counts flows by site and not by pool.
    std::map<std::string, double> now_total;
    std::map<std::string, double> after_total;
    for (const auto& pool : snapshot.pools) {
        control::PoolForecast told{pool.name, true, {}};
        const auto now = shares_by_site(pool, snapshot, {});
        const auto after = shares_by_site(pool, snapshot, failing);
        for (const auto& [site, share] : now) {
            const double later = after.at(site);
            told.lost = told.lost && later <= 0;
            told.sites.push_back({site, failing.contains(site), share, later, std::nullopt});
            now_total[site] += share;
            after_total[site] += later;
        }
        const bool held_before =
            std::ranges::any_of(told.sites, [](const auto& site) { return site.now > 0; });
        if (told.lost && held_before)
            reply.warnings.push_back(fmt::format("pool {} is left without a site", pool.name));
        reply.pools.push_back(std::move(told));
    }
    double sum_rate = 0;
    double sum_now = 0;
    for (const auto& site : snapshot.sites) {
        sum_rate += rate(site.id).value_or(0);
        sum_now += now_total[site.name];
    }
    if (sum_now <= 0 || sum_rate <= 0) return reply;
    for (const auto& site : snapshot.sites) {
        const auto* known = config.find_site(site.name);
        if (known == nullptr || known->capacity.new_flows == 0) continue;
        const double capacity = static_cast<double>(known->capacity.new_flows) * config.pop.share;
        const double load = sum_rate * after_total[site.name] / sum_now / capacity;
        for (auto& pool : reply.pools) {
            for (auto& share : pool.sites) {
                if (share.site == site.name) share.load_after = load;
            }
        }
        if (load > 1) {
            reply.warnings.push_back(fmt::format(
                "{} would carry {:.0f} % of this host's part of its capacity", site.name, 100 * load));
        }
    }
    return reply;
}

}  // namespace detour::app
