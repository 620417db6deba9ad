// The configuration made into what the fast path takes. Pure functions, any thread.
//
// Health is not an input: up, down, dark and drained are switches outside the plan (DESIGN, Switching), so
// that a plan changes only when the configuration or the routes do.
#pragma once

#include <map>

#include "config/model.h"
#include "control/plan/ids.h"
#include "dataplane/api/plan.h"
#include "dataplane/api/result.h"

namespace detour::plan {

/// Where packets to one tunnel end leave, as the kernel's routes and neighbours say.
struct NextHop {
    api::EgressPort port;
    api::Mac source;
    api::Mac destination;
    std::uint32_t mtu = 1500;  ///< of the link and of the route, whichever is smaller
    bool resolved = false;     ///< the neighbour's address is known
    std::uint16_t vlan = 0;    ///< tag that frames leave with; 0: none
    auto operator<=>(const NextHop&) const = default;
};

/// By backend address. An address without an entry has no route: its packets are counted and dropped.
using NextHops = std::map<api::IpAddress, NextHop>;

/// `ids` must have been assigned from `config`. The sites' verdict numbers are 0: who sends the plan puts in
/// the last that it has sent.
/// Errors: those of api::check(), kLimit for more than kMaxNextHops different next hops.
[[nodiscard]] api::Result<api::ForwardingPlan> make_plan(const config::Config& config, const Ids& ids,
                                                         const NextHops& next_hops,
                                                         api::Generation generation);

/// Sorts every part by id, as make_plan() does. Next hops keep their numbers.
void normalize(api::ForwardingPlan& plan);

/// Equal but for the generation and the sites' verdict numbers. Both normalized.
[[nodiscard]] bool same_content(const api::ForwardingPlan& a, const api::ForwardingPlan& b);

/// The next hops that a plan was made from, the resolved ones.
[[nodiscard]] NextHops next_hops_of(const api::ForwardingPlan& plan);

}  // namespace detour::plan
