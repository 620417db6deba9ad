#include "control/failover/rails.h"

#include <fmt/format.h>

#include <algorithm>

namespace detour::failover {

namespace {

/// Rounding of a sum of parts is no missing site.
constexpr double kRounding = 1e-6;
/// Part of a pool's new flows that is worth a refusal.
constexpr double kShedWorthRefusing = 0.005;

/// " (anyang is on its ramp: 1 %)"; empty when none that is left is.
std::string on_their_ramps(std::span<const RailSite> sites) {
    std::string names;
    for (const RailSite& site : sites) {
        if (site.after <= 0 || site.after >= 1) continue;
        const double percent = std::clamp(100 * site.after, 1.0, 99.0);
        names += fmt::format("{}{} is on its ramp: {:.0f} %", names.empty() ? "" : ", ", site.name, percent);
    }
    return names.empty() ? names : " (" + names + ")";
}

}  // namespace

std::string below_min_sites(const std::string& pool, std::span<const RailSite> sites,
                            std::uint32_t min_sites) {
    double before = 0;
    double after = 0;
    for (const RailSite& site : sites) {
        before += site.before;
        after += site.after;
    }
    if (after >= before - kRounding || after >= min_sites - kRounding) return {};
    return fmt::format("pool {} would be left with {:.3g} admitted sites{}, below its min_sites = {}", pool,
                       after, on_their_ramps(sites), min_sites);
}

Load on_ramp(const Load& budget, double part) noexcept {
    return {budget.new_flows * part, budget.gbps * part};
}

std::string beyond_capacity(const std::string& pool, std::span<const RailSite> sites, double before,
                            double after) {
    if (after < before + kShedWorthRefusing) return {};
    return fmt::format("no site has room for {:.0f} % of the new flows of pool {}{}",
                       std::max(1.0, 100 * after), pool, on_their_ramps(sites));
}

}  // namespace detour::failover
