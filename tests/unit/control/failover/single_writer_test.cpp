// Where a pool with one writer goes: never to two places, whatever the sites say.
#include "control/failover/single_writer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

using namespace detour::failover;

namespace {
constexpr auto kSilent = Says::kNothing;
constexpr auto kYes = Says::kPrimary;
constexpr auto kNo = Says::kStandby;
}  // namespace

TEST_CASE("the data layer elects, the pool follows") {
    struct Row {
        std::string name;
        std::vector<Says> says;
        std::optional<std::uint32_t> current;
        Writer writer;
    };
    const std::vector<Row> rows{
        {"nothing known at all", {kSilent, kSilent}, {}, {{}, false, WriterAlarm::kNobody}},
        {"the first primary", {kNo, kYes}, {}, {1, true, WriterAlarm::kNone}},
        {"it stays", {kNo, kYes}, 1, {1, true, WriterAlarm::kNone}},
        {"promotion", {kYes, kNo}, 1, {0, true, WriterAlarm::kNone}},
        {"promotion while the old one is silent", {kYes, kSilent}, 1, {0, true, WriterAlarm::kNone}},
        {"nobody, the current one is silent: stay", {kNo, kSilent}, 1, {1, true, WriterAlarm::kNobody}},
        {"nobody, the current one says no: no new flow", {kNo, kNo}, 1, {1, false, WriterAlarm::kNobody}},
        {"nobody ever", {kNo, kNo}, {}, {{}, false, WriterAlarm::kNobody}},
        {"two, one of them current: stay", {kYes, kYes}, 1, {1, true, WriterAlarm::kTwo}},
        {"two, the current one silent: stay", {kYes, kYes, kSilent}, 2, {2, true, WriterAlarm::kTwo}},
        {"two, the current one says no: no new flow", {kYes, kYes, kNo}, 2, {2, false, WriterAlarm::kTwo}},
        {"two, none current", {kYes, kYes}, {}, {{}, false, WriterAlarm::kTwo}},
        {"the current one is gone from the config", {kYes, kYes}, 7, {{}, false, WriterAlarm::kTwo}},
        {"one site", {kYes}, {}, {0, true, WriterAlarm::kNone}},
        {"no site", {}, {}, {{}, false, WriterAlarm::kNobody}},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        CHECK(choose_writer(row.says, row.current) == row.writer);
    }
}

TEST_CASE("random answers: one place at most, and only away from one to a site that alone says yes") {
    const std::uint64_t seed = std::random_device{}();
    MESSAGE("seed " << seed);
    std::mt19937_64 random(seed);
    for (int round = 0; round < 20'000; ++round) {
        std::vector<Says> says(1 + random() % 5);
        for (Says& word : says) word = static_cast<Says>(random() % 3);
        std::optional<std::uint32_t> current;
        if (random() % 2 == 0) current = static_cast<std::uint32_t>(random() % says.size());
        const Writer writer = choose_writer(says, current);
        if (writer.admits) REQUIRE(writer.site.has_value());
        if (writer.admits) CHECK(says[*writer.site] != kNo);
        if (writer.site == current) continue;
        REQUIRE(writer.site.has_value());
        CHECK(says[*writer.site] == kYes);
        CHECK(std::count(says.begin(), says.end(), kYes) == 1);
    }
}
