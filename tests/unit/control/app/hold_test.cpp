// A hold freezes what pools take at their sites: shares, room, and the single writer; also over a restart and
// a reload in the middle. What was seen meanwhile counts when it ends.
#include "tests/unit/control/app/world.h"

using namespace detour;
using namespace detour::test;

namespace {

const Gate kOpen{};

void hold(World& world) {
    REQUIRE(world.intend(failover::HoldRequest{1h, "storm", "kim", false}).has_value());
}
void release(World& world) {
    REQUIRE(world.intend(failover::ReleaseRequest{"kim"}).has_value());
}

double admit(World& world, const std::string& site, const std::string& pool = "pool0") {
    return static_cast<double>(world.gate(site, pool).admit.value()) / 65535;
}

std::vector<std::string> goes_to(World& world) {
    std::vector<std::string> sites;
    for (const config::Site& site : world.config().sites) {
        if (admit(world, site.name) > 0) sites.push_back(site.name);
    }
    return sites;
}
using Sites = std::vector<std::string>;

/// Two sites with room for 600 and 2,000 new flows a second; the pool offers `offered`.
config::Config room_config() {
    config::Config config = sample_config({.sites = {"pangyo", "anyang"}});
    config.sites[0].capacity.new_flows = 600;
    config.sites[1].capacity.new_flows = 2000;
    return config;
}

/// What the fast path was told, and nothing else, since `before`.
struct Told {
    explicit Told(const World& world)
        : sites(world.fast.sites), backends(world.fast.backends), limits(world.fast.limits) {}
    void check_same(const World& world) const {
        CHECK(world.fast.sites == sites);
        CHECK(world.fast.backends == backends);
        CHECK(world.fast.limits == limits);
    }
    decltype(FakeFastPath::sites) sites;
    decltype(FakeFastPath::backends) backends;
    decltype(FakeFastPath::limits) limits;
};

}  // namespace

TEST_CASE("under a hold a pool with one writer does not follow its data, also over a restart") {
    World world(writer_config());
    world.primaries = {"pangyo"};
    world.boot();
    REQUIRE(goes_to(world) == Sites{"pangyo"});
    hold(world);
    const Told told(world);
    world.primaries = {"anyang"};
    world.run(10s);
    told.check_same(world);
    world.restart_control();
    world.run(10s);
    CAPTURE(world.log());
    CHECK(goes_to(world) == Sites{"pangyo"});
    told.check_same(world);
    release(world);
    world.run(2s);
    CHECK(goes_to(world) == Sites{"anyang"});
}

TEST_CASE("under a hold a reload opens no second site for a pool with one writer") {
    config::Config whole = writer_config({.sites = {"pangyo", "anyang", "chuncheon"}});
    config::Config small = whole;
    std::erase_if(small.pools[0].backends, [](const auto& backend) { return backend.site == "chuncheon"; });
    World world(small);
    world.primaries = {"pangyo"};
    world.boot();
    hold(world);
    world.reload(whole);
    world.run(10s);
    CHECK(goes_to(world) == Sites{"pangyo"});
    config::Config more = whole;
    config::Pool other = writer_config({.pools = 2}).pools[1];
    other.data = whole.pools[0].data;
    other.ready = whole.pools[0].ready;
    more.pools.push_back(other);
    world.reload(more);  // a whole pool of that kind: nobody has said yet where its data is
    world.run(10s);
    for (const char* site : {"pangyo", "anyang", "chuncheon"}) CHECK(admit(world, site, "pool1") == 0);
    release(world);
    world.run(3s);
    CHECK(admit(world, "pangyo", "pool1") == 1);
    CHECK(goes_to(world) == Sites{"pangyo"});
}

TEST_CASE("under a hold shares do not follow the healthy, also over a restart") {
    World world(sample_config({.backends = 5}));
    world.boot();
    hold(world);
    const Told told(world);
    for (std::uint8_t i = 0; i < 4; ++i) world.behaviour[backend_address(0, 0, i)] = Cause::kTimeout;
    world.run(20s);
    told.check_same(world);
    world.restart_control();
    world.run(20s);
    told.check_same(world);
    CHECK(world.gate("pangyo", "pool0") == kOpen);
    release(world);
    world.run(2s);
    CHECK(admit(world, "pangyo") < 0.5);
}

TEST_CASE(
    "under a hold no room is given out anew, and what a full site was left stays, also over a restart") {
    World world(room_config());
    world.offered = {{"pool0", 1800}};
    world.boot();
    world.run(20s);
    const double spilled = admit(world, "pangyo");
    REQUIRE(spilled < 0.9);
    REQUIRE(spilled > 0.3);
    hold(world);
    const Told told(world);
    world.offered = {{"pool0", 300}};
    world.run(30s);
    told.check_same(world);
    world.restart_control();
    world.run(60s);
    told.check_same(world);
    release(world);
    world.run(10s);
    CHECK(world.gate("pangyo", "pool0") == kOpen);
}

TEST_CASE("under a hold a followed pool keeps its followers where they are") {
    config::Config config = sample_config({.pools = 2});
    config.pools[1].depends_on = {"pool0"};
    config.pools[1].follow = true;
    World world(config);
    world.boot();
    hold(world);
    const Told told(world);
    for (const auto& backend : config.pools[0].backends) {
        if (backend.site == "pangyo") world.behaviour[backend.address] = Cause::kRefused;
    }
    world.run(20s);
    told.check_same(world);
    release(world);
    world.run(2s);
    CHECK(admit(world, "pangyo", "pool0") == 0);
    CHECK(admit(world, "pangyo", "pool1") == 0);
}

TEST_CASE("under a hold BFD takes nothing away, and what it saw counts when the hold ends") {
    config::Config config = sample_config();
    config.sites[0].bfd.resize(1);
    config.sites[0].bfd[0].address = ip("10.1.0.1");
    World world(config);
    world.boot();
    world.bfd("pangyo", 0, failover::BfdPath::kUp);
    hold(world);
    const Told told(world);
    world.behave("pangyo", Cause::kTimeout);
    world.bfd("pangyo", 0, failover::BfdPath::kDown);
    world.run(10s);
    told.check_same(world);
    release(world);
    world.run(1s);
    CHECK(world.gate("pangyo").admit == api::kAdmitNone);
}

TEST_CASE("under a hold clients that don't get through move nobody, and a trickle stays what it is") {
    World world(sample_config());
    world.boot();
    for (const config::Site& site : world.config().sites) world.clients[site.name] = {10, 1};
    world.run(2s);
    hold(world);
    const Told told(world);
    world.clients["pangyo"] = {10, 0};
    world.run(10s);
    told.check_same(world);
    CHECK(world.site("pangyo").reason.find("hold") != std::string::npos);
    release(world);
    world.run(2s);
    const Gate trickle = world.gate("pangyo");
    REQUIRE(trickle.admit == failover::kRampFloor);
    hold(world);
    world.clients["pangyo"] = {10, 1};
    world.run(30s);
    CHECK(world.gate("pangyo").admit == trickle.admit);
    world.behave("pangyo", Cause::kTimeout);
    world.run(10s);
    CHECK(world.gate("pangyo").admit == trickle.admit);
    world.behave("pangyo", Cause::kOk);
    world.run(10s);
    release(world);
    world.run(15s);
    CHECK(world.gate("pangyo") == kOpen);
}
