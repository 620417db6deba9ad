#include "control/failover/bfd_watch.h"

#include <doctest/doctest.h>

#include <vector>

using namespace detour;
using namespace detour::failover;
using namespace std::chrono_literals;
using health::Monotonic;

namespace {

constexpr auto kUp = BfdPath::kUp;
constexpr auto kDown = BfdPath::kDown;
constexpr auto kUnknown = BfdPath::kUnknown;

}  // namespace

TEST_CASE("only when all known sessions are down, and one is known, does the confirm time begin") {
    struct Row {
        const char* name;
        std::vector<BfdPath> paths;
        bool begins;
    };
    const std::vector<Row> rows{
        {"no session", {}, false},
        {"never came up", {kUnknown}, false},
        {"none of two came up", {kUnknown, kUnknown}, false},
        {"up", {kUp}, false},
        {"down", {kDown}, true},
        {"one of two down", {kDown, kUp}, false},
        {"both down", {kDown, kDown}, true},
        {"one down, one never came up or was switched off", {kUnknown, kDown}, true},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        BfdWatch watch;
        CHECK(watch.update(row.paths, Monotonic{10s}, 100ms) == row.begins);
        CHECK(watch.next() == (row.begins ? Monotonic{10100ms} : health::kNever));
        CHECK_FALSE(watch.update(row.paths, Monotonic{10s}, 100ms));  // once
        CHECK_FALSE(watch.dark());
    }
}

TEST_CASE("dark after the confirm time, not before, and not any more when a session is up") {
    BfdWatch watch;
    const std::vector<BfdPath> down{kDown};
    const std::vector<BfdPath> up{kUp};
    CHECK(watch.update(down, Monotonic{10s}, 100ms));
    CHECK_FALSE(watch.tick(Monotonic{10099ms}));
    CHECK(watch.tick(Monotonic{10100ms}));
    CHECK(watch.dark());
    CHECK_FALSE(watch.tick(Monotonic{10200ms}));  // said once
    CHECK(watch.next() == health::kNever);
    CHECK_FALSE(watch.update(up, Monotonic{11s}, 100ms));
    CHECK_FALSE(watch.dark());
    CHECK(watch.update(down, Monotonic{12s}, 100ms));
}

TEST_CASE("an answered probe takes the sessions' say away until one came up again") {
    BfdWatch watch;
    const std::vector<BfdPath> down{kDown};
    const std::vector<BfdPath> up{kUp};
    watch.answered(Monotonic{9s});  // nothing to contradict
    CHECK(watch.update(down, Monotonic{10s}, 100ms));
    watch.answered(Monotonic{10s});
    CHECK_FALSE(watch.tick(Monotonic{10100ms}));
    CHECK_FALSE(watch.update(down, Monotonic{11s}, 100ms));
    CHECK(watch.next() == health::kNever);
    CHECK_FALSE(watch.update(up, Monotonic{12s}, 100ms));
    CHECK(watch.update(down, Monotonic{13s}, 100ms));
    CHECK(watch.tick(Monotonic{13100ms}));
    watch.answered(Monotonic{13050ms});
    CHECK_FALSE(watch.dark());
}

TEST_CASE("an answer to a probe that was sent before the sessions were down takes nothing away") {
    BfdWatch watch;
    const std::vector<BfdPath> down{kDown};
    CHECK(watch.update(down, Monotonic{10s}, 100ms));
    watch.answered(Monotonic{9999ms});
    CHECK(watch.tick(Monotonic{10100ms}));
    CHECK(watch.dark());
}

TEST_CASE("a late tick waits anew: answers may stand behind it") {
    BfdWatch watch;
    const std::vector<BfdPath> down{kDown};
    CHECK(watch.update(down, Monotonic{10s}, 100ms));
    CHECK_FALSE(watch.tick(Monotonic{10150ms}));
    CHECK(watch.next() == Monotonic{10250ms});
    CHECK(watch.tick(Monotonic{10299ms}));
}
