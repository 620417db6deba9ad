// Durations and suggestions.
#include <doctest/doctest.h>

#include "config/duration.h"
#include "config/suggest.h"

namespace detour::config::tests {

using namespace std::chrono_literals;

TEST_CASE("durations are a number and a unit, in whole milliseconds") {
    struct Row {
        std::string_view text;
        std::optional<std::chrono::milliseconds> expected;
    };
    const std::vector<Row> rows{
        {"0s", 0ms},
        {"0ms", 0ms},
        {"200ms", 200ms},
        {"1.5s", 1500ms},
        {"0.001s", 1ms},
        {"5m", 300s},
        {"0.5m", 30s},
        {"2h", 7200s},
        {"8784h", 8784h},
        {"8784.000001h", std::nullopt},
        {"8785h", std::nullopt},
        {"99999999999h", std::nullopt},
        {"99999999999.999999h", std::nullopt},
        {"31622400000ms", 8784h},
        {"31622400001ms", std::nullopt},
        {"1.5ms", std::nullopt},
        {"0.0001s", std::nullopt},
        {"1.50000000s", std::nullopt},
        {"", std::nullopt},
        {"s", std::nullopt},
        {"5", std::nullopt},
        {"5 s", std::nullopt},
        {" 5s", std::nullopt},
        {"-5s", std::nullopt},
        {"+5s", std::nullopt},
        {"5.s", std::nullopt},
        {".5s", std::nullopt},
        {"1e3s", std::nullopt},
        {"1.2.3s", std::nullopt},
        {"5d", std::nullopt},
        {"5S", std::nullopt},
        {"1m30s", std::nullopt},
    };
    for (const Row& row : rows) {
        CAPTURE(row.text);
        CHECK(parse_duration(row.text) == row.expected);
    }
}

TEST_CASE("a duration's text reads back as itself") {
    for (const auto value : {0ms, 1ms, 999ms, 1000ms, 1500ms, 60'000ms, 90'000ms, 3'600'000ms, 5'400'000ms}) {
        CHECK(parse_duration(duration_text(value)) == value);
    }
    CHECK(duration_text(90s) == "90s");
    CHECK(duration_text(300s) == "5m");
    CHECK(duration_text(1500ms) == "1500ms");
}

TEST_CASE("the nearest word is the one a typing error away") {
    const std::vector<std::string> words{"weight", "site", "address", "interval"};
    CHECK(nearest("wieght", words) == "weight");
    CHECK(nearest("weigt", words) == "weight");
    CHECK(nearest("sites", words) == "site");
    CHECK(nearest("adress", words) == "address");
    CHECK(nearest("intervall", words) == "interval");
    CHECK(nearest("color", words).empty());
    CHECK(nearest("", words).empty());
    CHECK(nearest("s", words).empty());
    CHECK(nearest(std::string(65, 'a'), {std::string(65, 'a')}).empty());
}

}  // namespace detour::config::tests
