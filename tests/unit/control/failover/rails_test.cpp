// What an operator's drain must leave: a site on its ramp counts with the part that it takes by now.
#include "control/failover/rails.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace detour::failover;

TEST_CASE("rail min_sites: a site on its ramp counts with its part") {
    struct Row {
        std::string name;
        std::vector<RailSite> sites;  ///< name, before, after
        std::uint32_t min_sites;
        std::string refused;  ///< what the words hold; empty: not refused
    };
    const std::vector<Row> rows{
        {"no site at all", {}, 1, ""},
        {"two whole, one is drained", {{"a", 1, 0}, {"b", 1, 1}}, 1, ""},
        {"the last one", {{"a", 1, 0}}, 1, "left with 0 admitted sites, below its min_sites = 1"},
        {"the last one, no rail", {{"a", 1, 0}}, 0, ""},
        {"the other is dark", {{"a", 1, 0}, {"b", 0, 0}}, 1, "left with 0 admitted sites, below"},
        {"the other has just come back",
         {{"a", 1, 0}, {"b", 0.01, 0.01}},
         1,
         "left with 0.01 admitted sites (b is on its ramp: 1 %), below its min_sites = 1"},
        {"nearly through its ramp", {{"a", 1, 0}, {"b", 0.995, 0.995}}, 1, "(b is on its ramp: 99 %)"},
        {"just started, less than a percent", {{"a", 1, 0}, {"b", 0.002, 0.002}}, 1, "ramp: 1 %"},
        {"the ramp is over", {{"a", 1, 0}, {"b", 1, 1}}, 1, ""},
        {"a third is whole", {{"a", 1, 0}, {"b", 0.01, 0.01}, {"c", 1, 1}}, 1, ""},
        {"a third is whole, but two are wanted",
         {{"a", 1, 0}, {"b", 0.01, 0.01}, {"c", 1, 1}},
         2,
         "left with 1.01 admitted sites (b is on its ramp: 1 %), below its min_sites = 2"},
        {"two halves are one", {{"a", 1, 0}, {"b", 0.5, 0.5}, {"c", 0.5, 0.5}}, 1, ""},
        {"the ramping one is drained itself", {{"a", 1, 1}, {"b", 0.01, 0}}, 1, ""},
        {"both at once", {{"a", 1, 0}, {"b", 0.4, 0}}, 1, "left with 0 admitted sites, below"},
        {"below it already, and the drain changes nothing here", {{"a", 0.3, 0.3}}, 1, ""},
        {"below it already, and the drain takes more", {{"a", 0.3, 0}, {"b", 0.3, 0.3}}, 1, "0.3 admitted"},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        const std::string words = below_min_sites("talk", row.sites, row.min_sites);
        CAPTURE(words);
        CHECK(words.empty() == row.refused.empty());
        CHECK(words.find(row.refused) != std::string::npos);
        if (!words.empty()) CHECK(words.starts_with("pool talk would be "));
    }
}

TEST_CASE("rail capacity: a drain may not make a pool shed more than it does without it") {
    struct Row {
        std::string name;
        double before, after;
        std::string refused;
    };
    const std::vector<Row> rows{
        {"room for all", 0, 0, ""},
        {"too little to speak of", 0, 0.004, ""},
        {"half a percent", 0, 0.005, "no site has room for 1 % of the new flows of pool talk"},
        {"a third", 0, 1.0 / 3, "no site has room for 33 %"},
        {"as much without it", 0.4, 0.4, ""},
        {"less than without it", 0.4, 0.1, ""},
        {"more than without it", 0.4, 0.6, "no site has room for 60 %"},
    };
    const std::vector<RailSite> sites{{"a", 1, 0}, {"b", 0.25, 0.25}};
    for (const Row& row : rows) {
        CAPTURE(row.name);
        const std::string words = beyond_capacity("talk", sites, row.before, row.after);
        CHECK(words.empty() == row.refused.empty());
        CHECK(words.find(row.refused) != std::string::npos);
        if (!words.empty()) CHECK(words.ends_with(" (b is on its ramp: 25 %)"));
    }
}

TEST_CASE("a site on its ramp holds its part of the budget; what is not stated stays so") {
    CHECK(on_ramp({1000, 40}, 0.01).new_flows == doctest::Approx(10));
    CHECK(on_ramp({1000, 40}, 0.01).gbps == doctest::Approx(0.4));
    CHECK(on_ramp({1000, 40}, 1).new_flows == 1000);
    CHECK(on_ramp({0, 0}, 0.01).new_flows == 0);
}
