// build_tables: what a plan becomes, what is shared between plans, and what it costs.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "dataplane/api/wire.h"
#include "dataplane/core/tables.h"
#include "tests/support/random_seed.h"

using namespace detour;
using core::build_tables;

namespace {

api::IpAddress address(const std::string& text) {
    return api::IpAddress::parse(text).value();
}

struct Shape {
    std::size_t sites = 3;
    std::size_t pools = 2;
    std::size_t backends = 2;  ///< per pool and site
};

std::uint16_t backend_id(const Shape& shape, std::size_t pool, std::size_t site, std::size_t i) {
    return static_cast<std::uint16_t>((pool * shape.sites + site) * shape.backends + i);
}

api::ForwardingPlan make_plan(const Shape& shape) {
    api::ForwardingPlan plan;
    plan.generation = api::Generation{1};
    plan.seed = api::FleetSeed::from_text("tables");
    plan.source_v4 = address("192.0.2.1");
    plan.source_v6 = address("2001:db8::1");
    plan.next_hops.push_back(
        {api::NextHopId{0}, api::EgressPort{2}, {{2, 0, 0, 0, 0, 1}}, {{2, 0, 0, 0, 0, 2}}, 1500, true});
    for (std::size_t s = 0; s < shape.sites; ++s)
        plan.sites.push_back({api::SiteId{static_cast<std::uint8_t>(s)}, "", fmt::format("site-{}", s), {}});
    for (std::size_t p = 0; p < shape.pools; ++p) {
        api::PlanPool pool;
        pool.id = api::PoolId{static_cast<std::uint16_t>(p)};
        pool.vips.push_back({api::VipId{static_cast<std::uint16_t>(p)},
                             {address(fmt::format("203.0.{}.{}", p / 250, p % 250 + 1)), api::Port{443}}});
        for (std::size_t s = 0; s < shape.sites; ++s) {
            api::PlanPoolSite part{plan.sites[s].id, api::Weight{100}, api::Tier{0}, {}};
            for (std::size_t b = 0; b < shape.backends; ++b) {
                const std::uint16_t id = backend_id(shape, p, s, b);
                part.backends.push_back({api::BackendId{id},
                                         address(fmt::format("10.{}.{}.{}", s, id / 256, id % 256)),
                                         api::Weight{1}, api::NextHopId{0}});
            }
            pool.sites.push_back(part);
        }
        plan.pools.push_back(pool);
    }
    return plan;
}

using Tables = std::unique_ptr<const core::ForwardingTables>;

Tables build(const api::ForwardingPlan& plan, const core::ForwardingTables* previous = nullptr) {
    const auto checked = api::check(plan);
    if (!checked) FAIL(checked.error().to_string());
    return build_tables(plan, previous).value();
}

std::string hex(const core::EncapHeader& header) {
    std::string out;
    for (std::size_t i = 0; i < header.length; ++i) out += fmt::format("{:02x}", header.bytes[i]);
    return out;
}

const core::MaglevTable& maglev(const core::ForwardingTables& tables, std::size_t pool, std::uint8_t site) {
    const core::PoolEntry& entry = tables.pools[pool];
    return *entry.per_site[entry.site_index[site]].backends;
}

/// One pool with one backend of each family in one site.
api::ForwardingPlan two_families(api::Encap encap) {
    api::ForwardingPlan plan = make_plan({.sites = 1, .pools = 1, .backends = 2});
    plan.pools[0].encap = encap;
    plan.pools[0].sites[0].backends[0].address = address("10.1.0.11");
    plan.pools[0].sites[0].backends[1].address = address("2001:db8:1::11");
    return plan;
}

}  // namespace

TEST_CASE("the prebuilt header, byte by byte, for each encapsulation and family") {
    struct Row {
        const char* name;
        api::Encap encap;
        std::size_t backend;
        unsigned max_inner;
        std::string header;
    };
    const std::string v4 =
        "020000000002020000000001"
        "0800"
        "4500000000004000"
        "40{}"
        "c0000201"
        "0a01000b";
    const auto v4_with = [&](const char* rest) { return fmt::format(fmt::runtime(v4), rest); };
    const std::string v6 =
        "020000000002020000000001"
        "86dd"
        "60000000"
        "0000"
        "{}"
        "40"
        "20010db8000000000000000000000001"
        "20010db8000100000000000000000011";
    const auto v6_with = [&](const char* next) { return fmt::format(fmt::runtime(v6), next); };
    const std::vector<Row> rows{
        // Protocol and the sum so far.
        {"ipip over v4", api::Encap::kIpip, 0, 1480, v4_with("00910e")},
        {"gue over v4", api::Encap::kGue, 0, 1472,
         v4_with("11911f") + "0000"
                             "17c0"
                             "0000"
                             "0000"},
        {"gre over v4", api::Encap::kGre, 0, 1476, v4_with("2f913d") + "00000000"},
        {"ipip over v6", api::Encap::kIpip, 1, 1460, v6_with("00")},
        {"gue over v6", api::Encap::kGue, 1, 1452,
         v6_with("11") + "0000"
                         "17c0"
                         "0000"
                         "0000"},
        {"gre over v6", api::Encap::kGre, 1, 1456, v6_with("2f") + "00000000"},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        const Tables tables = build(two_families(row.encap));
        CHECK(hex(tables->headers[row.backend]) == row.header);
        CHECK(tables->headers[row.backend].port == 2);
        const core::BackendEntry& entry = tables->backends[row.backend];
        CHECK(entry.max_inner == row.max_inner);
        CHECK(entry.encap == row.encap);
        CHECK(entry.outer == (row.backend == 0 ? core::OuterFamily::kV4 : core::OuterFamily::kV6));
        CHECK(entry.flags == (core::kBackendPresent | core::kBackendResolved | core::kBackendHasSource));
        CHECK(entry.site == 0);
    }
}

TEST_CASE(
    "an IPv4 header's checksum field is the sum that makes it right once length and protocol are added") {
    const Tables tables = build(two_families(api::Encap::kIpip));
    std::array<std::uint8_t, 20> ip{};
    std::copy_n(tables->headers[0].bytes.begin() + 14, ip.size(), ip.begin());
    const std::uint32_t length = 1337;
    const std::uint32_t protocol = 41;
    std::uint32_t sum = static_cast<std::uint32_t>(ip[10]) * 256 + ip[11] + length + protocol;
    sum = (sum & 0xffffU) + (sum >> 16U);
    const std::uint32_t checksum = ~sum & 0xffffU;
    ip[2] = length / 256;
    ip[3] = length % 256;
    ip[9] = protocol;
    ip[10] = static_cast<std::uint8_t>(checksum / 256);
    ip[11] = static_cast<std::uint8_t>(checksum % 256);
    std::uint32_t whole = 0;
    for (std::size_t i = 0; i < ip.size(); i += 2)
        whole += static_cast<std::uint32_t>(ip[i]) * 256 + ip[i + 1];
    while (whole > 0xffff) whole = (whole & 0xffffU) + (whole >> 16U);
    CHECK(whole == 0xffff);
}

TEST_CASE("flags tell a missing source, an unresolved hop and a backend that is not in the plan") {
    api::ForwardingPlan plan = two_families(api::Encap::kGue);
    plan.source_v6.reset();
    plan.pools[0].sites[0].backends[0].id = api::BackendId{7};
    Tables tables = build(plan);
    CHECK(tables->backends[7].flags ==
          (core::kBackendPresent | core::kBackendResolved | core::kBackendHasSource));
    CHECK(tables->backends[1].flags == (core::kBackendPresent | core::kBackendResolved));
    for (const std::uint16_t absent : std::array<std::uint16_t, 4>{0, 6, 8, 65535}) {
        CHECK(!tables->has_backend(absent));
        if (absent < tables->headers.size()) CHECK(tables->headers[absent].length == 0);
    }
    CHECK(tables->has_backend(7));
    plan.next_hops[0].resolved = false;
    tables = build(plan);
    CHECK(tables->backends[7].flags == (core::kBackendPresent | core::kBackendHasSource));
}

TEST_CASE("each backend's hop decides its MACs, port and MTU") {
    api::ForwardingPlan plan = make_plan({.sites = 1, .pools = 1, .backends = 2});
    plan.next_hops.push_back(
        {api::NextHopId{9}, api::EgressPort{0}, {{6, 6, 6, 6, 6, 6}}, {{7, 7, 7, 7, 7, 7}}, 9000, true});
    plan.pools[0].sites[0].backends[1].next_hop = api::NextHopId{9};
    const Tables tables = build(plan);
    CHECK(hex(tables->headers[0]).substr(0, 24) == "020000000002020000000001");
    CHECK(hex(tables->headers[1]).substr(0, 24) == "070707070707060606060606");
    CHECK(tables->headers[0].port == 2);
    CHECK(tables->headers[1].port == 0);
    CHECK(tables->backends[1].max_inner - tables->backends[0].max_inner == 7500);
}

TEST_CASE("pools, VIPs and sites are found by their ids") {
    const Shape shape{.sites = 5, .pools = 7, .backends = 2};
    const api::ForwardingPlan plan = make_plan(shape);
    const Tables tables = build(plan);
    CHECK(tables->generation == plan.generation);
    CHECK(tables->resets_per_second == plan.resets_per_second);
    CHECK(tables->icmp_per_second == plan.icmp_per_second);
    REQUIRE(tables->pools.size() == 7);
    for (std::size_t p = 0; p < 7; ++p) {
        const api::PlanVip& vip = plan.pools[p].vips[0];
        std::array<std::uint64_t, 2> key{};
        std::copy_n(vip.vip.address.bytes().begin(), 16, reinterpret_cast<std::uint8_t*>(key.data()));
        const core::VipEntry* slot = tables->vips.find(key, 0, 6, __builtin_bswap16(443));
        REQUIRE(slot != nullptr);
        CHECK(slot->vip == vip.id.value());
        CHECK(tables->pools[slot->pool].id == plan.pools[p].id);
        for (std::uint8_t s = 0; s < 5; ++s) {
            CHECK(tables->pools[p].per_site[tables->pools[p].site_index[s]].site == s);
            for (std::uint32_t i = 0; i < maglev(*tables, p, s).size(); i += 50) {
                const std::uint16_t id = maglev(*tables, p, s).at(i);
                CHECK(tables->backends[id].site == s);
                CHECK(tables->backends[id].pool == p);
            }
        }
        CHECK(tables->pools[p].site_index[5] == core::kNoSiteId);
    }
}

TEST_CASE("a site without a backend that takes flows is not ranked and has no table") {
    api::ForwardingPlan plan = make_plan({.sites = 4, .pools = 1, .backends = 2});
    plan.pools[0].sites[1].backends.clear();
    for (api::PlanBackend& backend : plan.pools[0].sites[2].backends) backend.weight = api::Weight{0};
    plan.pools[0].sites[3].weight = api::Weight{0};
    const Tables tables = build(plan);
    CHECK(tables->pools[0].site_index[1] == core::kNoSiteId);
    CHECK(tables->pools[0].site_index[2] == core::kNoSiteId);
    for (unsigned slot = 0; slot < api::kSiteSlots; ++slot)
        REQUIRE(tables->pools[0].sites->ranks(slot) == 0xffffffffffffff00ULL);
    // A backend that takes no new flow still carries the ones it has.
    CHECK(tables->has_backend(plan.pools[0].sites[2].backends[0].id.value()));
    CHECK(tables->has_backend(plan.pools[0].sites[3].backends[0].id.value()));
}

TEST_CASE("pools of equal sites, weights and tiers share one site table, whatever their order") {
    api::ForwardingPlan plan = make_plan({.sites = 4, .pools = 5, .backends = 1});
    std::reverse(plan.pools[1].sites.begin(), plan.pools[1].sites.end());
    plan.pools[3].sites[0].weight = api::Weight{7};
    plan.pools[4].sites[0].tier = api::Tier{1};
    const Tables tables = build(plan);
    CHECK(tables->pools[0].sites == tables->pools[1].sites);
    CHECK(tables->pools[0].sites == tables->pools[2].sites);
    CHECK(tables->pools[0].sites != tables->pools[3].sites);
    CHECK(tables->pools[0].sites != tables->pools[4].sites);
    CHECK(tables->built.site_tables == 3);
    CHECK(tables->built.maglev_tables == 20);
}

TEST_CASE("a new plan builds only what it changes") {
    struct Row {
        const char* name;
        void (*change)(api::ForwardingPlan&);
        unsigned site_tables;
        unsigned maglev_tables;
    };
    const Shape shape{.sites = 3, .pools = 4, .backends = 3};
    const std::vector<Row> rows{
        {"nothing", [](auto&) {}, 0, 0},
        {"generation and verdicts",
         [](auto& p) {
             p.generation = api::Generation{9};
             p.sites[0].verdict = api::Sequence{5};
         },
         0, 0},
        {"one site's backends", [](auto& p) { p.pools[1].sites[2].backends.pop_back(); }, 0, 1},
        {"one backend's weight", [](auto& p) { p.pools[1].sites[2].backends[0].weight = api::Weight{2}; }, 0,
         1},
        {"one backend's id", [](auto& p) { p.pools[1].sites[2].backends[0].id = api::BackendId{999}; }, 0, 1},
        {"max_backends of a pool", [](auto& p) { p.pools[0].max_backends = 128; }, 0, 3},
        {"one pool's site weight", [](auto& p) { p.pools[0].sites[0].weight = api::Weight{1}; }, 1, 0},
        {"a site more",
         [](auto& p) {
             p.sites.push_back({api::SiteId{9}, "", "site-9", {}});
             p.pools[0].sites.push_back({api::SiteId{9},
                                         api::Weight{1},
                                         api::Tier{0},
                                         {{api::BackendId{900}, address("10.9.9.9"), api::Weight{1}, {}}}});
         },
         1, 1},
        {"a next hop",
         [](auto& p) {
             p.next_hops[0].mtu = 9000;
             p.next_hops[0].resolved = false;
         },
         0, 0},
        {"encap and stranded",
         [](auto& p) {
             p.pools[0].encap = api::Encap::kIpip;
             p.pools[0].stranded = api::Stranded::kKeep;
         },
         0, 0},
        {"a VIP", [](auto& p) { p.pools[0].vips[0].vip.port = api::Port{80}; }, 0, 0},
        {"a pool less", [](auto& p) { p.pools.erase(p.pools.begin()); }, 0, 0},
        {"order of everything",
         [](auto& p) {
             std::reverse(p.pools.begin(), p.pools.end());
             std::reverse(p.sites.begin(), p.sites.end());
             for (auto& pool : p.pools) {
                 std::reverse(pool.sites.begin(), pool.sites.end());
                 for (auto& s : pool.sites) std::reverse(s.backends.begin(), s.backends.end());
             }
         },
         0, 0},
        {"a site's key", [](auto& p) { p.sites[0].key = "renamed"; }, 1, 0},
        {"the fleet seed", [](auto& p) { p.seed = api::FleetSeed::from_text("another"); }, 1, 12},
    };
    const Tables before = build(make_plan(shape));
    CHECK(before->built.site_tables == 1);
    CHECK(before->built.maglev_tables == 12);
    for (const Row& row : rows) {
        CAPTURE(row.name);
        api::ForwardingPlan plan = make_plan(shape);
        row.change(plan);
        const Tables shared = build(plan, before.get());
        CHECK(shared->built.site_tables == row.site_tables);
        CHECK(shared->built.maglev_tables == row.maglev_tables);
        // What was shared is what would have been built.
        const Tables fresh = build(plan);
        for (std::size_t p = 0; p < plan.pools.size(); ++p) {
            bool same = true;
            for (unsigned slot = 0; slot < api::kSiteSlots; ++slot)
                same = same && shared->pools[p].sites->ranks(slot) == fresh->pools[p].sites->ranks(slot);
            for (const api::PlanPoolSite& part : plan.pools[p].sites) {
                const core::MaglevTable& a = maglev(*shared, p, part.site.value());
                const core::MaglevTable& b = maglev(*fresh, p, part.site.value());
                same = same && a.size() == b.size();
                for (std::uint32_t i = 0; same && i < a.size(); ++i) same = a.at(i) == b.at(i);
            }
            CHECK(same);
        }
        CHECK(shared->site_keys == fresh->site_keys);
        CHECK(std::ranges::equal(shared->headers, fresh->headers, {}, hex, hex));
    }
}

TEST_CASE("no choice depends on ids: the same plan under other ids leads to the same addresses") {
    const Shape shape{.sites = 5, .pools = 2, .backends = 4};
    api::ForwardingPlan plan = make_plan(shape);
    const Tables tables = build(plan);
    api::ForwardingPlan other = plan;
    const auto last = static_cast<std::uint16_t>(5 * 2 * 4 - 1);
    for (api::PlanSite& site : other.sites)
        site.id = api::SiteId{static_cast<std::uint8_t>(200 - site.id.value())};
    for (api::PlanPool& pool : other.pools) {
        pool.id = api::PoolId{static_cast<std::uint16_t>(4000 - pool.id.value())};
        for (api::PlanPoolSite& part : pool.sites) {
            part.site = api::SiteId{static_cast<std::uint8_t>(200 - part.site.value())};
            for (api::PlanBackend& backend : part.backends)
                backend.id = api::BackendId{static_cast<std::uint16_t>(last - backend.id.value())};
        }
    }
    const Tables renamed = build(other);
    for (std::size_t p = 0; p < 2; ++p) {
        for (unsigned slot = 0; slot < api::kSiteSlots; ++slot)
            for (unsigned rank = 0; rank < 5; ++rank)
                REQUIRE(core::SiteTable::site_at(renamed->pools[p].sites->ranks(slot), rank) ==
                        200 - core::SiteTable::site_at(tables->pools[p].sites->ranks(slot), rank));
        for (std::uint8_t s = 0; s < 5; ++s) {
            const core::MaglevTable& a = maglev(*tables, p, s);
            const core::MaglevTable& b = maglev(*renamed, p, static_cast<std::uint8_t>(200 - s));
            for (std::uint32_t i = 0; i < a.size(); ++i) REQUIRE(b.at(i) == last - a.at(i));
        }
    }
}

TEST_CASE(
    "1,000 pools in 16 sites with 10,000 backends are built quickly, and a change of one site at once") {
    struct Row {
        const char* name;
        std::size_t pools;
        std::size_t backends;
    };
    // The same number of backends spread thin and gathered.
    for (const Row& row : {Row{"1,000 pools, 16 sites, 16,000 backends", 1000, 1},
                           Row{"62 pools, 16 sites, 9,920 backends", 62, 10}}) {
        api::ForwardingPlan plan = make_plan({.sites = 16, .pools = row.pools, .backends = row.backends});
        const auto start = std::chrono::steady_clock::now();
        const Tables tables = build_tables(plan, nullptr).value();
        const std::chrono::duration<double, std::milli> whole = std::chrono::steady_clock::now() - start;
        plan.pools[7].sites[3].backends[0].weight = api::Weight{9};
        const auto again = std::chrono::steady_clock::now();
        const Tables changed = build_tables(plan, tables.get()).value();
        const std::chrono::duration<double, std::milli> one = std::chrono::steady_clock::now() - again;
        std::printf("%s: %.1f ms, one backend changed: %.1f ms\n", row.name, whole.count(), one.count());
        CHECK(tables->built.site_tables == 1);
        CHECK(changed->built.site_tables == 0);
        CHECK(changed->built.maglev_tables == 1);
        CHECK(whole.count() < 5000);
        CHECK(one.count() < 1000);
    }
}
