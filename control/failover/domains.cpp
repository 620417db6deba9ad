#include "control/failover/domains.h"

#include <algorithm>
#include <map>

namespace detour::failover {

namespace {

Verdict together(const std::vector<Verdict>& verdicts) {
    const auto count = [&](Verdict wanted) {
        return static_cast<std::size_t>(std::count(verdicts.begin(), verdicts.end(), wanted));
    };
    const std::size_t all = verdicts.size();
    if (count(Verdict::kDark) == all) return Verdict::kDark;
    if (count(Verdict::kDark) + count(Verdict::kDrained) == all) return Verdict::kDrained;
    for (const Verdict same : {Verdict::kHealthy, Verdict::kUnknown}) {
        if (count(same) == all) return same;
    }
    const std::size_t healthy = count(Verdict::kHealthy) + count(Verdict::kUnknown);
    for (const Verdict passing : {Verdict::kSuspect, Verdict::kRecovering}) {
        if (count(passing) > 0 && count(passing) + healthy == all) return passing;
    }
    return healthy == all ? Verdict::kHealthy : Verdict::kDegraded;
}

/// How many leading names two sites share.
std::size_t shared(const DomainSite& a, const DomainSite& b) {
    const std::size_t most = std::min(a.domain.size(), b.domain.size());
    std::size_t depth = 0;
    while (depth < most && a.domain[depth] == b.domain[depth]) ++depth;
    return depth;
}

}  // namespace

std::vector<DomainStatus> roll_up(std::span<const DomainSite> sites) {
    std::map<std::string, DomainStatus> domains;
    std::map<std::string, std::vector<Verdict>> verdicts;
    for (const DomainSite& site : sites) {
        std::string path;
        for (const std::string& name : site.domain) {
            path += (path.empty() ? "" : "/") + name;
            DomainStatus& status = domains[path];
            status.path = path;
            ++status.sites;
            status.up += site.up;
            status.backends += site.backends;
            if (site.verdict != Verdict::kDark && site.verdict != Verdict::kDrained) ++status.taking;
            verdicts[path].push_back(site.verdict);
        }
    }
    std::vector<DomainStatus> result;
    for (auto& [path, status] : domains) {
        status.verdict = together(verdicts.at(path));
        result.push_back(std::move(status));
    }
    return result;
}

std::vector<std::size_t> neighbours(std::span<const DomainSite> sites, std::size_t of) {
    std::size_t depth = 0;
    for (std::size_t i = 0; i < sites.size(); ++i) {
        if (i != of) depth = std::max(depth, shared(sites[i], sites[of]));
    }
    std::vector<std::size_t> result;
    for (std::size_t i = 0; depth > 0 && i < sites.size(); ++i) {
        if (i != of && shared(sites[i], sites[of]) >= depth) result.push_back(i);
    }
    if (result.size() + 1 == sites.size()) result.clear();
    return result;
}

}  // namespace detour::failover
