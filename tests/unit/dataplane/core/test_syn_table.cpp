#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <utility>
#include <vector>

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

TEST_CASE("one line against a plain list: what is found and what gives way, at any age") {
    const std::uint64_t seed = std::random_device{}();
    INFO("seed ", seed);
    std::mt19937_64 random(seed);
    for (int round = 0; round < 2000; ++round) {
        SynTable table(4);
        std::vector<SynEntry> plain(4);  // as the line has them
        for (int step = 0; step < 40; ++step) {
            const auto now = static_cast<std::uint16_t>(random() | 1U);
            const std::uint64_t key = random() % 7;
            const auto age = [&](const SynEntry& e) { return static_cast<std::uint16_t>(now - e.time); };
            const auto own = std::find_if(plain.begin(), plain.end(),
                                          [&](const SynEntry& e) { return e.key == key && e.time != 0; });
            const SynEntry* found = table.find(key, 0, now);
            const bool known = own != plain.end() && age(*own) <= SynTable::kLifetime;
            REQUIRE((found != nullptr) == known);
            if (known) CHECK(found->isn == own->isn);
            // Its own place, else a free one, else the oldest one's.
            const auto place = own != plain.end()
                                   ? own
                                   : std::max_element(plain.begin(), plain.end(), [&](auto& a, auto& b) {
                                         return std::pair(a.time == 0, a.time == 0 ? 0 : age(a)) <
                                                std::pair(b.time == 0, b.time == 0 ? 0 : age(b));
                                     });
            const SynEntry entry{
                .key = key, .isn = static_cast<std::uint32_t>(random()), .backend = 1, .time = now};
            const SynEntry gone = table.put(key, 0, entry);
            CHECK(gone.time == (own != plain.end() ? 0 : place->time));
            if (gone.time != 0) CHECK(gone.key == place->key);
            *place = entry;
            if (random() % 4 == 0) {  // its handshake is over
                const std::size_t over = random() % 4;
                plain[over].time = 0;
                table.at(over).time = 0;
            }
        }
    }
}

TEST_CASE("SYNs of one cache line: four live side by side, a fifth takes the oldest one's place") {
    SynTable table(16);
    for (std::uint64_t key = 1; key <= 4; ++key) {
        const std::uint16_t now = SynTable::time_of((1000 + 100 * key) * kMs);
        table.put(key, 0, {.isn = 1, .backend = static_cast<std::uint16_t>(key), .time = now});
    }
    const std::uint16_t later = SynTable::time_of(2000 * kMs);
    for (std::uint64_t key = 1; key <= 4; ++key) {
        REQUIRE(table.find(key, 0, later) != nullptr);
        CHECK(table.find(key, 0, later)->backend == key);
    }
    // The same key again takes its own place; a free one goes before any other.
    CHECK(table.put(2, 0, {.isn = 9, .backend = 2, .time = later}).time == 0);
    CHECK(table.find(2, 0, later)->isn == 9);
    const SynEntry gone = table.put(5, 0, {.isn = 1, .backend = 5, .time = later});
    CHECK(gone.key == 1);
    CHECK(gone.backend == 1);
    CHECK(SynTable::age_ms(gone, later) / 32 == 900 / 32);
    CHECK(table.find(1, 0, later) == nullptr);
    for (std::uint64_t key = 2; key <= 5; ++key) CHECK(table.find(key, 0, later) != nullptr);
    table.find(3, 0, later)->time = 0;
    CHECK(table.put(6, 0, {.isn = 1, .backend = 6, .time = later}).time == 0);
    for (const std::uint64_t key : {2U, 4U, 5U, 6U}) CHECK(table.find(key, 0, later) != nullptr);
}

TEST_CASE("25 handshakes in flight at a time lose no SYN of 200,000") {
    SynTable table(1U << 17U);
    const std::uint64_t seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    std::deque<std::pair<std::uint64_t, std::uint64_t>> flying;
    unsigned lost = 0;
    for (std::uint64_t i = 1; i <= 200'000; ++i) {
        const std::uint16_t now = SynTable::time_of((1'000'000 + 2 * i) * kMs);
        flying.emplace_back(i, random());
        table.put(i, flying.back().second, {.isn = 1, .backend = 1, .time = now});
        if (flying.size() <= 25) continue;
        SynEntry* syn = table.find(flying.front().first, flying.front().second, now);
        if (syn == nullptr) {
            ++lost;
        } else {
            syn->time = 0;
        }
        flying.pop_front();
    }
    CHECK(lost == 0);  // direct-mapped: about 38
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
