// What bounds a pool's part in a site: what is healthy there, what it follows, how often it flapped.
#include <doctest/doctest.h>

#include <string>

#include "control/failover/flap.h"
#include "control/failover/follow.h"
#include "control/failover/healthy.h"

using namespace detour;
using namespace detour::failover;
using namespace std::chrono_literals;

TEST_CASE("a site's share follows what is healthy there") {
    struct Row {
        std::string name;
        Healthy at;
        double factor;
        double share;
    };
    const std::vector<Row> rows{
        {"all healthy", {10, 10, true}, 1.4, 1},
        {"none healthy", {10, 0, true}, 1.4, 0},
        {"one of ten", {10, 1, true}, 1.4, 0.14},
        {"2022: 12,000 of 32,000 servers, no spare", {32'000, 12'000, true}, 1, 0.375},
        {"2022, 40 % spare", {32'000, 12'000, true}, 1.4, 0.525},
        {"just enough with its spare", {100, 72, true}, 1.4, 1},
        {"just not enough", {100, 71, true}, 1.4, 0.994},
        {"half without spare", {10, 5, true}, 1, 0.5},
        {"no other site: all of it", {10, 1, false}, 1.4, 1},
        {"no weight at all", {0, 0, true}, 1.4, 1},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        CHECK(healthy_share(row.at, row.factor) == doctest::Approx(row.share));
    }
}

TEST_CASE("panic is for a pool that has nothing else, and asks the answering before the silent") {
    struct Row {
        std::string name;
        PanicView view;
        double threshold;
        Panic panic;
    };
    const std::vector<Row> rows{
        {"all healthy", {10, 10, 0, false}, 0.5, Panic::kNone},
        {"few healthy, another site takes it", {10, 1, 9, true}, 0.5, Panic::kNone},
        {"none healthy, another site takes it", {10, 0, 10, true}, 0.5, Panic::kNone},
        {"few healthy, no other site", {10, 4, 6, false}, 0.5, Panic::kAnswering},
        {"just enough", {10, 5, 5, false}, 0.5, Panic::kNone},
        {"threshold 0: never while one is healthy", {10, 1, 9, false}, 0, Panic::kNone},
        {"threshold 1: as soon as one is not", {10, 9, 1, false}, 1, Panic::kAnswering},
        {"none healthy, some answer badly: those", {10, 0, 3, false}, 0.5, Panic::kAnswering},
        {"none healthy, threshold 0", {10, 0, 3, false}, 0, Panic::kAnswering},
        {"silence everywhere: all", {10, 0, 0, false}, 0.5, Panic::kAll},
        {"silent servers are not used while one answers", {32, 12, 0, false}, 0.5, Panic::kAnswering},
        {"no backend", {0, 0, 0, false}, 0.5, Panic::kNone},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        CHECK(panic(row.view, row.threshold) == row.panic);
    }
}

TEST_CASE("a pool follows what it depends on, as long as that leaves it a site") {
    struct Row {
        std::string name;
        std::vector<FollowPart> parts;
        std::vector<double> admit;
        bool dropped;
    };
    const std::vector<Row> rows{
        {"nothing it needs is anywhere", {{1, {}}, {1, {}}}, {1, 1}, false},
        {"all served", {{1, 1.0}, {1, 1.0}}, {1, 1}, false},
        {"gone from one site", {{1, 0.0}, {1, 1.0}}, {0, 1}, false},
        {"on a ramp", {{1, 0.25}, {1, 1.0}}, {0.25, 1}, false},
        {"gone where it is, absent elsewhere", {{1, 0.0}, {1, {}}}, {0, 1}, false},
        {"gone everywhere: it stays", {{1, 0.0}, {1, 0.0}}, {1, 1}, true},
        {"the only site it has itself: it stays", {{1, 0.0}, {0, 1.0}}, {1, 1}, true},
        {"no site of its own either: nothing to drop", {{0, 0.0}, {0, 0.0}}, {0, 0}, false},
        {"no parts", {}, {}, false},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        const Follow got = follow(row.parts);
        CHECK(got.admit == row.admit);
        CHECK(got.dropped == row.dropped);
    }
}

namespace {
health::WallTime at(std::chrono::seconds since) {
    return {std::chrono::seconds{1'700'000'000} + since};
}
}  // namespace

TEST_CASE("each further flap doubles the wait, up to the bound, and quiet time is forgiven") {
    const FlapRules rules{10s, 10min, 10min};
    Flaps flaps;
    CHECK(flaps.hold(rules, at(0s)) == 0ms);
    const std::vector<std::chrono::milliseconds> expected{0s,   10s,  20s,  40s,  80s,
                                                          160s, 320s, 600s, 600s, 600s};
    for (std::size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(i);
        flaps.note(rules, at(std::chrono::seconds(i)));
        CHECK(flaps.hold(rules, at(std::chrono::seconds(i))) == expected[i]);
    }
    CHECK(flaps.hold(rules, at(10min)) < 600s);
    CHECK(flaps.hold(rules, at(24h)) == 0ms);
    // A clock that was set back forgives nothing, and does not grow the wait either.
    CHECK(flaps.hold(rules, at(-24h)) == 600s);
}

TEST_CASE("two failures a day apart are no flapping, a hold of 0 is no damping, a mistake is taken back") {
    const FlapRules rules{10s, 10min, 10min};
    Flaps flaps;
    flaps.note(rules, at(0s));
    flaps.note(rules, at(24h));
    CHECK(flaps.hold(rules, at(24h)) == 0ms);
    flaps.note(rules, at(24h + 1s));
    CHECK(flaps.hold(rules, at(24h + 1s)) == 10s);
    CHECK(flaps.hold({0s, 0s, 10min}, at(24h + 1s)) == 0ms);
    flaps.take_back();
    CHECK(flaps.hold(rules, at(24h + 1s)) == 0ms);
    for (int i = 0; i < 100'000; ++i) flaps.note(rules, at(25h));
    CHECK(flaps.hold(rules, at(25h)) == 10min);
}
