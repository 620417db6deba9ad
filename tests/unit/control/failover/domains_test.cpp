// Buildings, campuses and cities: what their sites look like together, and who is next to whom.
#include "control/failover/domains.h"

#include <doctest/doctest.h>

using namespace detour::failover;

namespace {
constexpr auto kHealthy = Verdict::kHealthy;
constexpr auto kDark = Verdict::kDark;
constexpr auto kDrained = Verdict::kDrained;
}  // namespace

TEST_CASE("a domain's verdict is that of its sites together") {
    struct Row {
        std::vector<Verdict> sites;
        Verdict domain;
    };
    const std::vector<Row> rows{
        {{kHealthy}, kHealthy},
        {{kDark}, kDark},
        {{kDark, kDark}, kDark},
        {{kDark, kHealthy}, Verdict::kDegraded},
        {{kDark, kDrained}, kDrained},
        {{kDrained, kDrained}, kDrained},
        {{kDrained, kHealthy}, Verdict::kDegraded},
        {{Verdict::kSuspect, kHealthy}, Verdict::kSuspect},
        {{Verdict::kSuspect, kDark}, Verdict::kDegraded},
        {{Verdict::kRecovering, kHealthy}, Verdict::kRecovering},
        {{Verdict::kRecovering, Verdict::kRecovering}, Verdict::kRecovering},
        {{Verdict::kUnknown, Verdict::kUnknown}, Verdict::kUnknown},
        {{Verdict::kUnknown, kHealthy}, kHealthy},
        {{Verdict::kDegraded, kHealthy}, Verdict::kDegraded},
    };
    for (const Row& row : rows) {
        std::vector<DomainSite> sites;
        for (const Verdict verdict : row.sites) sites.push_back({"s", {"kr"}, verdict, 1, 2});
        const auto got = roll_up(sites);
        REQUIRE(got.size() == 1);
        CAPTURE(to_string(row.domain));
        CHECK(to_string(got[0].verdict) == to_string(row.domain));
        CHECK(got[0].sites == row.sites.size());
        CHECK(got[0].up == row.sites.size());
        CHECK(got[0].backends == 2 * row.sites.size());
    }
}

TEST_CASE("every level of a domain is counted, in the order of the paths") {
    const std::vector<DomainSite> sites{
        {"pangyo-a", {"kr", "seongnam", "pangyo"}, kDark, 0, 4},
        {"pangyo-b", {"kr", "seongnam", "pangyo"}, kHealthy, 4, 4},
        {"chuncheon", {"kr", "chuncheon"}, kHealthy, 2, 2},
        {"alone", {}, kHealthy, 1, 1},
    };
    const auto got = roll_up(sites);
    REQUIRE(got.size() == 4);
    CHECK(got[0] == DomainStatus{"kr", 3, 2, 6, 10, Verdict::kDegraded});
    CHECK(got[1] == DomainStatus{"kr/chuncheon", 1, 1, 2, 2, kHealthy});
    CHECK(got[2] == DomainStatus{"kr/seongnam", 2, 1, 4, 8, Verdict::kDegraded});
    CHECK(got[3] == DomainStatus{"kr/seongnam/pangyo", 2, 1, 4, 8, Verdict::kDegraded});
    CHECK(roll_up({}).empty());
}

TEST_CASE("neighbours share the narrowest domain that holds more than one site") {
    const std::vector<DomainSite> sites{
        {"a", {"kr", "seongnam", "building-a"}, {}, 0, 0},
        {"b", {"kr", "seongnam", "building-b"}, {}, 0, 0},
        {"c", {"kr", "chuncheon"}, {}, 0, 0},
        {"d", {"jp", "tokyo"}, {}, 0, 0},
        {"e", {}, {}, 0, 0},
    };
    CHECK(neighbours(sites, 0) == std::vector<std::size_t>{1});
    CHECK(neighbours(sites, 1) == std::vector<std::size_t>{0});
    CHECK(neighbours(sites, 2) == std::vector<std::size_t>{0, 1});
    CHECK(neighbours(sites, 3).empty());
    CHECK(neighbours(sites, 4).empty());
    const std::vector<DomainSite> one_country{{"a", {"kr", "x"}, {}, 0, 0}, {"b", {"kr", "y"}, {}, 0, 0}};
    CHECK(neighbours(one_country, 0).empty());
}
