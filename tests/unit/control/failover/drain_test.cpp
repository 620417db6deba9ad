#include "control/failover/drain.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/unit/control/sample_config.h"

using namespace detour;
using namespace detour::failover;

TEST_CASE("a target is a site, a pool in a site, a backend or a domain, and reads back as it was written") {
    const config::Config config = test::sample_config();
    struct Row {
        std::string text;
        TargetKind kind;
    };
    const std::vector<Row> rows = {
        {"pangyo", TargetKind::kSite},        {"pool0@anyang", TargetKind::kPoolSite},
        {"10.0.0.11", TargetKind::kBackend},  {"kr", TargetKind::kDomain},
        {"kr/gyeonggi", TargetKind::kDomain}, {"kr/gyeonggi/pangyo", TargetKind::kDomain},
    };
    for (const Row& row : rows) {
        CAPTURE(row.text);
        const auto target = parse_target(row.text, config);
        REQUIRE(target.has_value());
        CHECK(target->kind == row.kind);
        CHECK(target->to_string(config) == row.text);
    }
}

TEST_CASE("a target that is not there is refused and the text says why") {
    const config::Config config = test::sample_config();
    struct Row {
        std::string text;
        std::string part;
    };
    const std::vector<Row> rows = {
        {"", "empty"},
        {"pangyoo", "no site or domain"},
        {"kr/seoul", "no site or domain"},
        {"kr/gyeonggi/pangyo/rack1", "no site or domain"},
        {"gyeonggi", "no site or domain"},
        {"pool9@pangyo", "no pool named pool9"},
        {"pool0@nowhere", "no site named nowhere"},
        {"pool0@", "no site named"},
        {"192.0.2.77", "no pool has a backend"},
        {"/", "no site or domain"},
    };
    for (const Row& row : rows) {
        CAPTURE(row.text);
        const auto target = parse_target(row.text, config);
        REQUIRE_FALSE(target.has_value());
        CAPTURE(target.error().to_string());
        CHECK(target.error().to_string().find(row.part) != std::string::npos);
    }
}

TEST_CASE("a domain covers its sites and no other") {
    const config::Config config = test::sample_config();
    CHECK(in_domain(config.sites[0], "kr"));
    CHECK(in_domain(config.sites[0], "kr/gyeonggi"));
    CHECK_FALSE(in_domain(config.sites[2], "kr/gyeonggi"));
    CHECK_FALSE(in_domain(config.sites[0], "kr/gyeong"));
    CHECK_FALSE(in_domain(config.sites[0], ""));
    CHECK_FALSE(in_domain(config.sites[0], "kr/gyeonggi/pangyo/a"));
}
