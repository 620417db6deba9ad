// Drains: rails, two steps, what they do and how they end.
#include "tests/unit/control/app/world.h"

using namespace detour;
using namespace detour::test;
using failover::Verdict;

namespace {

constexpr Gate kOpen{};
constexpr Gate kDrained{api::kAdmitNone, api::kAdmitAll, true};
bool closed(const Gate& gate) {
    return gate.admit == api::kAdmitNone;
}
bool open(const Gate& gate) {
    return gate == kOpen;
}

}  // namespace

TEST_CASE("an intent is acted on only when it was committed, and is on disk by then") {
    World world(sample_config());
    world.boot();
    const failover::DrainRequest request{"pangyo", 30min, "power work", "kim", false, false};
    const auto prepared = world.engine().prepare(request, world.now());
    REQUIRE(prepared.has_value());
    CHECK(prepared->sites == std::vector<std::string>{"pangyo"});
    const auto on_disk = app::decode_intents(prepared->intents);
    REQUIRE(on_disk.has_value());
    REQUIRE(on_disk->drains.size() == 1);
    CHECK(on_disk->drains[0].reason == "power work");
    CHECK(on_disk->drains[0].until - on_disk->drains[0].since == nanoseconds(30min));
    world.run(1s);
    CHECK(world.gate("pangyo") == kOpen);
    CHECK(world.engine().prepare(request, world.now()).error().code == api::ErrorCode::kUnavailable);
    world.engine().abort();  // the disk is full
    world.run(1s);
    CHECK(world.gate("pangyo") == kOpen);
    CHECK(world.engine().snapshot(world.now()).drains.empty());

    REQUIRE(world.drain("pangyo").has_value());
    CHECK(world.gate("pangyo") == kDrained);
    CHECK(world.verdict("pangyo") == Verdict::kDrained);
    CHECK(world.fast.site_stores == 1);
}

TEST_CASE("drain and undrain: established flows stay, the site comes back by a ramp") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.drain("anyang").has_value());
    world.run(60s);
    CHECK(world.gate("anyang") == kDrained);
    REQUIRE(world.undrain("anyang").has_value());
    CHECK(world.gate("anyang") == Gate{failover::kRampFloor, api::kAdmitNone, true});
    CHECK(world.verdict("anyang") == Verdict::kRecovering);
    world.run_until_gate("anyang", open, 11s);
    CHECK(world.verdict("anyang") == Verdict::kHealthy);
    CHECK(world.undrain("anyang").error().code == api::ErrorCode::kNotFound);
}

TEST_CASE("rail min_sites: refused with its name and what overrides it, unless forced") {
    World world(sample_config({.sites = {"pangyo", "anyang"}}));
    world.boot();
    REQUIRE(world.drain("pangyo").has_value());
    const auto refused = world.drain("anyang");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == api::ErrorCode::kRefused);
    CHECK(refused.error().to_string().find("min_sites = 1") != std::string::npos);
    CHECK(refused.error().to_string().find("--force") != std::string::npos);
    CHECK(world.gate("anyang") == kOpen);
    REQUIRE(world.drain("anyang", 4h, true).has_value());
    CHECK(closed(world.gate("anyang")));
}

TEST_CASE("the rail counts what is admitted: a dark site is no reserve, draining it takes nothing away") {
    World world(sample_config());
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run(5s);
    world.behave("anyang", Cause::kTimeout);
    world.run(5s);
    CHECK(world.drain("chuncheon").error().code == api::ErrorCode::kRefused);
    CHECK(world.drain("kr").error().code == api::ErrorCode::kRefused);
    CHECK(world.drain("kr/gyeonggi").has_value());
}

TEST_CASE("a pool in a site that was down while it was drained there comes back, and is never held") {
    // Nothing releases a pool in a site, so what held it held it for ever.
    World world(sample_config({.pools = 2}));
    world.boot();
    const auto pool0 = [&](Cause cause) {
        for (const config::Backend& backend : world.config().pools[0].backends)
            if (backend.site == "pangyo") world.behaviour[backend.address] = cause;
    };
    REQUIRE(world.drain("pool0@pangyo", 30s));
    pool0(Cause::kRefused);
    world.run(5s);
    SUBCASE("up again during the drain, which an operator ends") {
        pool0(Cause::kOk);
        world.run(5s);
        CHECK(closed(world.gate("pangyo", "pool0")));
        REQUIRE(world.undrain("pool0@pangyo"));
        world.run(15s);
    }
    SUBCASE("up again during the drain, whose time then is up") {
        pool0(Cause::kOk);
        world.run(45s);
    }
    SUBCASE("up again after the drain's time") {
        world.run(30s);
        CHECK(closed(world.gate("pangyo", "pool0")));
        pool0(Cause::kOk);
        world.run(15s);
    }
    CHECK(world.gate("pangyo", "pool0") == kOpen);
    CHECK(world.gate("pangyo") == kOpen);
}

TEST_CASE("the rails count a site on its ramp by its part; automation does not wait for it") {
    config::Config config = sample_config({.sites = {"pangyo", "anyang"}});
    config.failover.ramp = std::chrono::seconds{100};
    SUBCASE("min_sites") {}
    SUBCASE("capacity") {
        config.pools[0].min_sites = 0;
        for (config::Site& site : config.sites) site.capacity.new_flows = 2000;
    }
    const std::string rail = config.pools[0].min_sites > 0 ? "rail min_sites" : "rail capacity";
    World world(config);
    world.offered["pool0"] = 600;
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run(5s);
    world.behave("pangyo", Cause::kOk);
    world.run(5s);
    REQUIRE(world.site("pangyo").phase == failover::Phase::kRamping);
    const auto refused = world.drain("anyang");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == api::ErrorCode::kRefused);
    CHECK(refused.error().what.find(rail) != std::string::npos);
    CHECK(refused.error().what.find("pangyo is on its ramp: ") != std::string::npos);
    CHECK(world.gate("anyang") == kOpen);
    // To drain what has just come back takes nothing away.
    CHECK(world.drain("pangyo").has_value());
    CHECK(world.undrain("pangyo").has_value());
    SUBCASE("through its ramp it counts as whole") {
        world.run(101s);
        CHECK(world.drain("anyang").has_value());
    }
    SUBCASE("an operator may insist") {
        CHECK(world.drain("anyang", 4h, true).has_value());
    }
    SUBCASE("automation moves at once") {
        world.behave("anyang", Cause::kTimeout);
        world.run(2s);
        CHECK(closed(world.gate("anyang")));
        CHECK_FALSE(closed(world.gate("pangyo")));
    }
}

TEST_CASE("a drained site gets no new flow even when everything else is dead, unless it is a last resort") {
    for (const bool last_resort : {false, true}) {
        CAPTURE(last_resort);
        World world(sample_config());
        world.boot();
        REQUIRE(world.drain("pangyo", 4h, false, last_resort).has_value());
        CHECK(closed(world.gate("pangyo")));
        world.behave("anyang", Cause::kTimeout);
        world.behave("chuncheon", Cause::kTimeout);
        world.run(10s);
        CHECK(closed(world.gate("anyang")));
        CHECK(closed(world.gate("chuncheon")));
        CHECK(closed(world.gate("pangyo")) == !last_resort);
        world.behave("anyang", Cause::kOk);
        world.run(5s);
        CHECK(closed(world.gate("pangyo")));
    }
}

TEST_CASE("a domain is drained site by site, and an undrain of one site says what covers it") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.drain("kr/gyeonggi").has_value());
    CHECK(closed(world.gate("pangyo")));
    CHECK(closed(world.gate("anyang")));
    CHECK(world.gate("chuncheon") == kOpen);
    const auto refused = world.undrain("pangyo");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().to_string().find("kr/gyeonggi") != std::string::npos);
    REQUIRE(world.undrain("kr/gyeonggi").has_value());
    CHECK_FALSE(closed(world.gate("pangyo")));
}

TEST_CASE("two drains cover one site: it comes back when both are over") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.drain("pangyo").has_value());
    REQUIRE(world.drain("kr/gyeonggi", 10s).has_value());
    world.run(15s);
    CHECK(closed(world.gate("pangyo")));
    CHECK_FALSE(closed(world.gate("anyang")));
    REQUIRE(world.undrain("pangyo").has_value());
    CHECK_FALSE(closed(world.gate("pangyo")));
}

TEST_CASE("a pool in a site is drained alone") {
    World world(sample_config({.pools = 2}));
    world.boot();
    REQUIRE(world.drain("pool1@pangyo").has_value());
    CHECK(world.gate("pangyo", "pool1") == kDrained);
    CHECK(world.gate("pangyo", "pool0") == kOpen);
    CHECK(world.gate("pangyo") == kOpen);
    CHECK(world.fast.site_stores == 1);
    REQUIRE(world.undrain("pool1@pangyo").has_value());
    world.run(11s);
    CHECK(world.gate("pangyo", "pool1") == kOpen);
}

TEST_CASE("a backend is drained alone, keeps its flows, and comes back") {
    World world(sample_config());
    world.boot();
    const api::IpAddress address = backend_address(0, 0, 0);
    REQUIRE(world.drain(address.to_string()).has_value());
    CHECK(world.flags(address) == app::BackendFlags{false, true});
    world.run(30s);
    CHECK(world.flags(address) == app::BackendFlags{false, true});
    CHECK(world.fast.site_stores == 0);
    REQUIRE(world.undrain(address.to_string()).has_value());
    CHECK(world.flags(address) == app::BackendFlags{true, true});
}

TEST_CASE(
    "draining a pool's last backend in a site takes the pool out of the site, and counts for the rail") {
    World world(sample_config({.sites = {"pangyo", "anyang"}, .backends = 1}));
    world.boot();
    REQUIRE(world.drain(backend_address(0, 0, 0).to_string()).has_value());
    world.run(1s);
    CHECK(closed(world.gate("pangyo", "pool0")));
    CHECK(world.gate("pangyo", "pool0").keep);
    CHECK(world.drain(backend_address(1, 0, 0).to_string()).error().code == api::ErrorCode::kRefused);
    REQUIRE(world.undrain(backend_address(0, 0, 0).to_string()).has_value());
    world.run(11s);
    CHECK(world.gate("pangyo", "pool0") == kOpen);
}

TEST_CASE("a drain that expires brings a healthy site back, on disk too") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.drain("pangyo", 30s).has_value());
    world.run(29s);
    CHECK(closed(world.gate("pangyo")));
    world.run(2s);
    CHECK_FALSE(closed(world.gate("pangyo")));
    CHECK(world.count(EventKind::kDrainExpired) == 1);
    CHECK(app::decode_intents(world.intents_file)->drains.empty());
}

TEST_CASE("a drain that expires never lets in a site that was dark meanwhile") {
    for (const bool back_before : {true, false}) {
        CAPTURE(back_before);
        World world(sample_config());
        world.boot();
        REQUIRE(world.drain("pangyo", 30s).has_value());
        world.run(5s);
        world.behave("pangyo", Cause::kTimeout);
        world.run(10s);
        if (back_before) world.behave("pangyo", Cause::kOk);
        world.run(20s);
        CHECK(world.count(EventKind::kDrainExpired) == 1);
        CHECK(closed(world.gate("pangyo")));
        world.behave("pangyo", Cause::kOk);
        world.run(30s);
        CHECK(closed(world.gate("pangyo")));
        CHECK(world.verdict("pangyo") == Verdict::kRecovering);
        REQUIRE(world.undrain("pangyo").has_value());
        world.run_until_gate("pangyo", open, 11s);
    }
}

TEST_CASE("requests that make no sense are refused") {
    World world(sample_config());
    world.boot();
    CHECK(world.drain("nowhere").error().code == api::ErrorCode::kNotFound);
    CHECK(world.drain("").error().code == api::ErrorCode::kInvalidArgument);
    CHECK(world.drain("pangyo", 999ms).error().code == api::ErrorCode::kInvalidArgument);
    CHECK(world.drain("pangyo", 24h * 367).error().code == api::ErrorCode::kInvalidArgument);
    CHECK(world.undrain("pangyo").error().code == api::ErrorCode::kNotFound);
    CHECK(world.undrain("nowhere").error().code == api::ErrorCode::kNotFound);
    CHECK(world.fast.site_stores == 0);
}

TEST_CASE("a second drain of the same target replaces the first") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.drain("pangyo", 10s).has_value());
    REQUIRE(world.drain("pangyo", 60s).has_value());
    CHECK(world.engine().snapshot(world.now()).drains.size() == 1);
    world.run(30s);
    CHECK(closed(world.gate("pangyo")));
    CHECK(world.fast.site_stores == 1);
}

TEST_CASE("a second drain can make the site a last resort, or no longer") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.drain("pangyo").has_value());
    world.behave("anyang", Cause::kTimeout);
    world.behave("chuncheon", Cause::kTimeout);
    world.run(10s);
    CHECK(closed(world.gate("pangyo")));
    REQUIRE(world.drain("pangyo", 4h, true, true).has_value());
    CHECK_FALSE(closed(world.gate("pangyo")));
    REQUIRE(world.drain("pangyo", 4h, true, false).has_value());
    CHECK(closed(world.gate("pangyo")));
}
