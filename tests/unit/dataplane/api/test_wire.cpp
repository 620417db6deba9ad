// Plans and switches on the wire: what goes in comes out, and each rule refuses by itself.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "dataplane.pb.h"
#include "dataplane/api/limits.h"
#include "dataplane/api/wire.h"
#include "tests/support/random_seed.h"

using namespace detour;
using namespace detour::api;

namespace {

IpAddress address(const std::string& text) {
    return IpAddress::parse(text).value();
}

/// A plan that uses every field: two sites, two next hops, two pools.
QuicServerId server_id(const char* text) {
    return *QuicServerId::parse(text);
}

ForwardingPlan sample() {
    ForwardingPlan plan;
    plan.generation = Generation{42};
    plan.seed = FleetSeed::from_text("a fleet");
    plan.source_v4 = address("192.0.2.1");
    plan.source_v6 = address("2001:db8::1");
    plan.resets_per_second = 123;
    plan.icmp_per_second = 456;
    plan.sites = {{SiteId{0}, "Pangyo", "pangyo", Sequence{7}},
                  {SiteId{254}, "Anyang", "anyang", Sequence{}}};
    plan.next_hops = {
        {NextHopId{0}, EgressPort{0}, {{2, 0, 0, 0, 0, 1}}, {{2, 0, 0, 0, 0, 2}}, 1500, true},
        {NextHopId{4095}, EgressPort{15}, {{2, 0, 0, 0, 0, 3}}, {{2, 0, 0, 0, 0, 4}}, 9978, false, 4094}};
    PlanPool talk;
    talk.id = PoolId{4095};
    talk.name = "talk";
    talk.vips = {{VipId{0}, {address("203.0.113.10"), Port{443}, Protocol::kTcp}},
                 {VipId{16383}, {address("2001:db8:f::10"), Port{443}, Protocol::kTcp}}};
    talk.encap = Encap::kGre;
    talk.hash = HashKey::kSource;
    talk.stranded = Stranded::kKeep;
    talk.on_empty = Refusal::kReset;
    talk.max_backends = 2;
    talk.sites = {
        {SiteId{0},
         Weight{65535},
         Tier{3},
         {{BackendId{0}, address("10.1.0.1"), Weight{65535}, NextHopId{0}},
          {BackendId{65534}, address("2001:db8:1::1"), Weight{0}, NextHopId{4095}}}},
        {SiteId{254}, Weight{0}, Tier{0}, {{BackendId{5}, address("10.2.0.1"), Weight{1}, NextHopId{0}}}}};
    PlanPool dns;
    dns.id = PoolId{0};
    dns.name = "dns";
    dns.vips = {{VipId{1}, {address("203.0.113.10"), Port{443}, Protocol::kUdp}}};
    dns.encap = Encap::kIpip;
    dns.stranded = Stranded::kRehash;
    dns.hash = HashKey::kQuicCid;
    dns.max_backends = 4096;
    dns.sites = {{SiteId{0},
                  Weight{1},
                  Tier{1},
                  {{BackendId{6},
                    address("10.1.0.1"),
                    Weight{1},
                    NextHopId{0},
                    {server_id("0a1f"), server_id("6:00")}},
                   {BackendId{7}, address("10.1.0.2"), Weight{1}, NextHopId{0}, {server_id("0a20")}}}}};
    plan.pools = {talk, dns};
    return plan;
}

ForwardingPlan through_the_wire(const ForwardingPlan& plan) {
    wire::Plan message;
    encode(plan, message);
    wire::Plan again;
    REQUIRE(again.ParseFromString(message.SerializeAsString()));
    const auto decoded = decode(again);
    if (!decoded) FAIL(decoded.error().to_string());
    return *decoded;
}

}  // namespace

TEST_CASE("a plan that uses every field survives the wire unchanged") {
    CHECK(through_the_wire(sample()) == sample());
}

TEST_CASE("a plan of one empty pool, without sources, is the smallest one and survives too") {
    ForwardingPlan plan;
    plan.generation = Generation{1};
    plan.pools.emplace_back();
    CHECK(through_the_wire(plan) == plan);
}

TEST_CASE("encoding clears what the message held") {
    wire::Plan message;
    encode(sample(), message);
    encode(sample(), message);
    CHECK(message.pools_size() == 2);
    wire::SiteSwitch site;
    encode({SiteId{1}, PoolId{2}, Sequence{3}, {}, {}, true}, site);
    encode({SiteId{1}, std::nullopt, Sequence{3}, {}, {}, true}, site);
    CHECK(!site.has_pool());
}

TEST_CASE("random plans survive the wire") {
    std::mt19937_64 random(support::random_seed());
    for (int round = 0; round < 50; ++round) {
        ForwardingPlan plan = sample();
        plan.generation = Generation{1 + random() % 1000};
        for (PlanPool& pool : plan.pools)
            for (PlanPoolSite& part : pool.sites) {
                part.weight = Weight{static_cast<std::uint32_t>(random() % 65536)};
                part.tier = Tier{static_cast<std::uint8_t>(random() % 4)};
                for (PlanBackend& backend : part.backends)
                    backend.weight = Weight{static_cast<std::uint32_t>(random() % 65536)};
            }
        for (PlanSite& site : plan.sites) site.key += static_cast<char>('a' + random() % 26);
        CHECK(through_the_wire(plan) == plan);
    }
}

TEST_CASE("each rule of a plan refuses by itself and says what is wrong") {
    struct Row {
        const char* name;
        std::function<void(ForwardingPlan&)> spoil;
        ErrorCode code;
        const char* says;
    };
    using enum ErrorCode;
    // clang-format off
    const std::vector<Row> rows{
        {"no pool", [](auto& p) { p.pools.clear(); }, kRefused, "no pool"},
        {"generation 0", [](auto& p) { p.generation = Generation{0}; }, kInvalidArgument, "generation 0"},
        {"v6 as source_v4", [](auto& p) { p.source_v4 = address("2001:db8::1"); }, kInvalidArgument, "source_v4 2001:db8::1"},
        {"source_v4 0.0.0.0", [](auto& p) { p.source_v4 = address("0.0.0.0"); }, kInvalidArgument, "source_v4 0.0.0.0"},
        {"v4 as source_v6", [](auto& p) { p.source_v6 = address("192.0.2.1"); }, kInvalidArgument, "source_v6 192.0.2.1"},
        {"source_v6 ::", [](auto& p) { p.source_v6 = address("::"); }, kInvalidArgument, "source_v6 ::"},
        {"site id 255", [](auto& p) { p.sites[0].id = SiteId{255}; }, kLimit, "site id 255"},
        {"site id twice", [](auto& p) { p.sites[1].id = SiteId{0}; }, kInvalidArgument, "site id 0 is there twice"},
        {"site key empty", [](auto& p) { p.sites[0].key.clear(); }, kInvalidArgument, "empty key"},
        {"site key twice", [](auto& p) { p.sites[1].key = "pangyo"; }, kInvalidArgument, "\"pangyo\" is there twice"},
        {"next hop id 4096", [](auto& p) { p.next_hops[0].id = NextHopId{4096}; }, kLimit, "next hop id 4096"},
        {"next hop twice", [](auto& p) { p.next_hops[1].id = NextHopId{0}; }, kInvalidArgument, "next hop id 0 is there twice"},
        {"egress port 16", [](auto& p) { p.next_hops[0].port = EgressPort{16}; }, kLimit, "port 16"},
        {"mtu 1279", [](auto& p) { p.next_hops[0].mtu = 1279; }, kInvalidArgument, "mtu 1279"},
        {"mtu 9979", [](auto& p) { p.next_hops[0].mtu = 9979; }, kInvalidArgument, "mtu 9979"},
        {"vlan 4095", [](auto& p) { p.next_hops[0].vlan = 4095; }, kLimit, "vlan 4095"},
        {"pool id 4096", [](auto& p) { p.pools[0].id = PoolId{4096}; }, kLimit, "pool id 4096"},
        {"pool id twice", [](auto& p) { p.pools[1].id = PoolId{4095}; }, kInvalidArgument, "pool id 4095 is there twice"},
        {"encap 3", [](auto& p) { p.pools[0].encap = Encap{3}; }, kInvalidArgument, "encap 3"},
        {"hash 3", [](auto& p) { p.pools[0].hash = HashKey{3}; }, kInvalidArgument, "hash 3"},
        {"server ids without quic-cid", [](auto& p) { p.pools[1].hash = HashKey::kFiveTuple; }, kInvalidArgument, "server id 0a1f, but its hash is not quic-cid"},
        {"a server id twice", [](auto& p) { p.pools[1].sites[0].backends[1].server_ids = {server_id("0a1f")}; }, kInvalidArgument, "pool 0: server id 0a1f is there twice"},
        {"a server id of another length", [](auto& p) { p.pools[1].sites[0].backends[1].server_ids = {server_id("6:0001")}; }, kInvalidArgument, "server id 6:0001 has 2 bytes, another of its configuration 1"},
        {"stranded 3", [](auto& p) { p.pools[0].stranded = Stranded{3}; }, kInvalidArgument, "stranded 3"},
        {"on_empty 2", [](auto& p) { p.pools[0].on_empty = Refusal{2}; }, kInvalidArgument, "on_empty 2"},
        {"max_backends 0", [](auto& p) { p.pools[1].max_backends = 0; }, kLimit, "max_backends 0"},
        {"max_backends 4097", [](auto& p) { p.pools[1].max_backends = 4097; }, kLimit, "max_backends 4097"},
        {"more backends than max", [](auto& p) { p.pools[0].max_backends = 1; }, kLimit, "2 backends, but max_backends is 1"},
        {"vip id 16384", [](auto& p) { p.pools[0].vips[0].id = VipId{16384}; }, kLimit, "vip id 16384"},
        {"vip id twice, over pools", [](auto& p) { p.pools[1].vips[0].id = VipId{0}; }, kInvalidArgument, "vip id 0 is there twice"},
        {"vip twice, over pools", [](auto& p) { p.pools[1].vips[0].vip.protocol = Protocol::kTcp; }, kInvalidArgument, "203.0.113.10:443/tcp is there twice"},
        {"vip address ::", [](auto& p) { p.pools[0].vips[1].vip.address = address("::"); }, kInvalidArgument, "unspecified"},
        {"vip port 0", [](auto& p) { p.pools[0].vips[0].vip.port = Port{0}; }, kInvalidArgument, "port 0"},
        {"vip protocol 1", [](auto& p) { p.pools[0].vips[0].vip.protocol = Protocol{1}; }, kInvalidArgument, "protocol 1"},
        {"pool in an unknown site", [](auto& p) { p.pools[0].sites[0].site = SiteId{9}; }, kInvalidArgument, "site 9 is not in the plan"},
        {"pool in a site twice", [](auto& p) { p.pools[0].sites[1].site = SiteId{0}; }, kInvalidArgument, "site 0 is there twice"},
        {"site weight 65536", [](auto& p) { p.pools[0].sites[0].weight = Weight{65536}; }, kLimit, "weight 65536"},
        {"tier 4", [](auto& p) { p.pools[0].sites[0].tier = Tier{4}; }, kInvalidArgument, "tier 4"},
        {"backend id 65535", [](auto& p) { p.pools[0].sites[0].backends[0].id = BackendId{65535}; }, kLimit, "backend id 65535"},
        {"backend id twice, over pools", [](auto& p) { p.pools[1].sites[0].backends[0].id = BackendId{5}; }, kInvalidArgument, "backend id 5 is there twice"},
        {"backend address 0.0.0.0", [](auto& p) { p.pools[0].sites[0].backends[0].address = address("0.0.0.0"); }, kInvalidArgument, "unspecified"},
        {"backend address twice in a site", [](auto& p) { p.pools[0].sites[0].backends[1].address = address("10.1.0.1"); }, kInvalidArgument, "10.1.0.1 is there twice"},
        {"backend weight 65536", [](auto& p) { p.pools[0].sites[0].backends[0].weight = Weight{65536}; }, kLimit, "weight 65536"},
        {"backend behind an unknown hop", [](auto& p) { p.pools[0].sites[0].backends[0].next_hop = NextHopId{1}; }, kInvalidArgument, "next hop 1 is not in the plan"},
        {"4097 pools", [](auto& p) { p.pools.resize(4097); }, kLimit, "4097 pools"},
        {"256 sites", [](auto& p) { p.sites.resize(256); }, kLimit, "256 sites"},
        {"4097 next hops", [](auto& p) { p.next_hops.resize(4097); }, kLimit, "4097 next hops"},
    };
    // clang-format on
    REQUIRE(check(sample()));
    for (const Row& row : rows) {
        CAPTURE(row.name);
        ForwardingPlan plan = sample();
        row.spoil(plan);
        const auto checked = check(plan);
        REQUIRE(!checked);
        CHECK(checked.error().code == row.code);
        CHECK_MESSAGE(checked.error().what.find(row.says) != std::string::npos, checked.error().what);
        // And the wire is no way around it.
        wire::Plan message;
        encode(plan, message);
        const auto decoded = decode(message);
        REQUIRE(!decoded);
        CHECK(decoded.error().code == row.code);
    }
}

TEST_CASE("what only the wire can hold is refused as well") {
    struct Row {
        const char* name;
        std::function<void(wire::Plan&)> spoil;
        ErrorCode code;
        const char* says;
    };
    using enum ErrorCode;
    // clang-format off
    const auto backend = [](wire::Plan& m) { return m.mutable_pools(0)->mutable_sites(0)->mutable_backends(0); };
    const std::vector<Row> rows{
        {"seed of 15 bytes", [](auto& m) { m.set_seed(std::string(15, 'x')); }, kInvalidArgument, "seed has 15"},
        {"no seed", [](auto& m) { m.clear_seed(); }, kInvalidArgument, "seed has 0"},
        {"source of 5 bytes", [](auto& m) { m.set_source_v4("12345"); }, kInvalidArgument, "5 bytes"},
        {"source_v6 of 15 bytes", [](auto& m) { m.set_source_v6(std::string(15, 'x')); }, kInvalidArgument, "15 bytes"},
        {"site id 256", [](auto& m) { m.mutable_sites(0)->set_id(256); }, kLimit, "site id 256"},
        {"next hop id 65536", [](auto& m) { m.mutable_next_hops(0)->set_id(65536); }, kLimit, "next hop id 65536"},
        {"egress port 65536", [](auto& m) { m.mutable_next_hops(0)->set_port(65536); }, kLimit, "port 65536"},
        {"source MAC of 5 bytes", [](auto& m) { m.mutable_next_hops(0)->set_source("12345"); }, kInvalidArgument, "source has 5"},
        {"destination MAC of 7 bytes", [](auto& m) { m.mutable_next_hops(0)->set_destination("1234567"); }, kInvalidArgument, "destination has 7"},
        {"pool id 65536", [](auto& m) { m.mutable_pools(0)->set_id(65536); }, kLimit, "pool id 65536"},
        {"encap 256", [](auto& m) { m.mutable_pools(0)->set_encap(256); }, kInvalidArgument, "encap 256"},
        {"hash 256", [](auto& m) { m.mutable_pools(0)->set_hash(256); }, kInvalidArgument, "hash 256"},
        {"on_empty 256", [](auto& m) { m.mutable_pools(0)->set_on_empty(256); }, kInvalidArgument, "on_empty 256"},
        {"stranded 256", [](auto& m) { m.mutable_pools(0)->set_stranded(256); }, kInvalidArgument, "stranded 256"},
        {"vip id 65536", [](auto& m) { m.mutable_pools(0)->mutable_vips(0)->set_id(65536); }, kLimit, "vip id 65536"},
        {"vip without an address", [](auto& m) { m.mutable_pools(0)->mutable_vips(0)->clear_address(); }, kInvalidArgument, "0 bytes"},
        {"vip port 65536", [](auto& m) { m.mutable_pools(0)->mutable_vips(0)->set_port(65536); }, kLimit, "port 65536"},
        {"vip protocol 262", [](auto& m) { m.mutable_pools(0)->mutable_vips(0)->set_protocol(262); }, kInvalidArgument, "protocol 262"},
        {"pool site 256", [](auto& m) { m.mutable_pools(0)->mutable_sites(0)->set_site(256); }, kLimit, "site 256"},
        {"tier 256", [](auto& m) { m.mutable_pools(0)->mutable_sites(0)->set_tier(256); }, kInvalidArgument, "tier 256"},
        {"backend id 65536", [&](auto& m) { backend(m)->set_id(65536); }, kLimit, "backend id 65536"},
        {"backend address of 3 bytes", [&](auto& m) { backend(m)->set_address("123"); }, kInvalidArgument, "3 bytes"},
        {"backend's hop 65536", [&](auto& m) { backend(m)->set_next_hop(65536); }, kLimit, "next hop 65536"},
    };
    // clang-format on
    for (const Row& row : rows) {
        CAPTURE(row.name);
        wire::Plan message;
        encode(sample(), message);
        row.spoil(message);
        const auto decoded = decode(message);
        REQUIRE(!decoded);
        CHECK(decoded.error().code == row.code);
        CHECK_MESSAGE(decoded.error().what.find(row.says) != std::string::npos, decoded.error().what);
    }
}

TEST_CASE("switches survive the wire") {
    const std::vector<SiteSwitch> sites{
        {SiteId{0}, std::nullopt, Sequence{1}, kAdmitNone, kAdmitAll, false},
        {SiteId{254}, PoolId{4095}, Sequence{~0ULL}, Admit{655}, Admit{1}, true},
        {SiteId{3}, PoolId{0}, Sequence{0}, kAdmitAll, kAdmitNone, true},
        {SiteId{4}, std::nullopt, Sequence{2}, kAdmitNone, kAdmitNone, false, true},
    };
    for (const SiteSwitch& value : sites) {
        wire::SiteSwitch message;
        encode(value, message);
        CHECK(decode(message).value() == value);
    }
    for (const BackendSwitch& value : {BackendSwitch{BackendId{0}, Sequence{9}, true, false},
                                       BackendSwitch{BackendId{65534}, Sequence{10}, false, true},
                                       BackendSwitch{BackendId{7}, Sequence{11}, false, false, true}}) {
        wire::BackendSwitch message;
        encode(value, message);
        CHECK(decode(message).value() == value);
    }
}

TEST_CASE("limits of new flows survive the wire; one that names no target, or two, is refused") {
    const std::vector<FlowLimit> limits{
        {SiteId{254}, std::nullopt, Sequence{1}, 0, Refusal::kDrop},
        {std::nullopt, PoolId{4095}, Sequence{~0ULL}, ~0U, Refusal::kReset},
        {SiteId{0}, std::nullopt, Sequence{3}, std::nullopt, Refusal::kReset},
    };
    for (const FlowLimit& value : limits) {
        wire::FlowLimit message;
        encode(value, message);
        CHECK(decode(message).value() == value);
    }
    struct Row {
        const char* name;
        std::function<void(wire::FlowLimit&)> spoil;
        ErrorCode code;
    };
    const std::vector<Row> rows{
        {"no target", [](auto& m) { m.clear_site(); }, ErrorCode::kInvalidArgument},
        {"two targets", [](auto& m) { m.set_pool(1); }, ErrorCode::kInvalidArgument},
        {"site 255", [](auto& m) { m.set_site(255); }, ErrorCode::kLimit},
        {"refusal 2", [](auto& m) { m.set_refusal(2); }, ErrorCode::kInvalidArgument},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        wire::FlowLimit message;
        encode(FlowLimit{SiteId{1}, std::nullopt, Sequence{3}, 5}, message);
        row.spoil(message);
        REQUIRE(!decode(message));
        CHECK(decode(message).error().code == row.code);
    }
    wire::FlowLimit pool;
    pool.set_pool(4096);
    REQUIRE(!decode(pool));
    CHECK(decode(pool).error().code == ErrorCode::kLimit);
}

TEST_CASE("switches beyond the bounds are refused") {
    struct Row {
        const char* name;
        std::function<void(wire::SiteSwitch&)> spoil;
    };
    const std::vector<Row> rows{
        {"site 255", [](auto& m) { m.set_site(255); }},
        {"pool 4096", [](auto& m) { m.set_pool(4096); }},
        {"admit 65536", [](auto& m) { m.set_admit(65536); }},
        {"admit_mid 65536", [](auto& m) { m.set_admit_mid(65536); }},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        wire::SiteSwitch message;
        encode(SiteSwitch{SiteId{1}, PoolId{2}, Sequence{3}}, message);
        row.spoil(message);
        REQUIRE(!decode(message));
        CHECK(decode(message).error().code == ErrorCode::kLimit);
    }
    wire::BackendSwitch backend;
    backend.set_backend(65535);
    REQUIRE(!decode(backend));
    CHECK(decode(backend).error().code == ErrorCode::kLimit);
}

TEST_CASE("errors survive the wire, and a code that is not known is the other side's failure") {
    const Error error{ErrorCode::kOutdated, "applying the plan", "generation 3 is older than 4"};
    wire::Failure message;
    encode(error, message);
    CHECK(decode(message).code == ErrorCode::kOutdated);
    CHECK(decode(message).to_string() == error.to_string());
    message.set_code(200);
    CHECK(decode(message).code == ErrorCode::kSystem);
}
