// Intents: stamps, merging, weights.
#include "control/failover/intents.h"

#include <doctest/doctest.h>

#include <random>
#include <string>

#include "tests/support/random_seed.h"
#include "tests/unit/control/sample_config.h"

using namespace detour;
using namespace detour::failover;
using namespace std::chrono_literals;

namespace {

health::WallTime at(int second) {
    return {std::chrono::seconds{second}};
}

Drain drain_of(const std::string& site, int second, const std::string& pop = "icn1") {
    Drain drain;
    drain.target.site = site;
    drain.since = at(second);
    drain.until = at(1000);
    drain.stamp = {at(second), pop};
    return drain;
}

Intents sorted(Intents intents) {
    std::sort(intents.drains.begin(), intents.drains.end(),
              [](const Drain& a, const Drain& b) { return key_of(a) < key_of(b); });
    std::sort(intents.removed.begin(), intents.removed.end(),
              [](const Removed& a, const Removed& b) { return a.key < b.key; });
    return intents;
}

/// What one of three hosts might hold: drains of four sites, given and taken back at some time.
Intents some_intents(std::mt19937_64& random) {
    Intents result;
    for (int site = 0; site < 4; ++site) {
        const auto second = static_cast<int>(random() % 5 + 1);
        Drain drain = drain_of("site" + std::to_string(site), second, random() % 2 == 0 ? "icn1" : "nrt1");
        drain.reason = drain.stamp.pop + std::to_string(second);  // one stamp, one content
        if (random() % 3 == 0) continue;
        if (random() % 3 == 0) {
            drain.stamp.at = drain.stamp.at + 1ms;
            result.removed.push_back({key_of(drain), drain.until, drain.stamp});
        } else {
            put(result, drain);
        }
    }
    return result;
}

}  // namespace

TEST_CASE("merging hosts' intents gives the same in every order, and again changes nothing") {
    const std::uint64_t seed = support::random_seed();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    for (int round = 0; round < 2000; ++round) {
        const Intents a = some_intents(random);
        const Intents b = some_intents(random);
        const Intents c = some_intents(random);
        const Intents ab = merge(a, b, at(10));
        CHECK(sorted(ab) == sorted(merge(b, a, at(10))));
        CHECK(sorted(merge(ab, c, at(10))) == sorted(merge(a, merge(b, c, at(10)), at(10))));
        CHECK(sorted(merge(ab, b, at(10))) == sorted(ab));
        CHECK(sorted(merge(ab, a, at(10))) == sorted(ab));
    }
}

TEST_CASE("what was taken back does not come back from a host that has not heard of it") {
    Intents mine;
    put(mine, drain_of("pangyo", 1));
    const Intents theirs = mine;
    REQUIRE(take_back(mine, key_of(theirs.drains[0]), next_stamp(mine, "icn1", at(0))));
    CHECK_FALSE(take_back(mine, key_of(theirs.drains[0]), next_stamp(mine, "icn1", at(0))));
    const Intents merged = merge(mine, theirs, at(10));
    CHECK(merged.drains.empty());
    CHECK(merge(theirs, mine, at(10)).drains.empty());
    SUBCASE("a newer drain does") {
        Intents newer;
        put(newer, drain_of("pangyo", 5));
        CHECK(merge(merged, newer, at(10)).drains.size() == 1);
        CHECK(merge(merged, newer, at(10)).removed.empty());
    }
    SUBCASE("and what is over does not, nor is it remembered") {
        CHECK(merge({}, theirs, at(1000)).drains.empty());
        CHECK(merge(mine, theirs, at(1000)).removed.empty());
    }
}

TEST_CASE("a stamp is later than all before, also when the clock was set back") {
    Intents intents;
    put(intents, drain_of("pangyo", 100));
    const Stamp stamp = next_stamp(intents, "nrt1", at(50));
    CHECK(stamp > intents.drains[0].stamp);
    CHECK(next_stamp(intents, "nrt1", at(200)).at == at(200));
}

TEST_CASE("what is for one PoP alone is not shared, not taken over and leaves no memory") {
    Intents mine;
    Drain drain = drain_of("pangyo", 1);
    drain.here = true;
    put(mine, drain);
    mine.hold = Hold{"", "", at(1), at(9), true, {}};
    CHECK(shared(mine) == Intents{});
    CHECK(merge({}, mine, at(2)) == Intents{});
    REQUIRE(take_back(mine, key_of(drain), next_stamp(mine, "icn1", at(2))));
    CHECK(mine.removed.empty());
}

TEST_CASE("the number of memories is bounded, and the first to be over go first") {
    Intents intents;
    for (std::size_t i = 0; i < kMaxRemoved + 10; ++i) {
        Drain drain = drain_of("site" + std::to_string(i), 1);
        drain.until = at(static_cast<int>(i) + 2);
        put(intents, drain);
        REQUIRE(take_back(intents, key_of(drain), {at(2), "icn1"}));
    }
    CHECK(intents.removed.size() == kMaxRemoved);
    CHECK(intents.removed.front().key == "drain site10");
}

TEST_CASE("a weight changes what it names, the narrower of two counts, and its mark only with the config") {
    const config::Config config = test::sample_config({.pools = 2});
    const auto weight_of = [&](const std::string& target, std::uint32_t value) {
        WeightOverride weight;
        weight.target = parse_target(target, config).value();
        weight.weight = value;
        weight.configured = weights_mark(config, weight.target);
        return weight;
    };
    const std::vector<WeightOverride> weights{weight_of("pool1@pangyo", 7), weight_of("pangyo", 50),
                                              weight_of("kr", 60)};
    const config::Config changed = with_weights(config, weights);
    const auto in = [](const config::Pool& pool, const std::string& site) {
        for (const config::PoolSite& value : pool.site_weights) {
            if (value.site == site) return value.weight;
        }
        return 100U;
    };
    CHECK(in(changed.pools[0], "pangyo") == 50);
    CHECK(in(changed.pools[1], "pangyo") == 7);
    CHECK(in(changed.pools[0], "anyang") == 60);

    const std::string address = config.pools[0].backends[0].address.to_string();
    const config::Config one = with_weights(config, std::vector{weight_of(address, 3)});
    CHECK(one.pools[0].backends[0].weight == 3);
    CHECK(one.pools[0].backends[1].weight == 100);

    config::Config edited = config;
    std::swap(edited.pools[0], edited.pools[1]);
    for (const WeightOverride& weight : weights)
        CHECK(weights_mark(edited, weight.target) == weight.configured);
    edited.pools[0].site_weights.push_back({"pangyo", 90});  // this is pool1
    CHECK(weights_mark(edited, weights[0].target) != weights[0].configured);
    CHECK(weights_mark(edited, weights[1].target) != weights[1].configured);
    CHECK(weights_mark(edited, parse_target("pool0@pangyo", config).value()) ==
          weights_mark(config, parse_target("pool0@pangyo", config).value()));
}
