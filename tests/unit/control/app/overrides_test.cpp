// Drains by a part and with a deadline, holds, weights, and what comes from other PoPs.
#include "tests/unit/control/app/world.h"

using namespace detour;
using namespace detour::test;
using failover::Verdict;

namespace {

constexpr Gate kOpen{};
bool closed(const Gate& gate) {
    return gate.admit == api::kAdmitNone;
}

failover::DrainRequest drain_of(const std::string& target) {
    failover::DrainRequest request;
    request.target = target;
    request.by = "kim";
    return request;
}

failover::IntentRequest part_of(const std::string& target, std::uint32_t percent) {
    auto request = drain_of(target);
    request.percent = percent;
    return request;
}

failover::HoldRequest hold_for(std::chrono::milliseconds duration) {
    return {duration, "storm", "kim", false};
}

failover::WeightRequest weight_of(const std::string& target, std::optional<std::uint32_t> weight,
                                  std::chrono::milliseconds duration = 4h) {
    failover::WeightRequest request;
    request.target = target;
    request.weight = weight;
    request.duration = duration;
    return request;
}

std::uint32_t weight_in_plan(World& world, const std::string& site, std::size_t pool = 0) {
    for (const api::PlanPoolSite& part : world.fast.plan->pools[pool].sites) {
        if (part.site == world.site(site).id) return part.weight.value();
    }
    return 0;
}

}  // namespace

TEST_CASE("a drain of a part takes that part of the new flows and goes on from there") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.intend(part_of("pangyo", 75)).has_value());
    CHECK(world.gate("pangyo") == Gate{api::Admit{16383}, api::kAdmitAll, true});
    CHECK(world.verdict("pangyo") == Verdict::kHealthy);
    world.run(30s);
    CHECK(world.fast.site_stores == 1);
    REQUIRE(world.intend(part_of("pangyo", 90)).has_value());  // more of it: at once
    CHECK(world.gate("pangyo").admit == api::Admit{6553});
    REQUIRE(world.intend(part_of("pangyo", 50)).has_value());  // less: by ramp, from what it was
    CHECK(world.gate("pangyo").admit == api::Admit{6553});
    world.run(2s);
    CHECK(world.gate("pangyo").admit > api::Admit{6553});
    CHECK(world.gate("pangyo").admit < api::Admit{32767});
    world.run(10s);
    CHECK(world.gate("pangyo").admit == api::Admit{32767});
    REQUIRE(world.undrain("pangyo").has_value());
    api::Admit last = world.gate("pangyo").admit;
    CHECK(last >= api::Admit{32767});
    for (int i = 0; i < 120; ++i) {
        world.run(100ms);
        CHECK(world.gate("pangyo").admit >= last);
        last = world.gate("pangyo").admit;
    }
    CHECK(world.gate("pangyo") == kOpen);
}

TEST_CASE("a drain of a part is adopted by a restart as it is") {
    World world(sample_config({.pools = 2}));
    world.boot();
    REQUIRE(world.intend(part_of("pangyo", 40)).has_value());
    REQUIRE(world.intend(part_of("pool1@anyang", 30)).has_value());
    const auto before = world.fast.sites;
    world.fast.site_stores = world.fast.backend_stores = world.fast.plans = 0;
    world.restart_control();
    world.run(30s);
    CHECK(world.fast.site_stores == 0);
    CHECK(world.fast.plans == 0);
    CHECK(world.fast.sites == before);
    REQUIRE(world.undrain("pool1@anyang").has_value());
    world.run(11s);
    CHECK(world.gate("anyang", "pool1") == kOpen);
}

TEST_CASE("a drain of a part may not have a deadline, and a backend is drained whole") {
    World world(sample_config());
    world.boot();
    auto request = drain_of("pangyo");
    request.percent = 50;
    request.deadline = 1s;
    CHECK(world.intend(request).error().code == api::ErrorCode::kInvalidArgument);
    for (const std::uint32_t percent : {0U, 101U, 1000U}) {
        CHECK(world.intend(part_of("pangyo", percent)).error().code == api::ErrorCode::kInvalidArgument);
    }
    const auto refused = world.intend(part_of(backend_address(0, 0, 0).to_string(), 50));
    CHECK(refused.error().what.find("lbctl weight") != std::string::npos);
    request = drain_of("pangyo");
    request.duration = 10s;
    request.deadline = 11s;
    CHECK(world.intend(request).error().code == api::ErrorCode::kInvalidArgument);
    CHECK(world.fast.site_stores == 0);
}

TEST_CASE("at a drain's deadline the established flows are let go, of a site, a pool in it or a backend") {
    for (const char* target : {"pangyo", "pool0@pangyo", "10.0.0.1"}) {
        CAPTURE(target);
        World world(sample_config());
        world.boot();
        const std::string name =
            target == std::string("10.0.0.1") ? backend_address(0, 0, 0).to_string() : std::string(target);
        auto request = drain_of(name);
        request.deadline = 20s;
        REQUIRE(world.intend(request).has_value());
        const auto keep = [&] {
            if (name == "pangyo") return world.gate("pangyo").keep;
            if (name == "pool0@pangyo") return world.gate("pangyo", "pool0").keep;
            return world.flags(backend_address(0, 0, 0)).keep;
        };
        world.run(19s);
        CHECK(keep());
        world.run(2s);
        CHECK_FALSE(keep());
        const auto sites = world.fast.sites;
        const auto backends = world.fast.backends;
        world.restart_control();  // no event
        world.run(1s);
        CHECK(world.fast.sites == sites);
        CHECK(world.fast.backends == backends);
        REQUIRE(world.undrain(name).has_value());
        CHECK(keep());
        world.run(12s);
        CHECK(world.gate("pangyo") == kOpen);
        CHECK(world.verdict("pangyo") == Verdict::kHealthy);
    }
}

TEST_CASE("a drain with --now lets go at once, and says so") {
    World world(sample_config());
    world.boot();
    auto request = drain_of("pangyo");
    request.deadline = 0s;
    REQUIRE(world.intend(request).has_value());
    CHECK(world.gate("pangyo") == Gate{api::kAdmitNone, api::kAdmitNone, false, true});
    CHECK(world.count(EventKind::kStrand) == 1);
    CHECK(world.verdict("pangyo") == Verdict::kDrained);
}

TEST_CASE("a deadline that passed while nobody was there holds when somebody is") {
    World world(sample_config());
    world.boot();
    auto request = drain_of("pangyo");
    request.deadline = 20s;
    REQUIRE(world.intend(request).has_value());
    world.disconnect();
    const std::string intents = world.intents_file;
    const std::string state = world.state_file;
    world.run(30s);
    world.intents_file = intents;
    world.state_file = state;
    CHECK(world.gate("pangyo").keep);
    world.restart_control();
    CHECK_FALSE(world.gate("pangyo").keep);
    CHECK(world.verdict("pangyo") == Verdict::kDrained);
}

TEST_CASE("under a hold nothing goes dark, and what was seen counts when it ends") {
    for (const bool expires : {false, true}) {
        CAPTURE(expires);
        World world(sample_config());
        world.boot();
        REQUIRE(world.intend(hold_for(60s)).has_value());
        CHECK(world.engine().snapshot(world.now()).hold->reason == "storm");
        world.behave("pangyo", Cause::kTimeout);
        world.behaviour[backend_address(1, 0, 0)] = Cause::kRefused;
        world.run(30s);
        CAPTURE(world.log());
        CHECK(world.fast.site_stores == 0);
        CHECK(world.fast.backend_stores == 0);
        CHECK(world.site("pangyo").reason.find("hold") != std::string::npos);
        CHECK(world.count(EventKind::kAlarm) == 1);
        if (expires)
            world.run(31s);
        else
            REQUIRE(world.intend(failover::ReleaseRequest{"kim"}).has_value());
        world.run(1s);
        CHECK(closed(world.gate("pangyo")));
        CHECK_FALSE(world.flags(backend_address(1, 0, 0)).up);
        CHECK(world.count(EventKind::kRelease) == 1);
        CHECK_FALSE(app::decode_intents(world.intents_file)->hold.has_value());
    }
}

TEST_CASE("under a hold nothing comes back, is stranded or is released unasked") {
    World world(sample_config({.sites = {"pangyo", "anyang"}}));
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run(1s);
    REQUIRE(closed(world.gate("pangyo")));
    REQUIRE(world.intend(hold_for(1h)).has_value());
    world.run(60s);
    CHECK(world.gate("pangyo").keep);
    world.behave("pangyo", Cause::kOk);
    world.run(60s);
    CHECK(closed(world.gate("pangyo")));
    world.behave("anyang", Cause::kTimeout);
    world.run(60s);
    CHECK(world.gate("anyang") == kOpen);
    CHECK(closed(world.gate("pangyo")));
    world.behave("anyang", Cause::kOk);
    world.run(5s);
    REQUIRE(world.intend(failover::ReleaseRequest{"kim"}).has_value());
    CHECK_FALSE(closed(world.gate("pangyo")));
}

TEST_CASE("a hold outlives a restart and leaves operators their hands") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.intend(hold_for(1h)).has_value());
    world.behave("pangyo", Cause::kTimeout);
    world.run(5s);
    world.restart_control();
    world.run(30s);
    CHECK(world.gate("pangyo") == kOpen);
    REQUIRE(world.drain("pangyo").has_value());
    CHECK(closed(world.gate("pangyo")));
    const api::IpAddress backend = backend_address(1, 0, 0);
    REQUIRE(world.drain(backend.to_string()).has_value());
    CHECK_FALSE(world.flags(backend).up);
    REQUIRE(world.undrain(backend.to_string()).has_value());
    CHECK(world.flags(backend).up);
    CHECK(world.intend(failover::ReleaseRequest{"kim"}).has_value());
    CHECK(world.intend(failover::ReleaseRequest{"kim"}).error().code == api::ErrorCode::kNotFound);
}

TEST_CASE("a drain whose time is up under a hold ends with the hold") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.drain("pangyo", 10s).has_value());
    REQUIRE(world.intend(hold_for(60s)).has_value());
    world.run(30s);
    CHECK(closed(world.gate("pangyo")));
    CHECK(world.count(EventKind::kDrainExpired) == 0);
    world.run(32s);
    CHECK_FALSE(closed(world.gate("pangyo")));
    CHECK(world.count(EventKind::kDrainExpired) == 1);
}

TEST_CASE("a weight is in the plan until it is taken back, is over, or the configuration has another") {
    World world(sample_config({.pools = 2}));
    world.boot();
    REQUIRE(world.intend(weight_of("pool0@pangyo", 25)).has_value());
    CHECK(world.fast.plans == 1);
    CHECK(weight_in_plan(world, "pangyo") == 25);
    CHECK(weight_in_plan(world, "pangyo", 1) == 100);
    world.restart_control();
    world.run(5s);
    CHECK(world.fast.plans == 1);
    CHECK(weight_in_plan(world, "pangyo") == 25);
    SUBCASE("taken back") {
        REQUIRE(world.intend(weight_of("pool0@pangyo", std::nullopt)).has_value());
        CHECK(weight_in_plan(world, "pangyo") == 100);
        CHECK(world.intend(weight_of("pool0@pangyo", std::nullopt)).error().code ==
              api::ErrorCode::kNotFound);
    }
    SUBCASE("over") {
        REQUIRE(world.intend(weight_of("pool0@pangyo", 30, 10s)).has_value());
        world.run(11s);
        CHECK(weight_in_plan(world, "pangyo") == 100);
        CHECK(app::decode_intents(world.intents_file)->weights.empty());
    }
    SUBCASE("a reload that changes something else") {
        config::Config config = world.config();
        config.pools[1].site_weights.push_back({"pangyo", 90});
        world.reload(config);
        CHECK(weight_in_plan(world, "pangyo") == 25);
        CHECK(weight_in_plan(world, "pangyo", 1) == 90);
    }
    SUBCASE("a reload that changes it") {
        config::Config config = world.config();
        config.pools[0].site_weights.push_back({"pangyo", 90});
        world.reload(config);
        CHECK(weight_in_plan(world, "pangyo") == 90);
        CHECK(world.engine().intents().weights.empty());
    }
}

TEST_CASE("weight 0 is held to the rail of drains; what makes no sense is refused") {
    World world(sample_config({.sites = {"pangyo", "anyang"}}));
    world.boot();
    REQUIRE(world.intend(weight_of("pangyo", 0)).has_value());
    const auto refused = world.intend(weight_of("anyang", 0));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == api::ErrorCode::kRefused);
    CHECK(refused.error().what.find("min_sites") != std::string::npos);
    CHECK(world.intend(weight_of("anyang", 65536)).error().code == api::ErrorCode::kInvalidArgument);
    CHECK(world.intend(weight_of("mars", 1)).error().code == api::ErrorCode::kNotFound);
    CHECK(world.intend(weight_of("anyang", 1, 1ms)).error().code == api::ErrorCode::kInvalidArgument);
    CHECK(world.intend(hold_for(0s)).error().code == api::ErrorCode::kInvalidArgument);
}

TEST_CASE("another PoP's intents are taken over once, and held to this PoP's rails") {
    World there(sample_config({.sites = {"pangyo", "anyang"}}));
    World here(sample_config({.sites = {"pangyo", "anyang"}}));
    there.boot();
    here.boot();
    REQUIRE(there.drain("pangyo").has_value());
    const auto tell = [&] {
        return here.intend(failover::MergeRequest{"nrt1", failover::shared(there.engine().intents())});
    };
    REQUIRE(tell().has_value());
    CHECK(closed(here.gate("pangyo")));
    const int stores = here.fast.site_stores;
    REQUIRE(tell().has_value());
    CHECK(here.fast.site_stores == stores);
    REQUIRE(here.undrain("pangyo").has_value());
    REQUIRE(tell().has_value());  // it has not heard of that
    CHECK_FALSE(closed(here.gate("pangyo")));
    REQUIRE(there.intend(failover::MergeRequest{"icn1", failover::shared(here.engine().intents())}));
    CHECK_FALSE(closed(there.gate("pangyo")));

    here.run(20s);
    here.behave("anyang", Cause::kTimeout);
    here.run(5s);
    REQUIRE(there.drain("pangyo").has_value());
    const auto refused = here.engine().prepare(
        failover::MergeRequest{"nrt1", failover::shared(there.engine().intents())}, here.now());
    REQUIRE(refused.has_value());
    CHECK_FALSE(refused->changed);
    REQUIRE(refused->warnings.size() == 1);
    CHECK(refused->warnings[0].find("min_sites") != std::string::npos);
    here.engine().abort();
    CHECK_FALSE(closed(here.gate("pangyo")));
    REQUIRE(there.drain("pangyo", 4h, true).has_value());  // forced
    REQUIRE(tell().has_value());
    CHECK(closed(here.gate("pangyo")));
}
