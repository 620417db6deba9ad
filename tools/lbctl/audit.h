// How redundant is each pool, as a number: the part of its new flows that still finds a site with room when a
// failure domain is gone. Computed from the server's own forecasts. Pure, any thread.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "control/api/messages.h"

namespace detour::lbctl {

struct PoolRedundancy {
    std::string pool;
    double survives = 0;      ///< 0 … 1 of its new flows
    bool room_known = false;  ///< capacities and load are known; else only places are counted
};

struct DomainAudit {
    std::string domain;
    std::vector<std::string> sites;
    bool whole_fleet = false;  ///< every site lies in it: nothing can survive that
    std::vector<PoolRedundancy> pools;
};

/// Every site and every domain that holds more than one, widest first; of domains with equal sites the
/// narrowest.
[[nodiscard]] std::vector<std::string> domains_of(std::span<const control::SiteStatus> sites);

[[nodiscard]] DomainAudit audit_of(const control::PlanFailReply& forecast, std::size_t all_sites);

/// The worst domain of each pool, those that hold the whole fleet left out; pools in the order first met.
struct PoolWorst {
    std::string pool;
    double survives = 1;
    std::string domain;  ///< empty: there is no domain but the whole fleet
    bool room_known = false;
};
[[nodiscard]] std::vector<PoolWorst> worst_of(std::span<const DomainAudit> domains);

}  // namespace detour::lbctl
