// What the fast-path benchmark measures: one scenario is one row. Plain data.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "dataplane/api/plan.h"

namespace detour::bench {

enum class Kind {
    kEstablished,  ///< packets of flows that the flow table holds
    kSyn,          ///< a SYN of a new flow in every packet, beside a table that holds `flows` others
    kNewFlow,      ///< an ACK of an unknown flow in every packet: inserts beside `flows` others
    kMalformed,    ///< the same packets, none of them with a right header: dropped by the parser
    kFlood,        ///< nine SYNs of random sources to each packet of `flows` established ones
    kIcmpError,    ///< an ICMP error about an answer of one of the flows
    kFragments,    ///< datagrams of the flows in two fragments each, one after the other
};

/// Whether somebody captures.
enum class Capture {
    kNobody,    ///< the worker looks once a burst, as it always does
    kNotAsked,  ///< it does not even look
    kAll,       ///< every packet is wanted; as many as the pace allows are kept
};

struct Scenario {
    std::string name;
    Kind kind = Kind::kEstablished;
    bool v6 = false;  ///< clients and tunnel
    api::Protocol protocol = api::Protocol::kTcp;
    api::Encap encap = api::Encap::kGue;
    std::size_t flows = 1'000'000;
    std::size_t table_flows =
        1U << 20U;  ///< what the worker is told to hold; the table has twice the entries
    std::size_t pools = 1;
    std::size_t backends = 16;          ///< of each pool, in four sites
    bool only_by_name = false;          ///< not part of a run that names no scenario
    api::Admit admit = api::kAdmitAll;  ///< of every site
    bool drill = false;                 ///< pool 0 gives site 0 one new flow in a hundred less
    bool plans = false;                 ///< another plan is applied every 100 ms
    unsigned workers = 1;               ///< 1 or 2, each with `flows` of its own
    Capture capture = Capture::kNobody;
};

inline constexpr std::size_t kSites = 4;

/// In the order of the table.
[[nodiscard]] std::vector<Scenario> scenarios();
/// The plan that `scenario` runs under; pool i has one VIP, vip_of(i).
[[nodiscard]] api::ForwardingPlan plan_of(const Scenario& scenario);
[[nodiscard]] api::Vip vip_of(const Scenario& scenario, std::size_t pool);

}  // namespace detour::bench
