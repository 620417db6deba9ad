#include "tests/bench/scenario.h"

#include <fmt/format.h>

#include <limits>

namespace detour::bench {
namespace {

constexpr std::size_t kFourMillion = 4'000'000;

void add_family(std::vector<Scenario>& list, bool v6) {
    const std::string family = v6 ? "v6" : "v4";
    const auto row = [&](const char* name, Scenario s) {
        s.name = family + "-" + name;
        s.v6 = v6;
        // Two entries in a bucket instead of four: at half occupancy 0.3 % of the flows found no place.
        if (v6) s.table_flows *= 2;
        list.push_back(s);
    };
    row("tcp-1k", {.flows = 1'000});
    row("tcp-64k", {.flows = 65'536});
    row("tcp-1m", {});
    row("tcp-4m", {.flows = kFourMillion, .table_flows = 1U << 22U});
    row("syn-1m", {.kind = Kind::kSyn});
    row("ack-new-1m", {.kind = Kind::kNewFlow});
    row("udp-1m", {.protocol = api::Protocol::kUdp});
    row("tcp-1m-ipip", {.encap = api::Encap::kIpip});
    row("tcp-1m-gre", {.encap = api::Encap::kGre});
    row("icmp-errors-1m", {.kind = Kind::kIcmpError});
    row("fragments-64k", {.kind = Kind::kFragments, .protocol = api::Protocol::kUdp, .flows = 65'536});
}

}  // namespace

std::vector<Scenario> scenarios() {
    std::vector<Scenario> list;
    add_family(list, false);
    add_family(list, true);
    const std::vector<Scenario> further{
        {.name = "v4-tcp-1m-1000-pools", .pools = 1'000},
        {.name = "v4-syn-1m-1000-pools", .kind = Kind::kSyn, .pools = 1'000},
        {.name = "v4-tcp-1m-10000-backends", .backends = 10'000},
        {.name = "v4-syn-1m-10000-backends", .kind = Kind::kSyn, .backends = 10'000},
        {.name = "v4-tcp-1m-drill", .drill = true},
        {.name = "v4-syn-1m-drill", .kind = Kind::kSyn, .drill = true},
        {.name = "v4-tcp-1m-1000-pools-plans", .pools = 1'000, .plans = true},
        {.name = "v4-tcp-1m-two-workers", .workers = 2},
        {.name = "v4-tcp-1k-capture-not-asked", .flows = 1'000, .capture = Capture::kNotAsked},
        {.name = "v4-tcp-1k-capture-all", .flows = 1'000, .capture = Capture::kAll},
        {.name = "v4-syn-1m-admit-partial", .kind = Kind::kSyn, .admit = api::Admit{32'768}},
        {.name = "v4-tcp-occupied-25", .flows = 524'288},
        // Shows what an overfull table does; too many of its flows find no place for a row that counts.
        {.name = "v4-tcp-occupied-90", .flows = 1'887'436, .only_by_name = true},
        {.name = "v4-malformed-1m", .kind = Kind::kMalformed},
        {.name = "v6-malformed-1m", .kind = Kind::kMalformed, .v6 = true, .table_flows = 1U << 21U},
        {.name = "v4-flood-10k", .kind = Kind::kFlood, .flows = 10'000},
        {.name = "v6-flood-10k", .kind = Kind::kFlood, .v6 = true, .flows = 10'000},
    };
    list.insert(list.end(), further.begin(), further.end());
    return list;
}

api::Vip vip_of(const Scenario& scenario, std::size_t pool) {
    const auto high = static_cast<std::uint8_t>(pool >> 8U);
    const auto low = static_cast<std::uint8_t>(pool & 0xffU);
    api::Vip vip{.address = api::IpAddress::v4({198, 18, high, low}),
                 .port = api::Port{443},
                 .protocol = scenario.protocol};
    if (scenario.v6)
        vip.address = api::IpAddress::v6({0x20, 1, 0xd, 0xb8, 0, 0xf, 0, 0, 0, 0, 0, 0, 0, 1, high, low});
    return vip;
}

namespace {

api::IpAddress backend_address(const Scenario& scenario, std::size_t number) {
    const auto high = static_cast<std::uint8_t>(number >> 8U);
    const auto low = static_cast<std::uint8_t>(number & 0xffU);
    if (!scenario.v6) return api::IpAddress::v4({10, 1, high, low});
    return api::IpAddress::v6({0x20, 1, 0xd, 0xb8, 0, 0xb, 0, 0, 0, 0, 0, 0, 0, 1, high, low});
}

api::PlanPool pool_of(const Scenario& scenario, std::size_t number) {
    api::PlanPool pool{.id = api::PoolId{static_cast<std::uint16_t>(number)},
                       .name = fmt::format("pool{}", number)};
    pool.vips = {{api::VipId{static_cast<std::uint16_t>(number)}, vip_of(scenario, number)}};
    pool.encap = scenario.encap;
    const std::size_t per_site = scenario.backends / kSites;
    pool.max_backends = per_site > 64 ? static_cast<std::uint32_t>(per_site) : 64;
    for (std::size_t s = 0; s < kSites; ++s) {
        api::PlanPoolSite site{.site = api::SiteId{static_cast<std::uint8_t>(s)}, .weight = api::Weight{100}};
        for (std::size_t b = 0; b < per_site; ++b) {
            const std::size_t id = number * scenario.backends + s * per_site + b;
            site.backends.push_back({api::BackendId{static_cast<std::uint16_t>(id)},
                                     backend_address(scenario, id), api::Weight{100}, api::NextHopId{0}});
        }
        pool.sites.push_back(site);
    }
    return pool;
}

}  // namespace

api::ForwardingPlan plan_of(const Scenario& scenario) {
    api::ForwardingPlan plan;
    plan.generation = api::Generation{1};
    plan.icmp_per_second = std::numeric_limits<std::uint32_t>::max();  // what an error costs, not a budget
    plan.seed = api::FleetSeed::from_text("a seed for benchmarks, the same everywhere");
    plan.source_v4 = api::IpAddress::v4({192, 0, 2, 1});
    plan.source_v6 = api::IpAddress::v6({0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
    for (std::size_t s = 0; s < kSites; ++s) {
        const std::string name = fmt::format("site{}", s);
        plan.sites.push_back({api::SiteId{static_cast<std::uint8_t>(s)}, name, name, api::Sequence{0}});
    }
    plan.next_hops.push_back({api::NextHopId{0}, api::EgressPort{0}, api::Mac{{2, 0, 0, 0, 0, 4}},
                              api::Mac{{2, 0, 0, 0, 0, 3}}, 1500, true});
    for (std::size_t i = 0; i < scenario.pools; ++i) plan.pools.push_back(pool_of(scenario, i));
    return plan;
}

}  // namespace detour::bench
