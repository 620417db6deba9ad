// A fleet of random names and addresses, made ready to choose by, and choices from bare hashes.
//
// Two fleets of one seed are alike but for their sizes: the first sites and backends of both have the same
// names and addresses. Not thread safe.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "dataplane/core/select.h"
#include "dataplane/core/tables.h"

namespace detour::stress {

struct FleetOptions {
    std::size_t sites = 2;
    std::size_t backends = 2;  ///< per site
    std::uint32_t max_backends = 64;
    std::vector<std::uint32_t> weights{100};  ///< of the backends, in turn
};

/// One pool, site ids from 1, backend ids by site and then by place.
[[nodiscard]] inline api::ForwardingPlan random_plan(std::uint64_t seed, const FleetOptions& o) {
    api::ForwardingPlan plan;
    plan.generation = api::Generation{1};
    plan.seed = api::FleetSeed::from_text(fmt::format("a seed for tests, number {:020}", seed));
    plan.source_v4 = *api::IpAddress::parse("192.0.2.1");
    plan.next_hops.push_back({api::NextHopId{0}, api::EgressPort{0}, {}, {}, 1500, true});
    api::PlanPool pool{.id = api::PoolId{0}, .name = "pool"};
    pool.max_backends = static_cast<decltype(pool.max_backends)>(o.max_backends);
    pool.vips = {{api::VipId{0}, *api::Vip::parse("203.0.113.10:443/tcp")}};
    std::uint16_t id = 0;
    for (std::size_t s = 1; s <= o.sites; ++s) {
        const api::SiteId site{static_cast<std::uint8_t>(s)};
        const std::string name = fmt::format("site{}", s);
        plan.sites.push_back({site, name, name, api::Sequence{0}});
        api::PlanPoolSite part{.site = site, .weight = api::Weight{100}};
        for (std::size_t b = 0; b < o.backends; ++b) {
            const std::string address = fmt::format("10.{}.{}.{}", s, b / 250, 1 + b % 250);
            part.backends.push_back({api::BackendId{id++}, *api::IpAddress::parse(address),
                                     api::Weight{static_cast<std::uint16_t>(o.weights[b % o.weights.size()])},
                                     api::NextHopId{0}});
        }
        pool.sites.push_back(part);
    }
    plan.pools = {pool};
    return plan;
}

struct Fleet {
    Fleet(std::uint64_t seed_of, const FleetOptions& options)
        : seed(seed_of), plan(random_plan(seed_of, options)) {
        auto built = core::build_tables(plan, nullptr);
        if (!built) throw std::runtime_error(built.error().to_string());
        tables = *std::move(built);
    }
    [[nodiscard]] std::size_t sites() const { return plan.sites.size(); }
    [[nodiscard]] std::uint16_t last_backend() const {
        return plan.pools[0].sites.back().backends.back().id.value();
    }

    std::uint64_t seed;
    api::ForwardingPlan plan;
    std::unique_ptr<const core::ForwardingTables> tables;
    core::HostState host;
};

[[nodiscard]] inline core::Choice choose(const Fleet& fleet, std::uint64_t hash,
                                         core::Admission admission = core::Admission::kNew) {
    return core::choose(*fleet.tables, fleet.tables->pools[0], fleet.host, hash, admission);
}

}  // namespace detour::stress
