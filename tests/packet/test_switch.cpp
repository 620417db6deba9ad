// The switch: what a dark, drained or ramping site moves, and what it does not.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <array>
#include <map>
#include <random>

#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using api::Reason;

namespace {

struct Flow {
    std::string address;
    std::uint16_t port;
    bool v6;
};

std::vector<Flow> random_flows(std::size_t count, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<Flow> flows;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t r = random();
        const bool v6 = (r & 1U) != 0;
        const std::string address =
            v6 ? fmt::format("2001:db8:{:x}::{:x}", r >> 48U & 0xffffU, r >> 32U & 0xffffU)
               : fmt::format("198.{}.{}.{}", 18 + (r >> 8U & 1U), r >> 16U & 0xffU, r >> 24U & 0xffU);
        flows.push_back({address, static_cast<std::uint16_t>(1024 + i), v6});
    }
    return flows;
}

Out send(FastPath& fast, const Flow& f, std::uint8_t flags, std::uint32_t sequence) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac);
    f.v6 ? frame.ipv6(f.address, "2001:db8:f::10") : frame.ipv4(f.address, "203.0.113.10");
    return fast.send(frame.tcp({f.port, 443, flags, sequence, 1}).bytes());
}

struct Pinned {
    Flow flow;
    std::uint8_t site;
    std::uint16_t backend;
};

std::vector<Pinned> connect_all(FastPath& fast, const std::vector<Flow>& flows) {
    std::vector<Pinned> out;
    for (const Flow& f : flows) {
        const Out syn = send(fast, f, kSyn, 1);
        send(fast, f, kAck, 2);
        send(fast, f, kAck, 2);
        out.push_back({f, syn.site, syn.backend});
    }
    return out;
}

std::uint64_t test_seed() {
    static const std::uint64_t seed = std::random_device{}();
    return seed;
}

}  // namespace

TEST_CASE("darkening or draining a site moves that site's flows and no others, new or pinned") {
    CAPTURE(test_seed());
    const std::vector<Flow> flows = random_flows(3000, test_seed());
    for (const bool keep : {true, false}) {
        api::ForwardingPlan plan = make_plan({.sites = 3, .backends = 3});
        plan.resets_per_second = 1'000'000;
        FastPath fast(plan, 16384);
        const std::vector<Pinned> before = connect_all(fast, flows);
        const std::uint32_t rebuilt = fast.tables->built.site_tables + fast.tables->built.maglev_tables;
        fast.host.set_site(api::SiteId{2}, {api::kAdmitNone, keep ? api::kAdmitAll : api::kAdmitNone, keep});
        std::map<std::uint8_t, unsigned> moved_to;
        for (const Pinned& p : before) {
            const Out pinned = send(fast, p.flow, kAck, 2);
            const Out anew = send(fast, p.flow, kSyn, 77);
            if (p.site != 2) {
                REQUIRE(pinned.backend == p.backend);
                REQUIRE(anew.backend == p.backend);
                REQUIRE(anew.site == p.site);
            } else {
                REQUIRE(anew.site != 2);
                REQUIRE(pinned.reason == (keep ? Reason::kForwardedPinned : Reason::kResetSent));
                ++moved_to[anew.site];
            }
        }
        // The dark site's flows spread over both survivors, about evenly.
        CHECK(moved_to[1] > 3 * moved_to[3] / 4);
        CHECK(moved_to[3] > 3 * moved_to[1] / 4);
        CHECK(fast.tables->built.site_tables + fast.tables->built.maglev_tables == rebuilt);
        // And back: each flow to where it was.
        fast.host.set_site(api::SiteId{2}, {});
        for (const Pinned& p : before) REQUIRE(send(fast, p.flow, kSyn, 99).backend == p.backend);
    }
}

TEST_CASE("a pool's own switch moves that pool alone") {
    FastPath fast(make_plan({.sites = 3}));
    fast.host.set_pool_site(api::PoolId{0}, api::SiteId{1}, {api::kAdmitNone, api::kAdmitAll, true});
    bool udp_at_1 = false;
    for (const Flow& f : random_flows(300, 1)) {
        CHECK(send(fast, f, kSyn, 1).site != 1);
        Frame frame;
        frame.ether(kRouterMac, kHostMac);
        f.v6 ? frame.ipv6(f.address, "2001:db8:f::10") : frame.ipv4(f.address, "203.0.113.10");
        udp_at_1 = fast.send(frame.udp(f.port, 53).bytes()).site == 1 || udp_at_1;
    }
    CHECK(udp_at_1);
}

TEST_CASE("a ramp only adds flows, and gives a site the share that admit says") {
    CAPTURE(test_seed());
    FastPath fast(make_plan({.sites = 2}));
    const std::vector<Flow> flows = random_flows(4000, test_seed());
    std::vector<bool> at_site(flows.size(), false);
    unsigned full = 0;
    for (std::size_t i = 0; i < flows.size(); ++i) full += send(fast, flows[i], kSyn, 1).site == 1 ? 1 : 0;
    for (unsigned step = 0; step <= 10; ++step) {
        const auto admit = static_cast<std::uint16_t>(65535 * step / 10);
        fast.host.set_site(api::SiteId{1}, {api::Admit{admit}, api::kAdmitNone, true});
        unsigned count = 0;
        for (std::size_t i = 0; i < flows.size(); ++i) {
            const bool now = send(fast, flows[i], kSyn, 10 + step).site == 1;
            REQUIRE((now || !at_site[i]));
            at_site[i] = now;
            count += now ? 1 : 0;
        }
        CHECK(count <= full * step / 10 + full / 20 + 1);
        CHECK(count + full / 20 + 1 >= full * step / 10);
    }
}

TEST_CASE("when all sites are partly admitted and none takes a flow, the one with the highest admit does") {
    FastPath fast(make_plan({.sites = 2}));
    fast.host.set_site(api::SiteId{1}, {api::Admit{100}, api::kAdmitAll, true});
    fast.host.set_site(api::SiteId{2}, {api::Admit{50}, api::kAdmitAll, true});
    unsigned at_2 = 0;
    for (const Flow& f : random_flows(1000, 3)) {
        const Out out = send(fast, f, kSyn, 1);
        REQUIRE(out.reason == Reason::kForwardedNew);
        at_2 += out.site == 2 ? 1 : 0;
    }
    CHECK(at_2 < 20);
}

TEST_CASE("with 1 and with 1,000 pools the switch is the same one store, and no table is built") {
    for (const std::uint16_t pools : std::array<std::uint16_t, 2>{1, 1000}) {
        api::ForwardingPlan plan = make_plan({.sites = 3, .backends = 1});
        const api::PlanPool model = plan.pools[0];
        plan.pools.clear();
        for (std::uint16_t i = 0; i < pools; ++i) {
            api::PlanPool pool = model;
            pool.id = api::PoolId{i};
            pool.max_backends = 4;
            pool.vips = {{api::VipId{i}, *api::Vip::parse(fmt::format("203.0.113.10:{}/tcp", 1000 + i))}};
            for (api::PlanPoolSite& site : pool.sites) {
                site.backends[0].id = api::BackendId{static_cast<std::uint16_t>(i * 3 + site.site.value())};
            }
            plan.pools.push_back(pool);
        }
        FastPath fast(plan);
        const core::ForwardingTables* tables = fast.tables.get();
        fast.host.set_site(api::SiteId{2}, {api::kAdmitNone, api::kAdmitAll, true});
        for (std::uint16_t i = 0; i < pools; ++i) {
            Frame frame;
            frame.ether(kRouterMac, kHostMac).ipv4("198.51.100.7", "203.0.113.10");
            const auto port = static_cast<std::uint16_t>(1000 + i);
            const Out out = fast.send(frame.tcp({port, port, kSyn, 1, 0}).bytes());
            REQUIRE(out.reason == Reason::kForwardedNew);
            REQUIRE(out.site != 2);
        }
        CHECK(fast.tables.get() == tables);
    }
}
