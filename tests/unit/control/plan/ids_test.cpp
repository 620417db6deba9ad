#include "control/plan/ids.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "control/plan/plan.h"
#include "dataplane/api/limits.h"
#include "tests/unit/control/sample_config.h"

using namespace detour;
using namespace detour::plan;

namespace {

constexpr api::Generation gen(std::uint64_t value) {
    return api::Generation{value};
}

void assign(Ids& ids, const config::Config& config, std::uint64_t generation, std::uint64_t scanned = 0) {
    const auto result = ids.assign(config, gen(generation), gen(scanned));
    REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().to_string()));
}

void shuffle(config::Config& config, std::mt19937_64& random) {
    std::shuffle(config.sites.begin(), config.sites.end(), random);
    std::shuffle(config.pools.begin(), config.pools.end(), random);
    for (config::Pool& pool : config.pools) {
        std::shuffle(pool.vips.begin(), pool.vips.end(), random);
        std::shuffle(pool.backends.begin(), pool.backends.end(), random);
    }
}

}  // namespace

TEST_CASE("reordering sites, pools, VIPs and backends changes no id, now or at the first start") {
    config::Config config = test::sample_config({.pools = 20, .backends = 3});
    config.pools[3].vips.push_back(test::vip("203.9.9.9:80/tcp"));
    Ids ids;
    assign(ids, config, 1);
    std::mt19937_64 random(7);
    for (int i = 0; i < 50; ++i) {
        shuffle(config, random);
        Ids again = ids;
        assign(again, config, 2);
        CHECK(again == ids);
        Ids fresh;
        assign(fresh, config, 1);
        CHECK(fresh == ids);
    }
}

TEST_CASE("renaming a pool keeps its id, its VIPs' and its backends'") {
    config::Config config = test::sample_config({.pools = 3});
    Ids ids;
    assign(ids, config, 1);
    const api::PoolId before = ids.pool("pool1");
    const auto backends = ids.backends.used;
    config.pools[1].name = "aaa";
    assign(ids, config, 2);
    CHECK(ids.pool("aaa") == before);
    CHECK(ids.backends.used == backends);
    CHECK(ids.pools.retired.empty());
}

TEST_CASE("renaming a site keeps its id as long as its key stays") {
    config::Config config = test::sample_config();
    Ids ids;
    assign(ids, config, 1);
    config.sites[0].name = "pangyo-2";
    assign(ids, config, 2);
    CHECK(ids.sites.retired.empty());
}

TEST_CASE("a pool that is split or loses VIPs keeps the id where most of them are") {
    config::Config config = test::sample_config({.pools = 1});
    config.pools[0].vips = {test::vip("203.0.1.1:1/tcp"), test::vip("203.0.1.1:2/tcp"),
                            test::vip("203.0.1.1:3/tcp")};
    Ids ids;
    assign(ids, config, 1);
    const api::PoolId id = ids.pool("pool0");

    config::Pool second = config.pools[0];
    second.name = "a-second";
    second.vips = {test::vip("203.0.1.1:1/tcp")};
    config.pools[0].vips.erase(config.pools[0].vips.begin());
    config.pools.push_back(second);
    assign(ids, config, 2);
    CHECK(ids.pool("pool0") == id);
    CHECK(ids.pool("a-second") != id);

    std::swap(config.pools[0].name, config.pools[1].name);
    assign(ids, config, 3);
    CHECK(ids.pool("a-second") == id);  // it has those VIPs now
}

TEST_CASE("a removed backend's id goes to nobody else before every worker has scanned") {
    config::Config config = test::sample_config({.pools = 1, .backends = 1});
    Ids ids;
    assign(ids, config, 1);
    // All other backend ids are used up.
    ids.backends.next = api::kMaxBackends;
    const api::IpAddress gone = config.pools[0].backends[0].address;
    const api::BackendId id = ids.backend(ids.pool("pool0"), gone);
    config.pools[0].backends.erase(config.pools[0].backends.begin());
    assign(ids, config, 5);

    config.pools[0].backends.push_back({"pangyo", test::ip("10.9.9.9"), 100, {}});
    Ids early = ids;
    const auto refused = early.assign(config, gen(6), gen(4));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == api::ErrorCode::kLimit);
    Ids late = ids;
    assign(late, config, 6, 5);
    CHECK(late.backend(late.pool("pool0"), test::ip("10.9.9.9")) == id);
}

TEST_CASE("a name that comes back gets its own id again") {
    config::Config config = test::sample_config({.pools = 2, .backends = 2});
    Ids ids;
    assign(ids, config, 1);
    const Ids before = ids;
    config::Config smaller = config;
    smaller.pools.pop_back();
    smaller.sites.pop_back();
    std::erase_if(smaller.pools[0].backends,
                  [&](const auto& backend) { return backend.site == "chuncheon"; });
    assign(ids, smaller, 2);
    CHECK(ids.backends.used.size() == 4);
    assign(ids, config, 3);
    CHECK(ids == before);
}

TEST_CASE("never-used ids go first") {
    config::Config config = test::sample_config({.pools = 1, .backends = 1});
    Ids ids;
    assign(ids, config, 1);
    config.pools[0].backends[0].address = test::ip("10.9.9.9");
    assign(ids, config, 2, 99);
    CHECK(ids.backend(ids.pool("pool0"), test::ip("10.9.9.9")).value() == 3);
}

TEST_CASE("an id that the fast path uses for something else is the fast path's") {
    const config::Config config = test::sample_config({.pools = 2, .backends = 2});
    Ids theirs;
    config::Config other = config;
    std::reverse(other.pools.begin(), other.pools.end());
    other.pools[0].vips = {test::vip("198.18.0.1:443/tcp")};
    assign(theirs, other, 1);
    const auto plan = make_plan(other, theirs, {}, gen(9));
    REQUIRE(plan.has_value());

    Ids ours;
    assign(ours, config, 1);
    ours.adopt(*plan);
    assign(ours, config, 10);
    for (const auto& [name, id] : theirs.vips.used) {
        if (ours.vips.used.contains(name)) CHECK(ours.vip(name) == id);
    }
    std::set<api::BackendId> all;
    for (const auto& [key, id] : ours.backends.used) all.insert(id);
    CHECK(all.size() == ours.backends.used.size());
    for (const auto& [key, id] : theirs.backends.used) {
        for (const auto& [other_key, other_id] : ours.backends.used) {
            if (id == other_id) CHECK(key == other_key);
        }
    }
}

TEST_CASE("in random histories no id ever has two owners, nor a new one while flows of the old may live") {
    const std::uint64_t seed = 20260501;
    MESSAGE("seed " << seed);
    std::mt19937_64 random(seed);
    config::Config config = test::sample_config({.pools = 4, .backends = 3});
    Ids ids;
    assign(ids, config, 1);
    ids.backends.next = api::kMaxBackends - 8;  // so that ids have to be reused
    std::map<api::BackendId, std::pair<BackendKey, std::uint64_t>>
        last_owner;  // and the last generation it was in
    std::uint64_t scanned = 0;
    int refusals = 0;
    for (std::uint64_t generation = 2; generation < 3000; ++generation) {
        config::Config next = config;
        config::Pool& pool = next.pools[random() % next.pools.size()];
        config::Backend& backend = pool.backends[random() % pool.backends.size()];
        backend.address = test::backend_address(15, 0, static_cast<unsigned>(random() % 200));
        const auto same = std::count_if(pool.backends.begin(), pool.backends.end(),
                                        [&](const auto& other) { return other.address == backend.address; });
        if (same > 1) continue;
        if (random() % 3 == 0)
            scanned = generation - 1 - random() % std::min<std::uint64_t>(generation - 1, 20);
        Ids copy = ids;
        if (!copy.assign(next, gen(generation), gen(scanned))) {
            ++refusals;
            continue;
        }
        ids = copy;
        config = next;
        std::set<api::BackendId> now;
        for (const auto& [key, id] : ids.backends.used) {
            CHECK(now.insert(id).second);
            const auto before = last_owner.find(id);
            if (before != last_owner.end() && before->second.first != key)
                CHECK(before->second.second < scanned);
            last_owner[id] = {key, generation};
        }
    }
    CHECK(refusals > 0);
    CHECK(refusals < 2900);
}
