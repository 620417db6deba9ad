#include "control/failover/shares.h"

#include <algorithm>
#include <set>

#include "control/failover/admission.h"

namespace detour::failover {

std::vector<double> shares(std::span<const SharePart> parts) {
    std::vector<double> result(parts.size(), 0.0);
    std::set<unsigned> tiers;
    for (const SharePart& part : parts) tiers.insert(part.tier);
    double left = 1;
    double given = 0;
    for (const unsigned tier : tiers) {
        double sum = 0;
        double refused = 1;  // the part of the flows that no site of this tier takes
        for (const SharePart& part : parts) {
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
    if (given > 0) {
        for (double& share : result) share /= given;
    }
    return result;
}

api::Admit admit_of(double part) noexcept {
    if (part >= 1) return api::kAdmitAll;
    if (!(part > 0)) return api::kAdmitNone;
    const auto steps = static_cast<unsigned>(part * 256);
    return std::max(kRampFloor, api::Admit{static_cast<std::uint16_t>(steps * 256)});
}

double part_of(api::Admit admit) noexcept {
    return static_cast<double>(admit.value()) / api::kAdmitAll.value();
}

}  // namespace detour::failover
