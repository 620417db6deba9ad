// Sites, pools and backends that fail and come back, seen at the fast path.
#include <time.h>

#include <utility>

#include "tests/unit/control/app/world.h"

using namespace detour;
using namespace detour::test;
using failover::Verdict;

namespace {

constexpr Gate kOpen{};
constexpr Gate kDark{api::kAdmitNone, api::kAdmitAll, true};
constexpr Gate kStranded{api::kAdmitNone, api::kAdmitNone, false};

bool closed(const Gate& gate) {
    return gate.admit == api::kAdmitNone;
}
bool stranded(const Gate& gate) {
    return !gate.keep;
}
bool open(const Gate& gate) {
    return gate == kOpen;
}

}  // namespace

TEST_CASE("power cut: the site's switch within interval + 2 timeouts, the second store after strand_after") {
    for (const unsigned pools : {1U, 50U}) {
        CAPTURE(pools);
        World world(sample_config({.pools = pools}));
        world.boot();
        CHECK(world.verdict("pangyo") == Verdict::kHealthy);
        world.behave("pangyo", Cause::kTimeout);
        const auto to_dark = world.run_until_gate("pangyo", closed, 5s);
        CHECK(to_dark <= 200ms + 200ms + 50ms + 200ms + 2ms);
        CHECK(world.gate("pangyo") == kDark);
        CHECK(world.verdict("pangyo") == Verdict::kDark);
        const auto to_strand = world.run_until_gate("pangyo", stranded, 5s);
        CHECK(to_strand >= 1990ms);
        CHECK(to_strand <= 2010ms);
        world.run(30s);
        CHECK(world.gate("pangyo") == kStranded);
        // Whatever the number of pools: these two stores and no other.
        CHECK(world.fast.site_stores == 2);
        CHECK(world.fast.backend_stores == 0);
        CHECK(world.fast.plans == 0);
        CHECK(world.gate("anyang") == kOpen);
        CHECK(world.gate("chuncheon") == kOpen);
    }
}

TEST_CASE("a backend that answers 503 keeps its flows; one that is silent or refuses strands them") {
    for (const Cause after : {Cause::kTimeout, Cause::kRefused}) {
        World world(sample_config());
        world.boot();
        world.run(2s);
        const api::IpAddress leaving = world.config().pools[0].backends[0].address;
        world.behaviour[leaving] = Cause::kBadStatus;
        world.run(10s);
        CHECK(world.flags(leaving) == app::BackendFlags{false, true});
        world.behaviour[leaving] = after;
        world.run(1500ms);
        CHECK(world.flags(leaving).keep);
        world.run(1500ms);
        CHECK_FALSE(world.flags(leaving).keep);
    }
}

TEST_CASE("a site whose servers all answer badly keeps its flows while they do") {
    World world(sample_config());
    world.boot();
    world.run(2s);
    world.behave("pangyo", Cause::kBadStatus);
    world.run(10s);
    CHECK(world.gate("pangyo") == kDark);
    world.behave("pangyo", Cause::kTimeout);
    world.run(3s);
    CHECK(world.gate("pangyo") == kStranded);
}

TEST_CASE("a blackhole of one second strands nobody and comes back by a ramp that only grows") {
    World world(sample_config({.pools = 3}));
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run(1s);
    CHECK(world.gate("pangyo") == kDark);
    world.behave("pangyo", Cause::kOk);
    api::Admit last = api::kAdmitNone;
    bool done = false;
    for (int i = 0; i < 1200 && !done; ++i) {
        world.run(10ms);
        const Gate gate = world.gate("pangyo");
        CHECK(gate.keep);
        CHECK(gate.admit >= last);
        if (gate.admit > api::kAdmitNone && gate.admit < api::kAdmitAll)
            CHECK(gate.admit_mid == api::kAdmitNone);
        last = gate.admit;
        done = gate == kOpen;
    }
    CHECK(done);
    CHECK(world.count(EventKind::kStrand) == 0);
    CHECK(world.count(EventKind::kRampStarted) == 1);
    CHECK(world.count(EventKind::kRampDone) == 1);
    CHECK(world.fast.site_stores < 60);  // at most four a second
    CHECK(world.verdict("pangyo") == Verdict::kHealthy);
}

TEST_CASE("established flows stay as long as their ACKs advance") {
    World world(sample_config());
    world.boot();
    world.acks["pangyo"] = true;
    world.behave("pangyo", Cause::kTimeout);
    world.run(20s);
    CHECK(world.gate("pangyo") == kDark);
    world.acks["pangyo"] = false;
    const auto quiet = world.run_until_gate("pangyo", stranded, 5s);
    CHECK(quiet > 1800ms);
    CHECK(quiet <= 2110ms);
}

TEST_CASE("without readings of the fast path's counters the strand waits twice as long") {
    World world(sample_config());
    world.boot();
    world.signals = false;
    world.behave("pangyo", Cause::kTimeout);
    world.run_until_gate("pangyo", closed, 5s);
    CHECK(world.run_until_gate("pangyo", stranded, 10s) >= 3990ms);
}

TEST_CASE("dark for longer than auto_return_within is held until undrained") {
    config::Config config = sample_config();
    config.failover.auto_return_within = 30s;
    World world(config);
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run(40s);
    world.behave("pangyo", Cause::kOk);
    world.run(60s);
    CHECK(world.verdict("pangyo") == Verdict::kRecovering);
    CHECK(world.site("pangyo").held);
    CHECK(closed(world.gate("pangyo")));
    CHECK(world.gate("pangyo").keep);
    REQUIRE(world.undrain("pangyo").has_value());
    CHECK_FALSE(closed(world.gate("pangyo")));
    world.run_until_gate("pangyo", open, 11s);
}

TEST_CASE("a held site takes the traffic the moment a pool has no other site") {
    config::Config config = sample_config();
    config.failover.auto_return_within = 30s;
    World world(config);
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run(40s);
    world.behave("pangyo", Cause::kOk);
    world.run(5s);
    CHECK(world.site("pangyo").held);
    world.behave("anyang", Cause::kTimeout);
    world.run(5s);
    CHECK(world.site("pangyo").held);  // chuncheon still takes it
    world.behave("chuncheon", Cause::kTimeout);
    world.run_until_gate("chuncheon", closed, 5s);
    CHECK_FALSE(closed(world.gate("pangyo")));
}

TEST_CASE("everything silent at once: in the end nothing is switched, and nothing when it comes back") {
    World world(sample_config({.pools = 2}));
    world.boot();
    for (const char* site : {"pangyo", "anyang", "chuncheon"}) world.behave(site, Cause::kTimeout);
    world.run(30s);
    CAPTURE(world.log());
    for (const char* site : {"pangyo", "anyang", "chuncheon"}) {
        CHECK(world.gate(site) == kOpen);
        CHECK(world.verdict(site) == Verdict::kSuspect);
    }
    for (const config::Pool& pool : world.config().pools) {
        for (const auto& backend : pool.backends)
            CHECK(world.flags(backend.address) == app::BackendFlags{true, true});
    }
    CHECK(world.engine().snapshot(world.now()).fail_static);
    const int stores = world.fast.site_stores;
    for (const char* site : {"chuncheon", "pangyo", "anyang"}) world.behave(site, Cause::kOk);
    world.run(5s);
    CHECK(world.fast.site_stores == stores);
    CHECK_FALSE(world.engine().snapshot(world.now()).fail_static);
    for (const char* site : {"pangyo", "anyang", "chuncheon"})
        CHECK(world.verdict(site) == Verdict::kHealthy);
}

TEST_CASE("everything silent while one site was dark before: that one stays dark") {
    World world(sample_config());
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run(60s);
    for (const char* site : {"anyang", "chuncheon"}) world.behave(site, Cause::kTimeout);
    world.run(30s);
    CHECK(closed(world.gate("pangyo")));
    CHECK(world.gate("anyang") == kOpen);
    CHECK(world.gate("chuncheon") == kOpen);
}

TEST_CASE("after everything was silent and one site answers again, the others go dark by fresh misses") {
    World world(sample_config());
    world.boot();
    for (const char* site : {"pangyo", "anyang", "chuncheon"}) world.behave(site, Cause::kTimeout);
    world.run(10s);
    world.behave("anyang", Cause::kOk);
    world.run(2s);
    CHECK(world.gate("anyang") == kOpen);
    CHECK(closed(world.gate("pangyo")));
    CHECK(closed(world.gate("chuncheon")));
}

TEST_CASE("answering badly takes away at most max_dark_sites, silence takes all but the last") {
    World world(sample_config());
    world.boot();
    world.behave("pangyo", Cause::kRefused);
    world.behave("anyang", Cause::kBadStatus);
    world.run(5s);
    const int away = closed(world.gate("pangyo")) + closed(world.gate("anyang"));
    CHECK(away == 1);
    const std::string left = closed(world.gate("pangyo")) ? "anyang" : "pangyo";
    CHECK(world.verdict(left) == Verdict::kDegraded);
    CHECK(world.site(left).reason.find("max_dark_sites = 1") != std::string::npos);
    CHECK(world.gate(left, "pool0") == kOpen);  // not by way of its pools either
    CHECK(world.count(EventKind::kAlarm) > 0);
    world.behave(left, Cause::kTimeout);  // now it is unreachable
    world.run(5s);
    CHECK(closed(world.gate(left)));
    CHECK(world.gate("chuncheon") == kOpen);
}

TEST_CASE("answering badly never leaves a pool below min_sites") {
    config::Config config = sample_config();
    config.pools[0].min_sites = 3;
    config.failover.max_dark_sites = 5;
    World world(config);
    world.boot();
    world.behave("pangyo", Cause::kRefused);
    world.run(5s);
    CHECK(world.gate("pangyo") == kOpen);
    CHECK(world.site("pangyo").reason.find("min_sites = 3") != std::string::npos);
}

TEST_CASE("one backend down: it alone is passed over, then let go, and taken back") {
    World world(sample_config({.pools = 2, .backends = 4}));  // three of four, and 40 % spare: no share moves
    world.boot();
    const api::IpAddress dead = world.config().pools[1].backends[0].address;
    world.behaviour[dead] = Cause::kTimeout;
    world.run(1s);
    CHECK(world.flags(dead) == app::BackendFlags{false, true});
    CHECK(world.verdict("pangyo") == Verdict::kDegraded);
    world.run(3s);
    CHECK(world.flags(dead) == app::BackendFlags{false, false});
    CHECK(world.fast.site_stores == 0);
    CHECK(world.fast.backend_stores == 2);
    world.behaviour[dead] = Cause::kOk;
    world.run(1s);
    CHECK(world.flags(dead) == app::BackendFlags{true, true});
    CHECK(world.verdict("pangyo") == Verdict::kHealthy);
}

TEST_CASE("a pool that is down in a live site leaves it, and alone") {
    World world(sample_config({.pools = 2}));
    world.boot();
    const config::Pool& pool = world.config().pools[0];
    for (const auto& backend : pool.backends) {
        if (backend.site == "pangyo") world.behaviour[backend.address] = Cause::kRefused;
    }
    world.run(2s);
    CHECK(closed(world.gate("pangyo", "pool0")));
    CHECK(world.gate("pangyo", "pool1") == kOpen);
    CHECK(world.gate("pangyo") == kOpen);
    CHECK(world.verdict("pangyo") == Verdict::kDegraded);
    world.behave("pangyo", Cause::kOk);
    world.run(12s);
    CHECK(world.gate("pangyo", "pool0") == kOpen);
}

TEST_CASE("a pool that is down everywhere is left where it is") {
    World world(sample_config({.pools = 2}));
    world.boot();
    for (const auto& backend : world.config().pools[0].backends)
        world.behaviour[backend.address] = Cause::kRefused;
    world.run(10s);
    int admitted = 0;
    for (const char* site : {"pangyo", "anyang", "chuncheon"}) {
        CHECK(world.gate(site) == kOpen);
        if (closed(world.gate(site, "pool0"))) continue;
        ++admitted;
        for (const auto& backend : world.config().pools[0].backends) {
            if (backend.site == site) CHECK(world.flags(backend.address).up);
        }
    }
    CHECK(admitted >= 1);
}

TEST_CASE("pools that rehash let their flows go at the verdict, the others wait for the strand") {
    config::Config config = sample_config({.pools = 2});
    config.pools[1].stranded = api::Stranded::kRehash;
    World world(config);
    world.boot();
    world.behave("pangyo", Cause::kTimeout);
    world.run_until_gate("pangyo", closed, 5s);
    CHECK(world.gate("pangyo", "pool0").keep);
    CHECK_FALSE(world.gate("pangyo", "pool1").keep);
    CHECK(world.fast.site_stores == 2);
    world.behave("pangyo", Cause::kOk);
    world.run(2s);
    CHECK(world.gate("pangyo", "pool1").keep);
}

TEST_CASE("a large site is dark by its burst of 16, without waiting for all its backends") {
    config::Config config = sample_config({.pools = 40, .backends = 5});
    for (config::Pool& pool : config.pools) {
        pool.health.interval = 5s;
        pool.health.fast_interval = 50ms;
    }
    World world(config);
    world.boot();
    world.run(20s);
    world.behave("pangyo", Cause::kTimeout);
    CHECK(world.run_until_gate("pangyo", closed, 5s) < 700ms);
    world.behave("pangyo", Cause::kOk);
    world.run(30s);
    CHECK(world.gate("pangyo") == kOpen);
    CHECK(world.verdict("pangyo") == Verdict::kHealthy);
}

TEST_CASE("one lost probe answer darkens nothing and switches nothing") {
    World world(sample_config({.pools = 2}));
    world.boot();
    for (int i = 0; i < 20; ++i) {
        const auto& backends = world.config().pools[0].backends;
        const api::IpAddress address = backends[static_cast<std::size_t>(i) % backends.size()].address;
        world.behaviour[address] = Cause::kTimeout;
        world.run(200ms);
        world.behaviour[address] = Cause::kOk;
        world.run(1s);
    }
    CHECK(world.count(EventKind::kSuspect) > 5);
    CHECK(world.fast.site_stores == 0);
    for (const char* site : {"pangyo", "anyang", "chuncheon"})
        CHECK(world.verdict(site) == Verdict::kHealthy);
}

TEST_CASE("probes are spread over the interval and never more than a few wait for one backend") {
    config::Config config = sample_config({.pools = 50, .backends = 4});
    for (config::Pool& pool : config.pools) pool.health.interval = 1s;
    World world(config);
    world.boot();
    std::map<std::int64_t, int> per_slice;  // of 50 ms
    app::Engine engine(config, {}, {}, world.now());
    auto actions = engine.start(world.now());
    std::size_t total = 0;
    for (int i = 0; i < 200; ++i) {
        const health::Now now{{world.time() + i * 5ms}, {world.time()}};
        actions = engine.on_tick(now);
        per_slice[i / 10] += static_cast<int>(actions.probes.size());
        total += actions.probes.size();
    }
    CHECK(total >= 590);
    CHECK(total <= 601);
    for (const auto& [slice, count] : per_slice) CHECK(count < 70);  // 30 on average
}

TEST_CASE("return_threshold: between the two thresholds a site stays what it is") {
    config::Config config = sample_config({.backends = 5});
    config.failover.dark_threshold = 0.2;
    config.failover.return_threshold = 0.6;
    World world(config);
    world.boot();
    const auto answering = [&](unsigned count) {
        for (unsigned i = 0; i < 5; ++i)
            world.behaviour[backend_address(0, 0, i)] = i < count ? Cause::kOk : Cause::kBadStatus;
        world.run(5s);
    };
    answering(2);
    CHECK(world.gate("pangyo").admit > api::kAdmitNone);
    answering(1);
    CHECK(world.gate("pangyo") == kDark);
    for (const unsigned count : {2U, 3U, 1U, 3U}) {
        answering(count);
        CAPTURE(count);
        CHECK(world.verdict("pangyo") == Verdict::kDark);
    }
    answering(4);
    CHECK(world.verdict("pangyo") != Verdict::kDark);
    world.run(30s);
    answering(3);
    CHECK(world.gate("pangyo").admit > api::kAdmitNone);
}

TEST_CASE("dark_threshold: a site with too few backends left is dark, and comes back with one more") {
    config::Config config = sample_config({.backends = 4});
    config.failover.dark_threshold = 0.5;
    World world(config);
    world.boot();
    const auto& backends = world.config().pools[0].backends;
    world.behaviour[backends[0].address] = Cause::kRefused;
    world.run(2s);
    CHECK(world.gate("pangyo") == kOpen);
    world.behaviour[backends[1].address] = Cause::kRefused;
    world.run(2s);
    CHECK(closed(world.gate("pangyo")));
    world.run(10s);
    CHECK(world.gate("pangyo").keep);  // two of its backends answer: nobody is stranded
    world.behaviour[backends[1].address] = Cause::kOk;
    world.run(2s);
    CHECK_FALSE(closed(world.gate("pangyo")));
}

TEST_CASE("10,000 backends probed each second cost the engine a small part of a core") {
    Shape shape;
    shape.sites.clear();
    for (int i = 0; i < 16; ++i) shape.sites.push_back("site" + std::to_string(i));
    shape.pools = 1000;
    shape.backends = 1;
    config::Config config = sample_config(shape);
    for (config::Pool& pool : config.pools) {
        pool.backends.resize(10);
        pool.health.interval = 1s;
    }
    app::Engine engine(config, {}, {}, {{1000s}, {1000s}});
    std::vector<health::ProbeRequest> asked = engine.start({{1000s}, {1000s}}).probes;
    timespec before{}, after{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    std::size_t answered = 0;
    for (int ms = 0; ms < 3000; ++ms) {
        const health::Now now{{1000s + ms * 1ms}, {1000s + ms * 1ms}};
        std::vector<health::ProbeRequest> next = engine.on_tick(now).probes;
        for (const health::ProbeRequest& probe : std::exchange(asked, {})) {
            ++answered;
            for (const auto& more : engine.on_probe(probe.serial, {Cause::kOk, 0, 1ms}, now).probes)
                next.push_back(more);
        }
        asked = std::move(next);
    }
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    const double used = static_cast<double>(after.tv_sec - before.tv_sec) +
                        static_cast<double>(after.tv_nsec - before.tv_nsec) * 1e-9;
    MESSAGE(answered << " results, " << used / 3 << " of a core");
    CHECK(answered > 29'000);
    CHECK(used / 3 < 0.5);
}
