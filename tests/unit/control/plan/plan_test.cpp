#include "control/plan/plan.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "tests/unit/control/sample_config.h"

using namespace detour;
using namespace detour::plan;

namespace {

NextHops hops_for(const config::Config& config) {
    NextHops result;
    for (const config::Pool& pool : config.pools) {
        for (const config::Backend& backend : pool.backends) {
            const std::uint8_t router = backend.address.bytes()[1];
            result[backend.address] = {
                api::EgressPort{0}, {{2, 0, 0, 0, 0, 1}}, {{2, 0, 0, 0, 1, router}}, 1500, true};
        }
    }
    return result;
}

Ids ids_for(const config::Config& config) {
    Ids ids;
    REQUIRE(ids.assign(config, api::Generation{1}, api::Generation{0}).has_value());
    return ids;
}

}  // namespace

TEST_CASE("weights, tiers and hops of the plan are those of the configuration") {
    config::Config config = test::sample_config({.pools = 2, .backends = 2});
    config.pools[0].backends[1].weight = 0;
    config.pools[0].site_weights = {{"anyang", 30}};
    config.sites[2].tier = config::SiteTier::kWarm;
    config.pools[1].encap = api::Encap::kIpip;
    config.pools[1].hash = api::HashKey::kSource;
    config.pools[1].stranded = api::Stranded::kRehash;
    const Ids ids = ids_for(config);
    const auto plan = make_plan(config, ids, hops_for(config), api::Generation{4});
    REQUIRE(plan.has_value());
    CHECK(plan->generation == api::Generation{4});
    CHECK(plan->next_hops.size() == 3);
    const auto named = [&](const std::string& name) {
        return *std::find_if(plan->pools.begin(), plan->pools.end(),
                             [&](const auto& pool) { return pool.name == name; });
    };
    const api::PlanPool first = named("pool0");
    REQUIRE(first.sites.size() == 3);
    for (const api::PlanPoolSite& site : first.sites) {
        CHECK(site.weight == api::Weight{site.site == ids.site("anyang") ? 30U : 100U});
        CHECK(site.tier == api::Tier{static_cast<std::uint8_t>(site.site == ids.site("chuncheon") ? 2 : 0)});
        for (const api::PlanBackend& backend : site.backends) {
            CHECK(backend.weight ==
                  api::Weight{backend.address == config.pools[0].backends[1].address ? 0U : 100U});
            CHECK(backend.id == ids.backend(first.id, backend.address));
        }
    }
    const api::PlanPool second = named("pool1");
    CHECK(second.encap == api::Encap::kIpip);
    CHECK(second.hash == api::HashKey::kSource);
    CHECK(second.stranded == api::Stranded::kRehash);
}

TEST_CASE("the order of the configuration does not show in the plan") {
    config::Config config = test::sample_config({.pools = 10, .backends = 4});
    const Ids ids = ids_for(config);
    const auto before = make_plan(config, ids, hops_for(config), api::Generation{1});
    std::mt19937_64 random(3);
    std::shuffle(config.sites.begin(), config.sites.end(), random);
    std::shuffle(config.pools.begin(), config.pools.end(), random);
    for (config::Pool& pool : config.pools) std::shuffle(pool.backends.begin(), pool.backends.end(), random);
    const auto after = make_plan(config, ids, hops_for(config), api::Generation{1});
    REQUIRE(before.has_value());
    REQUIRE(after.has_value());
    CHECK(*before == *after);
}

TEST_CASE("same_content looks past generation and sequences and sees anything else") {
    const config::Config config = test::sample_config({.pools = 2});
    const Ids ids = ids_for(config);
    const NextHops hops = hops_for(config);
    const auto plan = make_plan(config, ids, hops, api::Generation{1});
    REQUIRE(plan.has_value());
    api::ForwardingPlan other = *plan;
    other.generation = api::Generation{9};
    other.sites[0].verdict = api::Sequence{4};
    CHECK(same_content(*plan, other));
    other.pools[1].sites[0].backends[0].weight = api::Weight{1};
    CHECK_FALSE(same_content(*plan, other));
    other = *plan;
    other.next_hops[0].resolved = false;
    CHECK_FALSE(same_content(*plan, other));
    other = *plan;
    other.sites.pop_back();
    CHECK_FALSE(same_content(*plan, other));
    CHECK(next_hops_of(*plan) == hops);
}

TEST_CASE("a backend without a route gets a next hop that is not resolved") {
    const config::Config config = test::sample_config();
    const auto plan = make_plan(config, ids_for(config), {}, api::Generation{1});
    REQUIRE(plan.has_value());
    REQUIRE(plan->next_hops.size() == 1);
    CHECK_FALSE(plan->next_hops[0].resolved);
    CHECK(next_hops_of(*plan).empty());
}

TEST_CASE("a configuration without a pool gives no plan") {
    config::Config config = test::sample_config();
    config.pools.clear();
    CHECK_FALSE(make_plan(config, ids_for(config), {}, api::Generation{1}).has_value());
}

TEST_CASE("1,000 pools, 16 sites, 10,000 backends take less than 50 ms") {
    test::Shape shape;
    shape.sites.clear();
    for (int i = 0; i < 16; ++i) shape.sites.push_back("site" + std::to_string(i));
    shape.pools = 1000;
    shape.backends = 1;
    config::Config config = test::sample_config(shape);
    for (config::Pool& pool : config.pools) pool.backends.resize(10);
    const Ids ids = ids_for(config);
    const NextHops hops = hops_for(config);
    double best = 1e9;
    for (int i = 0; i < 5; ++i) {
        const auto start = std::chrono::steady_clock::now();
        const auto plan = make_plan(config, ids, hops, api::Generation{2});
        const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
        REQUIRE(plan.has_value());
        best = std::min(best, took.count());
    }
    MESSAGE("plan of 10,000 backends: " << best << " ms");
    CHECK(best < 200);  // target 50; sanitizers and busy machines are slower
}
