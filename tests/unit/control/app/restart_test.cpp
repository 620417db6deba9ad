// Restarts, reloads and lost fast paths: what must not happen.
#include <functional>
#include <random>

#include "tests/unit/control/app/world.h"

using namespace detour;
using namespace detour::test;
using failover::Verdict;

namespace {

constexpr Gate kOpen{};
bool closed(const Gate& gate) {
    return gate.admit == api::kAdmitNone;
}

struct Situation {
    std::string name;
    std::function<void(World&)> make;
};

const std::vector<Situation>& situations() {
    static const std::vector<Situation> kRows = {
        {"all is well", [](World&) {}},
        {"a site is dark",
         [](World& world) {
             world.behave("pangyo", Cause::kTimeout);
             world.run(1s);
         }},
        {"a site is stranded",
         [](World& world) {
             world.behave("pangyo", Cause::kTimeout);
             world.run(10s);
         }},
        {"a site is drained", [](World& world) { REQUIRE(world.drain("anyang").has_value()); }},
        {"a site is drained and dark",
         [](World& world) {
             REQUIRE(world.drain("anyang").has_value());
             world.behave("anyang", Cause::kTimeout);
             world.run(10s);
         }},
        {"a backend is down",
         [](World& world) {
             world.behaviour[backend_address(0, 0, 0)] = Cause::kRefused;
             world.run(10s);
         }},
        {"a backend is drained",
         [](World& world) { REQUIRE(world.drain(backend_address(1, 0, 1).to_string()).has_value()); }},
        {"a pool is down in a site",
         [](World& world) {
             world.behaviour[backend_address(0, 1, 0)] = Cause::kRefused;
             world.behaviour[backend_address(0, 1, 1)] = Cause::kRefused;
             world.run(10s);
         }},
        {"a pool is drained in a site",
         [](World& world) { REQUIRE(world.drain("pool1@pangyo").has_value()); }},
        {"a site is held",
         [](World& world) {
             world.behave("pangyo", Cause::kTimeout);
             world.run(700s);
             world.behave("pangyo", Cause::kOk);
             world.run(5s);
             CHECK(world.site("pangyo").held);
         }},
    };
    return kRows;
}

}  // namespace

TEST_CASE("a restart of the control process changes nothing") {
    for (const Situation& situation : situations()) {
        CAPTURE(situation.name);
        config::Config config = sample_config({.pools = 2});
        config.failover.max_dark_sites = 3;
        World world(config);
        world.boot();
        situation.make(world);
        const auto sites = world.fast.sites;
        const auto backends = world.fast.backends;
        world.fast.site_stores = world.fast.backend_stores = world.fast.plans = 0;
        world.restart_control();
        world.run(1900ms);  // strand_after, which is no change of the restart's, begins anew
        CAPTURE(world.log());
        CHECK(world.fast.site_stores == 0);
        CHECK(world.fast.backend_stores == 0);
        CHECK(world.fast.plans == 0);
        CHECK(world.fast.sites == sites);
        CHECK(world.fast.backends == backends);
    }
}

TEST_CASE("without its own disk a restarted control process still adopts ids and switches") {
    World world(sample_config({.pools = 2}));
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run(10s);
    world.fast.site_stores = world.fast.backend_stores = world.fast.plans = 0;
    world.state_file.clear();
    world.restart_control();
    world.run(10s);
    CHECK(world.fast.site_stores == 0);
    CHECK(world.fast.backend_stores == 0);
    CHECK(world.fast.plans == 0);
}

TEST_CASE("after a restart nothing changes before `fall` failures were seen, then it does") {
    World world(sample_config());
    world.boot();
    world.behave("pangyo", Cause::kTimeout);  // at the same moment
    world.restart_control();
    world.run(190ms);
    CHECK(world.gate("pangyo") == kOpen);
    world.run_until_gate("pangyo", closed, 2s);
}

TEST_CASE("after a restart a dark site does not come back before `rise` answers") {
    World world(sample_config());
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run(10s);
    world.restart_control();
    world.run(5s);
    CHECK(closed(world.gate("pangyo")));
    world.behave("pangyo", Cause::kOk);
    world.run(1s);
    CHECK_FALSE(closed(world.gate("pangyo")));
}

TEST_CASE("a ramp goes on over a restart, forwards only") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.drain("pangyo").has_value());
    REQUIRE(world.undrain("pangyo").has_value());
    world.run(5s);
    const api::Admit before = world.gate("pangyo").admit;
    CHECK(before.value() == doctest::Approx(0.5 * 65535).epsilon(0.06));
    world.restart_control();
    CHECK(world.gate("pangyo").admit >= before);
    CHECK(world.gate("pangyo").admit.value() == doctest::Approx(0.5 * 65535).epsilon(0.06));
    world.run(6s);
    CHECK(world.gate("pangyo") == kOpen);
}

TEST_CASE("a drain that ran out while nobody was there ends only when the site is known to answer") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.drain("pangyo", 10s).has_value());
    world.behave("pangyo", Cause::kTimeout);
    world.disconnect();
    const std::string intents = world.intents_file;
    const std::string state = world.state_file;
    world.run(60s);
    world.intents_file = intents;  // as the dead process left it
    world.state_file = state;
    world.restart_control();
    world.run(10s);
    CHECK(closed(world.gate("pangyo")));
    world.behave("pangyo", Cause::kOk);
    world.run(5s);
    CHECK(closed(world.gate("pangyo")));
    CHECK(world.verdict("pangyo") == Verdict::kRecovering);
}

TEST_CASE("a fast path that lost everything is told everything, with higher numbers") {
    for (const Situation& situation : situations()) {
        CAPTURE(situation.name);
        config::Config config = sample_config({.pools = 2});
        config.failover.max_dark_sites = 3;
        World world(config);
        world.boot();
        situation.make(world);
        const FakeFastPath before = world.fast;
        world.blank_fast_path();
        REQUIRE(world.fast.plan.has_value());
        CHECK(plan::same_content(*world.fast.plan, *before.plan));
        CHECK(world.fast.plan->generation > before.plan->generation);
        for (const auto& [target, value] : before.sites) {
            CHECK(world.fast.gate(target.first, target.second) == before.gate(target.first, target.second));
        }
        for (const auto& [id, value] : before.backends) CHECK(world.fast.flags(id) == before.flags(id));
    }
}

TEST_CASE("what happened while no fast path was connected is caught up at once") {
    World world(sample_config());
    world.boot();
    world.disconnect();
    world.behave("pangyo", Cause::kTimeout);
    world.run(5s);
    CHECK(world.verdict("pangyo") == Verdict::kDark);
    CHECK(world.gate("pangyo") == kOpen);
    world.connect();
    CHECK(closed(world.gate("pangyo")));
}

TEST_CASE("a plan names the verdicts it was computed from") {
    World world(sample_config());
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run(5s);
    config::Config config = world.config();
    config.pools[0].backends[5].weight = 50;
    world.reload(config);
    REQUIRE(world.fast.plan.has_value());
    const app::SiteStatus site = world.site("pangyo");
    for (const api::PlanSite& value : world.fast.plan->sites) {
        if (value.id == site.id) CHECK(value.verdict == site.sequence);
    }
    CHECK(closed(world.gate("pangyo")));
}

TEST_CASE("a reload that only reorders or renames pools moves nothing") {
    World world(sample_config({.pools = 5, .backends = 3}));
    world.boot();
    std::mt19937_64 random(11);
    config::Config config = world.config();
    std::shuffle(config.sites.begin(), config.sites.end(), random);
    std::shuffle(config.pools.begin(), config.pools.end(), random);
    for (config::Pool& pool : config.pools) std::shuffle(pool.backends.begin(), pool.backends.end(), random);
    world.reload(config);
    world.run(5s);
    CHECK(world.fast.plans == 0);
    CHECK(world.fast.site_stores == 0);
    CHECK(world.fast.backend_stores == 0);
    for (const app::SiteStatus& site : world.engine().snapshot(world.now()).sites) {
        CHECK(site.verdict == Verdict::kHealthy);
    }
    REQUIRE(world.drain("pool3@pangyo").has_value());
    for (config::Pool& pool : config.pools) {
        if (pool.name == "pool3") pool.name = "aaa";
    }
    const auto before = *world.fast.plan;
    world.reload(config);
    CHECK(closed(world.gate("pangyo", "aaa")));  // the drain goes with the pool
    REQUIRE(world.fast.plan->pools.size() == before.pools.size());
    for (std::size_t i = 0; i < before.pools.size(); ++i) {
        CHECK(world.fast.plan->pools[i].id == before.pools[i].id);
        CHECK(world.fast.plan->pools[i].sites == before.pools[i].sites);
    }
}

TEST_CASE("a backend removed and another added never share an id while flows may be left") {
    World world(sample_config());
    world.boot();
    std::map<api::BackendId, api::IpAddress> owners;
    config::Config config = world.config();
    for (unsigned i = 0; i < 50; ++i) {
        config.pools[0].backends[0].address = backend_address(9, 0, i);
        world.reload(config);
        for (const api::PlanPoolSite& site : world.fast.plan->pools[0].sites) {
            for (const api::PlanBackend& backend : site.backends) {
                const auto [owner, added] = owners.emplace(backend.id, backend.address);
                CHECK(owner->second == backend.address);
            }
        }
        world.run(300ms);
    }
}

TEST_CASE("a site that goes from the config goes from the plan, one that comes takes its share") {
    World world(sample_config());
    world.boot();
    config::Config smaller = world.config();
    smaller.sites.pop_back();
    std::erase_if(smaller.pools[0].backends, [](const auto& backend) { return backend.site == "chuncheon"; });
    const config::Config whole = world.config();
    world.reload(smaller);
    CHECK(world.fast.plan->sites.size() == 2);
    world.run(5s);
    world.reload(whole);
    CHECK(world.fast.plan->sites.size() == 3);
    world.run(5s);
    CHECK(world.verdict("chuncheon") == Verdict::kHealthy);
    CHECK(world.gate("chuncheon") == kOpen);
}

TEST_CASE("a refused plan is not sent again until something changes") {
    World world(sample_config());
    world.boot();
    config::Config config = world.config();
    config.pools[0].backends[0].weight = 7;
    world.reload(config);
    const auto generation = world.fast.plan->generation;
    const api::Error error{api::ErrorCode::kLimit, "building tables", "no memory"};
    world.perform(world.engine().on_plan_refused(generation, error, world.now()));
    CHECK(world.count(EventKind::kPlanRefused) == 1);
    const int plans = world.fast.plans;
    world.perform(world.engine().on_next_hops({}, world.now()));
    world.perform(world.engine().on_next_hops(world.hops(), world.now()));
    CHECK(world.fast.plans == plans + 1);  // the one without routes
    world.run(5s);
    CHECK(world.fast.plans == plans + 1);
}

TEST_CASE("an unresolved neighbour never replaces a resolved one on the same port") {
    World world(sample_config());
    world.boot();
    plan::NextHops hops = world.hops();
    for (auto& [address, hop] : hops) hop.resolved = false;
    world.perform(world.engine().on_next_hops(hops, world.now()));
    CHECK(world.fast.plans == 0);
    for (auto& [address, hop] : hops) hop.port = api::EgressPort{1};
    world.perform(world.engine().on_next_hops(hops, world.now()));
    CHECK(world.fast.plans == 1);
    CHECK_FALSE(world.fast.plan->next_hops[0].resolved);
}

TEST_CASE("no plan is made before the routes are known, and none for a fast path that has it") {
    World world(sample_config());
    world.perform(world.engine().start(world.now()));
    world.connect();
    world.run(1s);
    CHECK(world.fast.plans == 0);
    world.perform(world.engine().on_next_hops(world.hops(), world.now()));
    CHECK(world.fast.plans == 1);
    world.disconnect();
    world.connect();
    CHECK(world.fast.plans == 1);
}

TEST_CASE("a restart before the kernel has found its neighbours again changes no next hop") {
    for (const bool routes_first : {true, false}) {
        CAPTURE(routes_first);
        World world(sample_config());
        world.boot();
        plan::NextHops hops = world.hops();
        for (auto& [address, hop] : hops) {
            hop.resolved = false;
            hop.destination = {};
        }
        app::Engine next(world.config(), app::decode_state(world.state_file).value(), {}, world.now());
        std::vector<app::Actions> all;
        all.push_back(next.start(world.now()));
        if (routes_first) all.push_back(next.on_next_hops(hops, world.now()));
        all.push_back(next.adopt(world.fast.state(), world.now()));
        if (!routes_first) all.push_back(next.on_next_hops(hops, world.now()));
        for (const app::Actions& actions : all) CHECK_FALSE(actions.plan);
    }
}

TEST_CASE("while a plan is made a site still goes dark at once, and the plan says that it knows") {
    World world(sample_config({}));
    world.boot();
    world.making = 5s;
    config::Config config = world.config();
    config.pools[0].backends[0].weight = 7;
    world.reload(config);
    CHECK(world.engine().plan_ordered());
    CHECK(world.fast.plans == 0);
    world.behave("pangyo", Cause::kTimeout);
    const auto took = world.run_until_gate(
        "pangyo", [](const Gate& gate) { return gate.admit == api::kAdmitNone; }, 2s);
    CHECK(took < 2s);
    CHECK(world.fast.plans == 0);
    world.run(5s);  // FakeFastPath refuses a plan with an old verdict number
    CHECK(world.fast.plans == 1);
    CHECK_FALSE(world.engine().plan_ordered());
}

TEST_CASE("a plan that was overtaken by a reload or a new fast path is not sent, and the next one is") {
    World world(sample_config({}));
    world.boot();
    world.making = 200ms;
    config::Config config = world.config();
    const auto weight = [&] {
        for (const api::PlanPoolSite& site : world.fast.plan->pools[0].sites) {
            for (const api::PlanBackend& backend : site.backends) {
                if (backend.address == config.pools[0].backends[0].address) return backend.weight.value();
            }
        }
        return 0U;
    };
    SUBCASE("by reloads") {
        for (const unsigned value : {7U, 8U, 9U}) {
            config.pools[0].backends[0].weight = value;
            world.reload(config);
            world.run(50ms);
        }
        world.run(1s);
        CHECK(weight() == 9);
        CHECK(world.fast.plans == 1);
    }
    SUBCASE("by a fast path that lost its disk") {
        config.pools[0].backends[0].weight = 7;
        world.reload(config);
        world.run(50ms);
        world.blank_fast_path();
        CHECK(world.fast.plans == 0);
        world.run(1s);
        CHECK(weight() == 7);
        CHECK(world.fast.plans == 1);
    }
    SUBCASE("by the loss of the channel") {
        config.pools[0].backends[0].weight = 7;
        world.reload(config);
        world.disconnect();
        world.run(1s);
        CHECK(world.fast.plans == 0);
        world.connect();
        world.run(1s);
        CHECK(weight() == 7);
    }
    CHECK_FALSE(world.engine().plan_ordered());
}

TEST_CASE("next hops that change faster than plans are made get their plans") {
    World world(sample_config({}));
    world.boot();
    world.making = 200ms;
    for (unsigned i = 0; i < 100; ++i) {
        plan::NextHops hops = world.hops();
        hops.begin()->second.destination = {{2, 0, 0, 0, 1, static_cast<std::uint8_t>(i)}};
        world.perform(world.engine().on_next_hops(hops, world.now()));
        world.run(20ms);
    }
    CHECK(world.fast.plans >= 9);
    CHECK(world.fast.plans <= 11);
    world.run(1s);
    CHECK(plan::next_hops_of(*world.fast.plan).begin()->second.destination == api::Mac{{2, 0, 0, 0, 1, 99}});
}
