#include <doctest/doctest.h>

#include "dataplane/core/syn_table.h"
#include "dataplane/core/token_bucket.h"

using namespace detour::core;

namespace {
constexpr std::uint64_t kMs = 1'000'000;
}

TEST_CASE("a SYN is found by its whole key, until its lifetime ends") {
    SynTable table(16);
    const std::uint16_t now = SynTable::time_of(1'000'000 * kMs);
    table.put(7, 123, {.isn = 5, .backend = 9, .time = now});
    REQUIRE(table.find(7, 123, now) != nullptr);
    CHECK(table.find(7, 123, now)->backend == 9);
    CHECK(table.find(8, 123, now) == nullptr);
    CHECK(table.find(7, 123, SynTable::time_of((1'000'000 + 62'000) * kMs)) != nullptr);
    CHECK(table.find(7, 123, SynTable::time_of((1'000'000 + 64'000) * kMs)) == nullptr);
}

TEST_CASE("zeroed memory is no entry, at any time; a flood only overwrites") {
    SynTable table(16);
    for (std::uint64_t ms = 0; ms < 2'000'000; ms += 997)
        CHECK(table.find(0, 0, SynTable::time_of(ms * kMs)) == nullptr);
    for (std::uint64_t i = 0; i < 100'000; ++i)
        table.put(i + 1, i << 20U, {.isn = 1, .backend = 1, .time = 1});
    CHECK(table.size() == 16);
}

TEST_CASE("a token bucket gives its rate, and a tenth of a second's worth at once") {
    struct Row {
        std::uint64_t rate;
        std::uint64_t in_ten_seconds;
        std::uint64_t at_once;
    };
    for (const Row row : {Row{0, 0, 0}, Row{1, 11, 1}, Row{100, 1010, 10}, Row{2000, 20200, 200}}) {
        TokenBucket bucket;
        bucket.set_rate(row.rate);
        std::uint64_t now = 1000 * 1000 * kMs;
        std::uint64_t taken = 0;
        while (bucket.take(now)) ++taken;
        CHECK(taken == row.at_once);
        for (int ms = 0; ms < 10'000; ++ms) {
            now += kMs;
            while (bucket.take(now)) ++taken;
        }
        CHECK(taken <= row.in_ten_seconds);
        CHECK(taken + 1 >= row.rate * 10);
    }
}
