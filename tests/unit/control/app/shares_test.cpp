// What bounds a pool in a site beside dark and drained: health, dependencies, flapping, what is new.
#include "tests/unit/control/app/world.h"

using namespace detour;
using namespace detour::test;
using failover::Verdict;

namespace {

const Gate kOpen{};

/// The first `count` of the pool's backends in `site`.
std::vector<api::IpAddress> some(const config::Pool& pool, const std::string& site, std::size_t count) {
    std::vector<api::IpAddress> result;
    for (const config::Backend& backend : pool.backends) {
        if (backend.site == site && result.size() < count) result.push_back(backend.address);
    }
    return result;
}

double admit(World& world, const std::string& site, const std::string& pool) {
    return static_cast<double>(world.gate(site, pool).admit.value()) / 65535;
}

/// Until it takes new flows again.
double seconds_away(World& world, const std::string& site) {
    const nanoseconds start = world.time();
    while (world.gate(site).admit == api::kAdmitNone) {
        world.run(200ms);
        REQUIRE(world.time() - start < 5min);
    }
    return std::chrono::duration<double>(world.time() - start).count();
}

}  // namespace

TEST_CASE("2022: 37.5 % of the servers are back: the share follows them, and no dead server is used") {
    config::Config config = sample_config({.backends = 32});
    config.failover.ramp = config::milliseconds{2'000};
    World world(config);
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run(5s);
    REQUIRE(world.verdict("pangyo") == Verdict::kDark);
    const auto back = some(world.config().pools[0], "pangyo", 12);
    for (const auto& address : back) world.behaviour[address] = Cause::kOk;
    for (int slice = 0; slice < 100; ++slice) {
        world.run(100ms);
        if (world.gate("pangyo").admit == api::kAdmitNone) continue;
        for (const config::Backend& backend : world.config().pools[0].backends) {
            if (backend.site != "pangyo" || world.behaviour[backend.address] == Cause::kOk) continue;
            CAPTURE(backend.address.to_string());
            CHECK_FALSE(world.flags(backend.address).up);
        }
    }
    CHECK(world.gate("pangyo").admit == api::kAdmitAll);  // its ramp is over
    CHECK(admit(world, "pangyo", "pool0") == doctest::Approx(0.375 * 1.4).epsilon(0.02));
    CHECK(world.gate("anyang", "pool0") == kOpen);
    world.behave("pangyo", Cause::kOk);
    world.run(2s);
    CHECK(world.gate("pangyo", "pool0") == kOpen);
}

TEST_CASE("a degraded site gives a part of its share away, and takes it whole when nobody else can") {
    World world(sample_config({.sites = {"pangyo", "anyang"}, .backends = 4}));
    world.boot();
    for (const auto& address : some(world.config().pools[0], "pangyo", 2))
        world.behaviour[address] = Cause::kTimeout;
    world.run(2s);
    CHECK(admit(world, "pangyo", "pool0") == doctest::Approx(0.7).epsilon(0.02));
    world.behave("anyang", Cause::kTimeout);
    world.run(3s);
    REQUIRE(world.verdict("anyang") == Verdict::kDark);
    CHECK(world.gate("pangyo", "pool0") == kOpen);
    for (const auto& address : some(world.config().pools[0], "pangyo", 2))
        CHECK_FALSE(world.flags(address).up);
}

TEST_CASE("panic uses backends that answer badly, never silent ones while another answers") {
    config::Config config = sample_config({.sites = {"pangyo"}, .backends = 6});
    World world(config);
    world.boot();
    const auto& backends = world.config().pools[0].backends;
    for (std::size_t i = 0; i < 2; ++i) world.behaviour[backends[i].address] = Cause::kBadStatus;
    for (std::size_t i = 2; i < 5; ++i) world.behaviour[backends[i].address] = Cause::kTimeout;
    world.run(3s);
    CHECK(world.flags(backends[0].address).up);  // one of six is healthy: below the threshold of a half
    CHECK(world.flags(backends[1].address).up);
    for (std::size_t i = 2; i < 5; ++i) CHECK_FALSE(world.flags(backends[i].address).up);
    CHECK(world.flags(backends[5].address).up);
    world.behaviour[backends[2].address] = Cause::kOk;
    world.behaviour[backends[3].address] = Cause::kOk;
    world.run(3s);
    CHECK_FALSE(world.flags(backends[0].address).up);  // three of six: panic is over
}

TEST_CASE("a new backend takes no flow before it is up, and a reload takes no live one out") {
    World world(sample_config({.backends = 2}));
    world.boot();
    config::Config config = world.config();
    const api::IpAddress fresh = ip("10.9.9.9");
    const api::IpAddress dead = ip("10.9.9.10");
    config.pools[0].backends.push_back({"pangyo", fresh, 100, {}});
    config.pools[0].backends.push_back({"pangyo", dead, 100, {}});
    world.behaviour[dead] = Cause::kTimeout;
    world.reload(config);
    CHECK_FALSE(world.flags(fresh).up);
    CHECK_FALSE(world.flags(dead).up);
    for (const config::Backend& backend : config.pools[0].backends) {
        if (backend.address == fresh || backend.address == dead) continue;
        CHECK(world.flags(backend.address) == app::BackendFlags{true, true});
    }
    world.run(5s);
    CHECK(world.flags(fresh) == app::BackendFlags{true, true});
    CHECK_FALSE(world.flags(dead).up);
    CHECK(world.gate("pangyo") == kOpen);
}

TEST_CASE("a restart leaves bounds where they are") {
    config::Config config = sample_config({.pools = 2, .backends = 4});
    config.pools[1].depends_on = {"pool0"};
    config.pools[1].follow = true;
    World world(config);
    world.boot();
    for (const auto& address : some(config.pools[0], "pangyo", 2)) world.behaviour[address] = Cause::kTimeout;
    for (const auto& address : some(config.pools[0], "anyang", 4)) world.behaviour[address] = Cause::kTimeout;
    world.run(10s);
    const Gate bounded = world.gate("pangyo", "pool0");
    CHECK(bounded.admit < api::kAdmitAll);
    CHECK(world.gate("anyang", "pool1").admit == api::kAdmitNone);
    const int stores = world.fast.site_stores + world.fast.backend_stores;
    world.restart_control();
    world.run(5s);
    CHECK(world.gate("pangyo", "pool0") == bounded);
    CHECK(world.fast.site_stores + world.fast.backend_stores == stores);
    world.behave("pangyo", Cause::kOk);
    world.behave("anyang", Cause::kOk);
    world.run(30s);
    for (const char* site : {"pangyo", "anyang"}) {
        for (const char* pool : {"pool0", "pool1"}) CHECK(world.gate(site, pool) == kOpen);
    }
}

TEST_CASE("follow: the pool leaves a site with what it depends on, and comes back with it") {
    config::Config config = sample_config({.pools = 3});
    config.pools[1].depends_on = {"pool0"};
    config.pools[1].follow = true;
    config.pools[2].depends_on = {"pool1"};
    config.pools[2].follow = true;
    std::reverse(config.pools.begin(), config.pools.end());  // the order in the file has no meaning
    World world(config);
    world.boot();
    for (const auto& address : some(world.config().pools[2], "pangyo", 2))
        world.behaviour[address] = Cause::kRefused;
    world.run(3s);
    CHECK(world.gate("pangyo", "pool0").admit == api::kAdmitNone);
    CHECK(world.gate("pangyo", "pool1").admit == api::kAdmitNone);
    CHECK(world.gate("pangyo", "pool1").keep);
    CHECK(world.gate("pangyo", "pool2").admit == api::kAdmitNone);  // a chain
    CHECK(world.gate("anyang", "pool1") == kOpen);
    world.behave("pangyo", Cause::kOk);
    world.run(5s);
    CHECK(admit(world, "pangyo", "pool1") > 0);
    CHECK(admit(world, "pangyo", "pool1") < 1);
    world.run(20s);
    CHECK(world.gate("pangyo", "pool1") == kOpen);
    CHECK(world.gate("pangyo", "pool2") == kOpen);
}

TEST_CASE("follow: it does not go back to a site where it has no backend of its own yet") {
    config::Config config = sample_config({.pools = 2});
    config.failover.max_dark_sites = 0;  // the site stays, whatever it answers
    config.pools[1].depends_on = {"pool0"};
    config.pools[1].follow = true;
    World world(config);
    world.boot();
    world.behave("pangyo", Cause::kRefused);
    world.run(3s);
    REQUIRE(world.gate("pangyo").admit == api::kAdmitAll);
    REQUIRE(world.gate("pangyo", "pool1").admit == api::kAdmitNone);
    for (const config::Backend& backend : config.pools[0].backends)
        if (backend.site == "pangyo") world.behaviour[backend.address] = Cause::kOk;
    world.run(5s);
    CHECK(world.gate("pangyo", "pool0") == kOpen);
    CHECK(world.gate("pangyo", "pool1").admit == api::kAdmitNone);
    world.behave("pangyo", Cause::kOk);
    world.run(5s);
    CHECK(world.gate("pangyo", "pool1") == kOpen);
}

TEST_CASE("a pool whose dependency is gone everywhere stays where it is, and says so") {
    config::Config config = sample_config({.pools = 2});
    config.pools[1].depends_on = {"pool0"};
    config.pools[1].follow = true;
    World world(config);
    world.boot();
    for (const config::Backend& backend : config.pools[0].backends)
        world.behaviour[backend.address] = Cause::kTimeout;
    world.run(10s);
    double taken = 0;
    for (const char* site : {"pangyo", "anyang", "chuncheon"}) taken += admit(world, site, "pool1");
    CHECK(taken >= 1);
    CHECK(world.log().find("pool1") != std::string::npos);
}

TEST_CASE("flapping raises the bar for coming back, and only that") {
    config::Config config = sample_config();
    config.failover.ramp = config::milliseconds{500};
    World world(config);
    world.boot();
    std::vector<double> away;  // seconds that each return took
    for (int flap = 0; flap < 4; ++flap) {
        world.behave("pangyo", Cause::kTimeout);
        world.run(2s);
        REQUIRE(world.gate("pangyo").admit == api::kAdmitNone);  // going dark is never delayed
        world.behave("pangyo", Cause::kOk);
        away.push_back(seconds_away(world, "pangyo"));
        world.run(2s);
    }
    CHECK(away[0] <= 1);
    CHECK(away[1] == doctest::Approx(10).epsilon(0.1));
    CHECK(away[2] == doctest::Approx(20).epsilon(0.1));
    CHECK(away[3] == doctest::Approx(40).epsilon(0.1));
}

TEST_CASE("a reload or another weight neither ends nor restarts the hold of a site that flaps") {
    config::Config config = sample_config();
    config.failover.ramp = config::milliseconds{500};
    World world(config);
    world.boot();
    for (int flap = 0; flap < 3; ++flap) {
        world.behave("pangyo", Cause::kTimeout);
        world.run(2s);
        REQUIRE(world.gate("pangyo").admit == api::kAdmitNone);
        world.behave("pangyo", Cause::kOk);
        if (flap < 2) (void)seconds_away(world, "pangyo");
    }
    world.run(15s);
    REQUIRE(world.gate("pangyo").admit == api::kAdmitNone);  // the third time: 20 s
    SUBCASE("a reload") {
        config.pools[0].backends[0].weight = 7;
        world.reload(config);
    }
    SUBCASE("a weight") {
        const std::string backend = config.pools[0].backends[0].address.to_string();
        REQUIRE(world.intend(failover::WeightRequest{backend, 7, 1h, "test", "somebody"}));
    }
    CHECK(world.gate("pangyo").admit == api::kAdmitNone);
    CHECK(world.verdict("pangyo") == Verdict::kRecovering);
    CHECK(seconds_away(world, "pangyo") == doctest::Approx(5).epsilon(0.2));
    // What it did before is remembered as well: the next time it waits twice as long.
    world.reload(config);
    world.behave("pangyo", Cause::kTimeout);
    world.run(2s);
    world.behave("pangyo", Cause::kOk);
    CHECK(seconds_away(world, "pangyo") == doctest::Approx(40).epsilon(0.1));
}

TEST_CASE("a restart does not forget how often a site has flapped") {
    config::Config config = sample_config();
    config.failover.ramp = config::milliseconds{500};
    World world(config);
    world.boot();
    for (int flap = 0; flap < 3; ++flap) {
        world.behave("pangyo", Cause::kTimeout);
        world.run(2s);
        if (flap == 2) world.restart_control();
        world.behave("pangyo", Cause::kOk);
        if (flap < 2) (void)seconds_away(world, "pangyo");
    }
    CHECK(seconds_away(world, "pangyo") == doctest::Approx(20).epsilon(0.1));
}

TEST_CASE("flapping every 3 s for 2 minutes moves the flows away once or twice, not twenty times") {
    World world(sample_config());
    world.boot();
    for (int half = 0; half < 40; ++half) {
        world.behave("pangyo", half % 2 == 0 ? Cause::kTimeout : Cause::kOk);
        world.run(3s);
    }
    int closed = 0;
    for (const Event& event : world.events) closed += event.kind == EventKind::kSwitch && event.to == "0";
    CHECK(closed <= 2);
    world.behave("pangyo", Cause::kOk);
    world.run(5s);
    CHECK(world.verdict("pangyo") == Verdict::kRecovering);
    world.run(60s);
    CHECK(world.gate("pangyo") == kOpen);
}

TEST_CASE("a flapping site that has become the last one is used at once") {
    World world(sample_config({.sites = {"pangyo", "anyang"}}));
    world.boot();
    for (int half = 0; half < 10; ++half) {
        world.behave("pangyo", half % 2 == 0 ? Cause::kTimeout : Cause::kOk);
        world.run(3s);
    }
    REQUIRE(world.gate("pangyo").admit == api::kAdmitNone);
    world.behave("anyang", Cause::kTimeout);
    CHECK(seconds_away(world, "pangyo") < 2);
}

TEST_CASE("a backend that flaps needs more answers in a row, reloads or not") {
    World world(sample_config({.backends = 4}));
    world.boot();
    bool reloads = false;
    SUBCASE("no reload") {}
    SUBCASE("a reload each time") {
        reloads = true;
    }
    const api::IpAddress bad = world.config().pools[0].backends[0].address;
    std::vector<nanoseconds> back;
    for (int flap = 0; flap < 8; ++flap) {
        world.behaviour[bad] = Cause::kRefused;
        world.run(2s);
        REQUIRE_FALSE(world.flags(bad).up);
        if (reloads) world.reload(world.config());
        world.behaviour[bad] = Cause::kOk;
        const auto start = world.time();
        while (!world.flags(bad).up && world.time() - start < 60s) world.run(50ms);
        back.push_back(world.time() - start);
    }
    CHECK(back.front() < 1s);
    CHECK(back.back() > 5 * back.front());
    CHECK(back.back() < 20s);
}

TEST_CASE("a dark site makes its neighbours suspect at once, and others not") {
    config::Config config = sample_config({.sites = {"pangyo-a", "pangyo-b", "anyang", "chuncheon"}});
    config.sites[0].domain = {"kr", "seongnam", "a"};
    config.sites[1].domain = {"kr", "seongnam", "b"};
    World world(config);
    world.boot();
    world.behave("pangyo-a", Cause::kTimeout);
    world.run(2s);
    std::vector<std::string> suspects;
    for (const Event& event : world.events) {
        if (event.kind == EventKind::kSuspect) suspects.push_back(event.site);
    }
    CHECK(suspects == std::vector<std::string>{"pangyo-a", "pangyo-b"});
    CHECK(world.verdict("pangyo-b") == Verdict::kHealthy);
    const auto domains = world.engine().snapshot(world.now()).domains;
    const auto seongnam = std::find_if(domains.begin(), domains.end(),
                                       [](const auto& domain) { return domain.path == "kr/seongnam"; });
    REQUIRE(seongnam != domains.end());
    CHECK(seongnam->verdict == Verdict::kDegraded);
    CHECK(seongnam->taking == 1);
}

TEST_CASE("a drain that the other sites have no room for is refused, unless it is forced") {
    config::Config config = sample_config({.sites = {"pangyo", "anyang"}, .pools = 2});
    for (config::Site& site : config.sites) site.capacity.new_flows = 1000;
    config.pools[0].priority = 1;
    World world(config);
    world.offered = {{"pool0", 600}, {"pool1", 800}};
    world.boot();
    world.run(20s);
    const auto refused = world.drain("pangyo");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == api::ErrorCode::kRefused);
    CHECK(refused.error().what.find("50 % of the new flows of pool pool1") != std::string::npos);
    CHECK(refused.error().what.find("pool0") == std::string::npos);
    CHECK(world.gate("pangyo") == kOpen);
    CHECK(world.drain("pangyo", 4h, true).has_value());
    world.run(1s);
    CHECK(world.gate("pangyo").admit == api::kAdmitNone);
    CHECK(world.pool("pool1").shed == doctest::Approx(0.5).epsilon(0.1));
    CHECK(world.site("anyang").full);
    world.offered = {{"pool0", 300}, {"pool1", 300}};
    world.run(30s);
    CHECK(world.pool("pool1").shed == 0);
    CHECK_FALSE(world.site("anyang").full);
}

TEST_CASE("what does not fit a site goes to the next tier, and comes back when there is room") {
    config::Config config = sample_config({.sites = {"pangyo", "chuncheon"}});
    config.sites[0].capacity.new_flows = 500;
    config.sites[1].tier = config::SiteTier::kHot;
    World world(config);
    world.offered = {{"pool0", 400}};
    world.boot();
    world.run(15s);
    CHECK(world.gate("pangyo", "pool0") == kOpen);
    world.offered = {{"pool0", 1000}};
    world.run(30s);
    CHECK(admit(world, "pangyo", "pool0") == doctest::Approx(0.5).epsilon(0.05));
    CHECK(world.gate("chuncheon", "pool0") == kOpen);
    CHECK(world.pool("pool0").shed == 0);
    world.offered = {{"pool0", 400}};
    world.run(30s);
    CHECK(world.gate("pangyo", "pool0") == kOpen);
    // A limit is in force all the time, and goes with the capacity.
    const api::SiteId id = world.site("pangyo").id;
    CHECK(world.fast.limits.at(id).per_second == 500);
    world.restart_control();
    world.run(2s);
    CHECK(world.fast.limits.at(id).per_second == 500);
    config.sites[0].capacity = {};
    world.reload(config);
    world.run(2s);
    CHECK_FALSE(world.fast.limits.at(id).per_second.has_value());
}

TEST_CASE("bytes count as flows do: a survivor that is full in Gbit/s passes the rest on to the next tier") {
    config::Config config = sample_config({.sites = {"pangyo", "anyang", "chuncheon"}});
    config.sites[1].capacity.gbps = 5;
    config.sites[2].tier = config::SiteTier::kHot;
    World world(config);
    world.offered = {{"pool0", 100}};
    world.offered_gbps = {{"pool0", 8}};
    world.boot();
    world.run(20s);
    CHECK(world.gate("anyang", "pool0") == kOpen);  // 4 of 8 Gbit/s
    CHECK_FALSE(world.site("anyang").full);
    world.behave("pangyo", Cause::kTimeout);
    world.run(5s);
    CHECK(world.site("anyang").full);
    CHECK(admit(world, "anyang", "pool0") == doctest::Approx(5.0 / 8).epsilon(0.05));
    CHECK(world.gate("chuncheon", "pool0") == kOpen);
    CHECK(world.pool("pool0").shed == 0);
    // The least important pool is shed when nothing has room.
    world.behave("chuncheon", Cause::kTimeout);
    world.run(5s);
    CHECK(world.pool("pool0").shed == doctest::Approx(3.0 / 8).epsilon(0.1));
}
