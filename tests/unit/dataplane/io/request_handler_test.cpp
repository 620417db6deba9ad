#include "dataplane/io/request_handler.h"

#include <doctest/doctest.h>

#include <string>

#include "dataplane.pb.h"
#include "dataplane/api/wire.h"
#include "tests/unit/dataplane/io/fake_fast_path.h"

namespace detour::io {
namespace {

using api::ErrorCode;

api::ForwardingPlan plan_of(std::uint64_t generation) {
    api::ForwardingPlan plan;
    plan.generation = api::Generation{generation};
    plan.seed = api::FleetSeed::from_text("a seed for tests with some length");
    plan.source_v4 = *api::IpAddress::parse("192.0.2.1");
    plan.next_hops.push_back({api::NextHopId{0}, api::EgressPort{0}, {}, {}, 1500, true});
    api::PlanPool pool;
    pool.id = api::PoolId{1};
    pool.name = "talk";
    pool.vips.push_back({api::VipId{0}, *api::Vip::parse("203.0.113.10:443/tcp")});
    for (std::uint8_t site = 0; site < 2; ++site) {
        const std::string name = site == 0 ? "pangyo" : "anyang";
        plan.sites.push_back({api::SiteId{site}, name, name, api::Sequence{0}});
        const auto address = *api::IpAddress::parse("10." + std::to_string(site + 1) + ".0.11");
        pool.sites.push_back({api::SiteId{site},
                              api::Weight{100},
                              api::Tier{0},
                              {{api::BackendId{site}, address, api::Weight{100}, api::NextHopId{0}}}});
    }
    plan.pools.push_back(pool);
    return plan;
}

struct Bench {
    FakeFastPath path;
    RequestHandler handler{path};

    wire::Reply ask(const wire::Request& request) {
        wire::Reply reply;
        handler.handle(request, reply);
        CHECK(reply.id() == request.id());
        return reply;
    }
    wire::Reply apply(const api::ForwardingPlan& plan) {
        wire::Request request;
        request.set_id(11);
        api::encode(plan, *request.mutable_apply_plan()->mutable_plan());
        return ask(request);
    }
    wire::Reply set(const std::vector<api::SiteSwitch>& sites,
                    const std::vector<api::BackendSwitch>& backends = {}) {
        wire::Request request;
        request.set_id(12);
        request.mutable_set_switches();
        for (const auto& s : sites) api::encode(s, *request.mutable_set_switches()->add_sites());
        for (const auto& b : backends) api::encode(b, *request.mutable_set_switches()->add_backends());
        return ask(request);
    }
};

api::SiteSwitch dark(std::uint8_t site, std::uint64_t sequence) {
    return {api::SiteId{site}, std::nullopt,    api::Sequence{sequence},
            api::kAdmitNone,   api::kAdmitNone, false};
}

ErrorCode code_of(const wire::Reply& reply) {
    REQUIRE(reply.has_failure());
    return api::decode(reply.failure()).code;
}

TEST_CASE("a plan is applied, and the next only if its generation is higher") {
    Bench bench;
    const auto first = bench.apply(plan_of(5));
    REQUIRE(first.has_applied());
    CHECK(first.applied().generation() == 5);
    CHECK(first.applied().tables_built() == 3);
    CHECK(code_of(bench.apply(plan_of(5))) == ErrorCode::kOutdated);
    CHECK(code_of(bench.apply(plan_of(4))) == ErrorCode::kOutdated);
    CHECK(bench.apply(plan_of(6)).has_applied());
    CHECK(bench.path.published == std::vector<std::uint64_t>{5, 6});
}

TEST_CASE("an empty plan, one that makes no sense and one for a port that is not there change nothing") {
    Bench bench;
    auto empty = plan_of(1);
    empty.pools.clear();
    CHECK(code_of(bench.apply(empty)) == ErrorCode::kRefused);
    auto twice = plan_of(1);
    twice.sites.push_back(twice.sites.front());
    CHECK(code_of(bench.apply(twice)) == ErrorCode::kInvalidArgument);
    auto elsewhere = plan_of(1);
    elsewhere.next_hops[0].port = api::EgressPort{1};
    CHECK(code_of(bench.apply(elsewhere)) == ErrorCode::kInvalidArgument);
    CHECK(bench.path.published.empty());
}

TEST_CASE("a plan computed before a site went dark and applied after does not re-admit it") {
    Bench bench;
    REQUIRE(bench.apply(plan_of(1)).has_applied());
    REQUIRE(bench.set({dark(0, 7)}).has_set());
    auto slow = plan_of(2);
    slow.sites[0].verdict = api::Sequence{6};
    const auto refused = bench.apply(slow);
    CHECK(code_of(refused) == ErrorCode::kOutdated);
    CHECK(refused.failure().what().find("pangyo") != std::string::npos);
    CHECK(bench.path.published == std::vector<std::uint64_t>{1});
    // And one that knows is applied without touching the switch.
    slow.sites[0].verdict = api::Sequence{7};
    REQUIRE(bench.apply(slow).has_applied());
    CHECK(bench.path.host().site(api::SiteId{0}).admit == api::kAdmitNone);
    CHECK_FALSE(bench.path.host().site(api::SiteId{0}).keep);
}

TEST_CASE("a switch is stored, acknowledged and builds nothing") {
    Bench bench;
    REQUIRE(bench.apply(plan_of(1)).has_applied());
    const auto reply = bench.set({dark(0, 1)});
    REQUIRE(reply.has_set());
    CHECK(reply.set().sites(0).applied());
    CHECK(reply.set().rebuilds() == 3);
    CHECK(bench.path.waits == 1);
    CHECK(bench.path.published.size() == 1);
    CHECK(bench.path.host().site(api::SiteId{0}).admit == api::kAdmitNone);
    CHECK(bench.path.host().site(api::SiteId{1}).admit == api::kAdmitAll);
}

TEST_CASE("each switch has its own sequence, and one that is not above it is refused") {
    Bench bench;
    auto in_pool = dark(0, 3);
    in_pool.pool = api::PoolId{1};
    const api::BackendSwitch backend{api::BackendId{1}, api::Sequence{2}, false, true};
    const auto first = bench.set({dark(0, 9), in_pool}, {backend});
    CHECK(first.set().sites(0).applied());
    CHECK(first.set().sites(1).applied());
    CHECK(first.set().backends(0).applied());
    auto again = dark(0, 9);
    again.admit = api::kAdmitAll;
    auto stale_backend = backend;
    stale_backend.up = true;
    const auto second = bench.set({again}, {stale_backend});
    CHECK_FALSE(second.set().sites(0).applied());
    CHECK(second.set().sites(0).in_force() == 9);
    CHECK_FALSE(second.set().backends(0).applied());
    CHECK(bench.path.host().site(api::SiteId{0}).admit == api::kAdmitNone);
    CHECK_FALSE(bench.path.host().backend(api::BackendId{1}).up);
    CHECK(bench.path.host().backend(api::BackendId{1}).keep);
}

TEST_CASE("limits of new flows are switches too: sequences, the disk, all or nothing") {
    Bench bench;
    const auto ask = [](Bench& to, const std::vector<api::FlowLimit>& limits) {
        wire::Request request;
        request.mutable_set_switches();
        for (const auto& l : limits) api::encode(l, *request.mutable_set_switches()->add_limits());
        return to.ask(request);
    };
    const api::FlowLimit site{api::SiteId{1}, std::nullopt, api::Sequence{5}, 100, api::Refusal::kReset};
    const api::FlowLimit pool{std::nullopt, api::PoolId{1}, api::Sequence{1}, 0};
    const auto first = ask(bench, {site, pool});
    CHECK(first.set().limits(0).applied());
    CHECK(first.set().limits(1).applied());
    CHECK((bench.path.host().limit(api::SiteId{1}) == core::LimitValue{true, 100, api::Refusal::kReset}));
    CHECK_FALSE(ask(bench, {{api::SiteId{1}, std::nullopt, api::Sequence{5}, 1}}).set().limits(0).applied());
    CHECK(bench.path.host().limit(api::SiteId{1}).per_second == 100);
    CHECK(ask(bench, {{std::nullopt, api::PoolId{1}, api::Sequence{2}}}).set().limits(0).applied());
    CHECK_FALSE(bench.path.host().limit(api::PoolId{1}).limited);

    Bench second;
    const auto state = read_state(bench.handler.switches_payload());
    REQUIRE(state.has_value());
    REQUIRE(second.handler.restore(*state, {}).has_value());
    CHECK(second.path.host().limit(api::SiteId{1}).per_second == 100);
    CHECK_FALSE(ask(second, {site}).set().limits(0).applied());
}

TEST_CASE("one bad switch in a message and none of it is done") {
    Bench bench;
    wire::Request request;
    auto& set = *request.mutable_set_switches();
    api::encode(dark(0, 1), *set.add_sites());
    auto& bad = *set.add_sites();
    bad.set_site(300);
    bad.set_sequence(1);
    CHECK(bench.ask(request).has_failure());
    CHECK(bench.path.host().site(api::SiteId{0}).admit == api::kAdmitAll);
}

TEST_CASE("what is written to disk restores the same plan and switches, and overrides no order") {
    Bench first;
    REQUIRE(first.apply(plan_of(5)).has_applied());
    auto ended = dark(1, 4);
    ended.end_flows = true;
    REQUIRE(first.set({ended}, {{api::BackendId{0}, api::Sequence{2}, false, true}}).has_set());
    const auto plan = read_state(first.handler.plan_payload());
    const auto switches = read_state(first.handler.switches_payload());
    REQUIRE(plan.has_value());
    REQUIRE(switches.has_value());

    Bench second;
    REQUIRE(second.handler.restore(*switches, *plan).has_value());
    CHECK(second.path.published == std::vector<std::uint64_t>{5});
    CHECK(second.path.host().site(api::SiteId{1}).admit == api::kAdmitNone);
    CHECK(second.path.host().site(api::SiteId{1}).end);
    CHECK_FALSE(second.path.host().backend(api::BackendId{0}).up);
    wire::Request request;
    request.mutable_hello();
    const auto hello = second.ask(request).hello();
    CHECK(hello.restored());
    CHECK(hello.generation() == 5);
    CHECK(hello.ports(0).name() == "eth1");
    CHECK(code_of(second.apply(plan_of(5))) == ErrorCode::kOutdated);
    CHECK_FALSE(second.set({dark(1, 4)}).set().sites(0).applied());
}

TEST_CASE("the state that is told is the whole plan and every switch") {
    Bench bench;
    REQUIRE(bench.apply(plan_of(5)).has_applied());
    REQUIRE(bench.set({dark(0, 1)}).has_set());
    wire::Request request;
    request.mutable_get_state();
    const auto reply = bench.ask(request);
    REQUIRE(reply.has_state());
    CHECK((api::decode(reply.state().plan()).value() == plan_of(5)));
    REQUIRE(reply.state().sites_size() == 1);
    CHECK((api::decode(reply.state().sites(0)).value() == dark(0, 1)));
}

TEST_CASE("a plan that is in force although a worker lags is remembered") {
    Bench bench;
    bench.path.publish_error = api::Error{ErrorCode::kTimeout, "waiting for the workers", "one hangs"};
    int marks = 0;
    bench.handler.set_marks({[&] { ++marks; }, {}});
    CHECK(code_of(bench.apply(plan_of(3))) == ErrorCode::kTimeout);
    CHECK(marks == 1);
    CHECK(code_of(bench.apply(plan_of(3))) == ErrorCode::kOutdated);
}

TEST_CASE("a request for nothing known is answered with a failure") {
    Bench bench;
    wire::Request request;
    request.set_id(4);
    CHECK(code_of(bench.ask(request)) == ErrorCode::kInvalidArgument);
}

TEST_CASE("a thousand pools make the switch of a site no more work: no table is built, none is published") {
    Bench bench;
    auto plan = plan_of(1);
    const api::PlanPool pattern = plan.pools.front();
    plan.pools.clear();
    for (std::uint16_t i = 0; i < 1000; ++i) {
        api::PlanPool pool = pattern;
        pool.id = api::PoolId{i};
        pool.name = "pool" + std::to_string(i);
        pool.max_backends = 1;
        pool.vips[0].id = api::VipId{i};
        pool.vips[0].vip.port = api::Port{static_cast<std::uint16_t>(1000 + i)};
        for (std::size_t s = 0; s < pool.sites.size(); ++s) {
            pool.sites[s].backends[0].id = api::BackendId{static_cast<std::uint16_t>(2U * i + s)};
        }
        plan.pools.push_back(pool);
    }
    const auto applied = bench.apply(plan);
    REQUIRE(applied.has_applied());
    const auto reply = bench.set({dark(0, 1)});
    CHECK(reply.set().rebuilds() == applied.applied().tables_built());
    CHECK(bench.path.published.size() == 1);
}

}  // namespace
}  // namespace detour::io
