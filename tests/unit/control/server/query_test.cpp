#include <doctest/doctest.h>

#include "control/server/query.h"

using namespace detour::control;

TEST_CASE("a path ends where the query begins") {
    CHECK(path_of("/v1/events?since=3") == "/v1/events");
    CHECK(path_of("/v1/events") == "/v1/events");
    CHECK(path_of("") == "");
}

TEST_CASE("a parameter's value") {
    struct Row {
        const char* target;
        std::optional<std::string> value;
    };
    const Row rows[] = {
        {"/v1/plan", std::nullopt},
        {"/v1/plan?", std::nullopt},
        {"/v1/plan?other=1", std::nullopt},
        {"/v1/plan?failed=1", std::nullopt},
        {"/v1/plan?fail", ""},
        {"/v1/plan?fail=", ""},
        {"/v1/plan?fail=kr/seongnam", "kr/seongnam"},
        {"/v1/plan?a=1&fail=kr%2Fseongnam&b=2", "kr/seongnam"},
        {"/v1/plan?fail=a+b%20c", "a b c"},
        {"/v1/plan?fail=first&fail=second", "first"},
        {"/v1/plan?&&fail=x", "x"},
    };
    for (const Row& row : rows) {
        CAPTURE(row.target);
        const auto value = query_value(row.target, "fail");
        REQUIRE(value);
        CHECK(*value == row.value);
    }
    for (const char* wrong : {"/v1/plan?fail=%", "/v1/plan?fail=%1", "/v1/plan?fail=%zz"}) {
        CHECK(!query_value(wrong, "fail"));
    }
}

TEST_CASE("a whole number of the query") {
    CHECK(*query_number("/x?n=0", "n") == 0);
    CHECK(*query_number("/x?n=18446744073709551615", "n") == 18446744073709551615U);
    CHECK(*query_number("/x", "n") == std::nullopt);
    for (const char* wrong : {"/x?n=", "/x?n=-1", "/x?n=1x", "/x?n=18446744073709551616", "/x?n=0x10"}) {
        CAPTURE(wrong);
        CHECK(!query_number(wrong, "n"));
    }
}
