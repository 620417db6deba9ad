#include "control/plan/predict.h"

#include <doctest/doctest.h>

#include <map>
#include <random>

#include "control/plan/plan.h"
#include "tests/unit/control/sample_config.h"

using namespace detour;
using namespace detour::plan;

namespace {

struct Lab {
    config::Config config = test::sample_config({.pools = 2, .backends = 3});
    Ids ids;
    api::ForwardingPlan plan;
    Lab() {
        REQUIRE(ids.assign(config, api::Generation{1}, api::Generation{0}).has_value());
        auto made = make_plan(config, ids, {}, api::Generation{1});
        REQUIRE(made.has_value());
        plan = *made;
    }
    [[nodiscard]] Flow flow(std::uint32_t n) const {
        const auto byte = [&](unsigned shift) { return static_cast<std::uint8_t>(n >> shift); };
        return {api::IpAddress::v4({100, byte(16), byte(8), byte(0)}),
                api::Port{static_cast<std::uint16_t>(1024 + n % 60000)}, config.pools[0].vips[0]};
    }
};

}  // namespace

TEST_CASE("a dark site moves exactly its own flows") {
    const Lab lab;
    auto predictor = Predictor::make(lab.plan, {}, {});
    REQUIRE(predictor.has_value());
    std::map<api::SiteId, int> share;
    std::vector<Destination> before;
    constexpr std::uint32_t kFlows = 20'000;
    for (std::uint32_t n = 0; n < kFlows; ++n) before.push_back(predictor->new_flow(lab.flow(n)).value());
    for (const Destination& destination : before) ++share[destination.site.value()];
    CHECK(share.size() == 3);
    for (const auto& [site, count] : share) CHECK(count == doctest::Approx(kFlows / 3.0).epsilon(0.05));

    const api::SiteId dark = lab.ids.site("pangyo");
    const api::SiteSwitch cut{dark, std::nullopt, api::Sequence{1}, api::kAdmitNone, api::kAdmitAll, true};
    predictor->use({&cut, 1}, {});
    for (std::uint32_t n = 0; n < kFlows; ++n) {
        const Destination after = predictor->new_flow(lab.flow(n)).value();
        if (before[n].site == dark)
            CHECK(after.site != dark);
        else
            CHECK(after == before[n]);
    }
    predictor->use({}, {});
    for (std::uint32_t n = 0; n < kFlows; ++n) CHECK(predictor->new_flow(lab.flow(n)).value() == before[n]);
}

TEST_CASE("a backend that is down moves only its own flows, and within the site") {
    const Lab lab;
    auto predictor = Predictor::make(lab.plan, {}, {});
    REQUIRE(predictor.has_value());
    const Destination hit = predictor->new_flow(lab.flow(1)).value();
    std::vector<Destination> before;
    for (std::uint32_t n = 0; n < 5000; ++n) before.push_back(predictor->new_flow(lab.flow(n)).value());
    const api::BackendSwitch down{*hit.backend, api::Sequence{1}, false, true};
    predictor->use({}, {&down, 1});
    for (std::uint32_t n = 0; n < 5000; ++n) {
        const Destination after = predictor->new_flow(lab.flow(n)).value();
        CHECK(after.site == before[n].site);
        if (before[n].backend == hit.backend)
            CHECK(after.backend != hit.backend);
        else
            CHECK(after.backend == before[n].backend);
    }
}

TEST_CASE(
    "a connection id leads to the backend that it names while that keeps its flows; a new flow does not") {
    Lab lab;
    api::PlanPool& pool = lab.plan.pools[0];
    pool.hash = api::HashKey::kQuicCid;
    for (api::PlanVip& vip : pool.vips) vip.vip.protocol = api::Protocol::kUdp;
    std::uint8_t number = 0;
    for (api::PlanPoolSite& site : pool.sites)
        for (api::PlanBackend& backend : site.backends)
            backend.server_ids = {*api::QuicServerId::make(2, std::string(1, static_cast<char>(++number)))};
    auto predictor = Predictor::make(lab.plan, {}, {});
    REQUIRE(predictor.has_value());
    const api::SiteId site = pool.sites[1].site;
    const api::BackendId backend = pool.sites[1].backends[0].id;
    const std::string id = pool.sites[1].backends[0].server_ids[0].wire();
    Flow flow = lab.flow(1);
    flow.vip = pool.vips[0].vip;
    const Destination fresh = predictor->new_flow(flow).value();
    CHECK_FALSE(fresh.by_cid);
    flow.cid = "\x40" + id + "nonce";
    CHECK(predictor->new_flow(flow).value() == Destination{pool.id, site, backend, true});
    flow.cid = "\x20" + id + "nonce";
    CHECK_MESSAGE(predictor->new_flow(flow).value() == fresh, "another configuration");
    flow.cid = "\x40" + id + "nonce";
    api::SiteSwitch gate{site, std::nullopt, api::Sequence{1}, api::kAdmitNone, api::kAdmitAll, true};
    predictor->use({&gate, 1}, {});
    CHECK_MESSAGE(predictor->new_flow(flow).value().by_cid, "drained, but kept");
    gate.admit_mid = api::kAdmitNone;
    gate.keep = false;
    predictor->use({&gate, 1}, {});
    CHECK_FALSE(predictor->new_flow(flow).value().by_cid);
    CHECK(predictor->new_flow(flow).value().site != site);
}

TEST_CASE("what cannot be traced says why") {
    const Lab lab;
    auto predictor = Predictor::make(lab.plan, {}, {});
    REQUIRE(predictor.has_value());
    Flow flow = lab.flow(1);
    flow.vip.port = api::Port{444};
    CHECK(predictor->new_flow(flow).error().code == api::ErrorCode::kNotFound);
    flow = lab.flow(1);
    flow.client = test::ip("2001:db8::1");
    CHECK(predictor->new_flow(flow).error().code == api::ErrorCode::kInvalidArgument);
}

TEST_CASE("with no site left a flow has no destination") {
    const Lab lab;
    std::vector<api::SiteSwitch> switches;
    for (const api::PlanSite& site : lab.plan.sites) {
        switches.push_back({site.id, std::nullopt, api::Sequence{1}, api::kAdmitNone, api::kAdmitNone, true});
    }
    auto predictor = Predictor::make(lab.plan, switches, {});
    REQUIRE(predictor.has_value());
    const Destination nowhere = predictor->new_flow(lab.flow(1)).value();
    CHECK_FALSE(nowhere.site.has_value());
    CHECK_FALSE(nowhere.backend.has_value());
}
