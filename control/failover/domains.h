// Failure domains: what the sites of a building, a campus or a city look like together, and who is next to
// whom.
//
// A domain is a path from the widest name down, "kr/seongnam/pangyo". Pure, any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "control/failover/verdict.h"

namespace detour::failover {

struct DomainSite {
    std::string name;
    std::vector<std::string> domain;  ///< widest first
    Verdict verdict = Verdict::kUnknown;
    std::uint32_t up = 0;  ///< backends
    std::uint32_t backends = 0;
};

struct DomainStatus {
    std::string path;
    std::uint32_t sites = 0;
    std::uint32_t taking = 0;  ///< neither dark nor drained
    std::uint32_t up = 0;
    std::uint32_t backends = 0;
    /// dark: every site is; drained: none takes new flows and one is drained; healthy: every site is;
    /// unknown: nothing is known of any; else degraded, or suspect or recovering when the rest is healthy.
    Verdict verdict = Verdict::kUnknown;
    bool operator==(const DomainStatus&) const = default;
};

/// Every domain that holds a site, in the order of their paths.
[[nodiscard]] std::vector<DomainStatus> roll_up(std::span<const DomainSite> sites);

/// The sites that may share a failure with `of`: those of its narrowest domain that holds another site, as
/// long as that domain does not hold all sites there are. Indices, without `of`.
[[nodiscard]] std::vector<std::size_t> neighbours(std::span<const DomainSite> sites, std::size_t of);

}  // namespace detour::failover
