// The fast path's choice against the slow model, on random plans and switches; and the model's own rows.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <array>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "dataplane/api/wire.h"
#include "dataplane/core/select.h"
#include "dataplane/core/tables.h"
#include "tests/support/model.h"
#include "tests/support/random_seed.h"

using namespace detour;

namespace {

api::IpAddress address(const std::string& text) {
    return api::IpAddress::parse(text).value();
}

/// Pools of random sites, weights, tiers and backends; ids in random order.
api::ForwardingPlan random_plan(std::mt19937_64& random) {
    api::ForwardingPlan plan;
    plan.generation = api::Generation{1};
    plan.seed = api::FleetSeed::from_text(std::to_string(random()));
    plan.source_v4 = address("192.0.2.1");
    plan.next_hops.push_back({.id = api::NextHopId{0}, .port = {}, .source = {}, .destination = {}});
    const std::size_t sites = 1 + random() % 12;
    for (std::size_t i = 0; i < sites; ++i)
        plan.sites.push_back(
            {api::SiteId{static_cast<std::uint8_t>(i * 7 % 251)}, "", fmt::format("site-{}", i), {}});
    std::uint16_t backend = 0;
    for (std::uint16_t p = 0; p < 4; ++p) {
        api::PlanPool pool;
        pool.id = api::PoolId{static_cast<std::uint16_t>(100 - p)};
        pool.hash = p % 2 == 0 ? api::HashKey::kFiveTuple : api::HashKey::kSource;
        pool.max_backends = 8;
        pool.vips.push_back({api::VipId{p}, {address(fmt::format("203.0.113.{}", p)), api::Port{443}}});
        pool.vips.push_back({api::VipId{static_cast<std::uint16_t>(p + 9)},
                             {address(fmt::format("2001:db8::{}", p)), api::Port{53}, api::Protocol::kUdp}});
        for (const api::PlanSite& site : plan.sites) {
            api::PlanPoolSite part{site.id,
                                   api::Weight{static_cast<std::uint32_t>(random() % 5)},
                                   api::Tier{static_cast<std::uint8_t>(random() % 2)},
                                   {}};
            const std::size_t count = random() % 5;
            for (std::size_t b = 0; b < count; ++b, ++backend)
                part.backends.push_back({api::BackendId{backend},
                                         address(fmt::format("10.{}.{}.1", backend / 256, backend % 256)),
                                         api::Weight{static_cast<std::uint32_t>(random() % 3)},
                                         api::NextHopId{0}});
            pool.sites.push_back(part);
        }
        plan.pools.push_back(pool);
    }
    return plan;
}

core::SwitchValue random_switch(std::mt19937_64& random) {
    const auto admit = [&random] {
        const std::uint64_t r = random();
        if (r % 4 == 0) return api::kAdmitNone;
        if (r % 4 == 1) return api::kAdmitAll;
        return api::Admit{static_cast<std::uint16_t>(r % 8 == 2 ? 20'000 : r >> 16U)};
    };
    return {admit(), admit(), random() % 2 == 0};
}

/// Switches some sites and backends, the same in both.
void switch_randomly(const api::ForwardingPlan& plan, std::mt19937_64& random, core::HostState& host,
                     model::Switches& switches) {
    for (const api::PlanSite& site : plan.sites) {
        if (random() % 2 == 0) continue;
        const core::SwitchValue value = random_switch(random);
        host.set_site(site.id, value);
        switches.sites[site.id] = value;
    }
    for (const api::PlanPool& pool : plan.pools)
        for (const api::PlanPoolSite& part : pool.sites) {
            if (random() % 4 == 0) {
                const core::SwitchValue value = random_switch(random);
                host.set_pool_site(pool.id, part.site, value);
                switches.pools[{pool.id, part.site}] = value;
            }
            for (const api::PlanBackend& backend : part.backends) {
                if (random() % 2 == 0) continue;
                const core::BackendValue value{random() % 4 == 0, true};
                host.set_backend(backend.id, value);
                switches.backends[backend.id] = value;
            }
        }
}

model::Flow random_flow(const api::PlanPool& pool, std::mt19937_64& random) {
    const api::Vip vip = pool.vips[random() % pool.vips.size()].vip;
    const std::uint64_t r = random();
    const std::string client = vip.address.is_v6() ? fmt::format("2001:db8:{:x}::{:x}", r & 0xffffU, r >> 48U)
                                                   : fmt::format("198.18.{}.{}", r & 0xffU, r >> 56U);
    return {address(client), api::Port{static_cast<std::uint16_t>(r >> 16U)}, vip};
}

model::Choice of(const core::Choice& choice) {
    model::Choice out;
    if (choice.site != core::kNoSiteId) out.site = api::SiteId{choice.site};
    if (choice.backend != core::kNoBackendId) out.backend = api::BackendId{choice.backend};
    return out;
}

}  // namespace

TEST_CASE("the fast path chooses as the slow model does, for random plans, switches and flows") {
    std::mt19937_64 random(support::random_seed());
    std::set<int> seen;
    for (int round = 0; round < 40; ++round) {
        const api::ForwardingPlan plan = random_plan(random);
        REQUIRE(api::check(plan));
        const auto tables = core::build_tables(plan, nullptr).value();
        const auto host = std::make_unique<core::HostState>();
        const model::Model slow(plan);
        model::Switches switches;
        if (round % 5 != 0) switch_randomly(plan, random, *host, switches);
        for (std::size_t p = 0; p < plan.pools.size(); ++p) {
            for (int i = 0; i < 300; ++i) {
                const model::Flow flow = random_flow(plan.pools[p], random);
                const std::uint64_t hash = slow.hash_of(flow, plan.pools[p].hash);
                for (const bool mid : {false, true}) {
                    const auto expected =
                        slow.choose(flow, switches, mid ? model::Admission::kMid : model::Admission::kNew);
                    const model::Choice got =
                        of(core::choose(*tables, tables->pools[p], *host, hash,
                                        mid ? core::Admission::kMid : core::Admission::kNew));
                    REQUIRE(expected.has_value());
                    REQUIRE(got == *expected);
                    seen.insert(got.backend ? 2 : got.site ? 1 : 0);
                }
            }
        }
    }
    CHECK(seen.size() == 3);  // every kind of answer came up
}

TEST_CASE("the model knows a flow that is not for a VIP") {
    std::mt19937_64 random(support::random_seed());
    const api::ForwardingPlan plan = random_plan(random);
    const model::Flow flow{address("198.18.0.1"), api::Port{1}, {address("203.0.113.99"), api::Port{443}}};
    CHECK(!model::choose(plan, flow, {}).has_value());
}

TEST_CASE("the choice, row by row") {
    // One pool in three sites of one backend each: what a flow gets when its sites are switched.
    api::ForwardingPlan plan;
    plan.generation = api::Generation{1};
    plan.seed = api::FleetSeed::from_text("rows");
    plan.next_hops.push_back({.id = api::NextHopId{0}, .port = {}, .source = {}, .destination = {}});
    api::PlanPool pool;
    const api::Vip vip{address("203.0.113.10"), api::Port{443}};
    pool.vips.push_back({api::VipId{0}, vip});
    for (std::uint8_t i = 0; i < 3; ++i) {
        plan.sites.push_back({api::SiteId{i}, "", fmt::format("site-{}", i), {}});
        pool.sites.push_back(
            {api::SiteId{i},
             api::Weight{1},
             api::Tier{0},
             {{api::BackendId{i}, address(fmt::format("10.0.0.{}", i + 1)), api::Weight{1}, {}}}});
    }
    plan.pools.push_back(pool);
    REQUIRE(api::check(plan));
    const model::Flow flow{address("198.18.0.1"), api::Port{5000}, vip};
    const auto tables = core::build_tables(plan, nullptr).value();
    const std::uint64_t hash = model::Model(plan).hash_of(flow, api::HashKey::kFiveTuple);
    std::array<api::SiteId, 3> ranked;
    std::array<std::uint16_t, 3> fractions{};
    for (unsigned i = 0; i < 3; ++i) {
        ranked[i] =
            api::SiteId{core::SiteTable::site_at(tables->pools[0].sites->ranks(core::slot_of(hash)), i)};
        fractions[i] = core::fraction(hash, tables->site_keys[ranked[i].value()]);
    }
    const auto over = [&](std::size_t rank) { return static_cast<std::uint16_t>(fractions[rank] + 1); };
    struct Row {
        const char* name;
        std::array<std::uint16_t, 3> admit;
        std::array<bool, 3> up;
        int site;     ///< rank that is chosen, -1: none
        int backend;  ///< rank whose backend is chosen, -1: none
    };
    const std::vector<Row> rows{
        {"all admitted: the first", {65535, 65535, 65535}, {true, true, true}, 0, 0},
        {"the first dark: the second", {0, 65535, 65535}, {true, true, true}, 1, 1},
        {"two dark: the third", {0, 0, 65535}, {true, true, true}, 2, 2},
        {"all dark: none", {0, 0, 0}, {true, true, true}, -1, -1},
        {"its fraction is just admitted", {over(0), 65535, 65535}, {true, true, true}, 0, 0},
        {"its fraction is just not admitted", {fractions[0], 65535, 65535}, {true, true, true}, 1, 1},
        {"none takes it: the highest admit", {1, 2, 1}, {true, true, true}, 1, 1},
        {"none takes it, equal admits: the best rank", {0, 1, 1}, {true, true, true}, 1, 1},
        {"its backend is down: the second", {65535, 65535, 65535}, {false, true, true}, 1, 1},
        {"its backend is down and the others dark: its site, no backend",
         {65535, 0, 0},
         {false, true, true},
         0,
         -1},
        {"all backends down", {65535, 65535, 65535}, {false, false, false}, 0, -1},
        {"down, and nobody else admits all: the highest admit that is up",
         {65535, 1, 2},
         {false, true, true},
         2,
         2},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        const auto host = std::make_unique<core::HostState>();
        model::Switches switches;
        for (std::size_t i = 0; i < 3; ++i) {
            switches.sites[ranked[i]] = {api::Admit{row.admit[i]}, api::kAdmitNone, true};
            switches.backends[api::BackendId{ranked[i].value()}] = {row.up[i], true};
            host->set_site(ranked[i], {api::Admit{row.admit[i]}, api::kAdmitNone, true});
            host->set_backend(api::BackendId{ranked[i].value()}, {row.up[i], true});
        }
        model::Choice expected;
        if (row.site >= 0) expected.site = ranked[static_cast<std::size_t>(row.site)];
        if (row.backend >= 0)
            expected.backend = api::BackendId{ranked[static_cast<std::size_t>(row.backend)].value()};
        CHECK(model::choose(plan, flow, switches) == expected);
        CHECK(of(core::choose(*tables, tables->pools[0], *host, hash, core::Admission::kNew)) == expected);
        CHECK(model::choose(plan, flow, switches, model::Admission::kMid) == model::Choice{});
    }
}
