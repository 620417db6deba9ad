// The stages against the slow, obvious model: random flows, random switches, random backends down, flow by
// flow.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <array>
#include <map>
#include <random>

#include "tests/support/fast_path.h"
#include "tests/support/model.h"
#include "tests/support/quic_packets.h"
#include "tests/support/random_seed.h"
#include "tests/support/random_switches.h"

using namespace detour;
using namespace detour::support;

namespace {

struct Client {
    std::string address;
    std::uint16_t port;
    bool v6;
    bool udp;

    [[nodiscard]] model::Flow flow() const {
        const std::string vip =
            fmt::format("{}:{}", v6 ? "[2001:db8:f::10]" : "203.0.113.10", udp ? "53/udp" : "443/tcp");
        return {*api::IpAddress::parse(address), api::Port{port}, *api::Vip::parse(vip)};
    }
    [[nodiscard]] Bytes frame(std::uint8_t flags, std::uint32_t sequence) const {
        Frame out;
        out.ether(kRouterMac, kHostMac);
        v6 ? out.ipv6(address, "2001:db8:f::10") : out.ipv4(address, "203.0.113.10");
        udp ? out.udp(port, 53) : out.tcp({port, 443, flags, sequence, 1});
        return out.bytes();
    }
};

Client random_client(std::mt19937_64& random, std::size_t i) {
    const std::uint64_t r = random();
    const bool v6 = (r & 1U) != 0;
    // A port for each: no flow meets what an earlier one left in the tables.
    const auto port = static_cast<std::uint16_t>(1 + i % 65535);
    const std::string address =
        v6 ? fmt::format("2001:db8:{:x}::{:x}", r >> 48U, (r >> 32U) % 0xffffU + i / 65535)
           : fmt::format("198.{}.{}.{}", 18 + i / 65535, r >> 16U & 0xffU, r >> 24U & 0xffU);
    return {address, port, v6, (r & 6U) == 0};
}

void compare(const Out& out, const model::Choice& want) {
    if (!want.backend) {
        REQUIRE(out.reason == (want.site ? api::Reason::kNoBackend : api::Reason::kNoSite));
        return;
    }
    REQUIRE(out.verdict == core::Verdict::kTransmit);
    REQUIRE(out.backend == want.backend->value());
    REQUIRE(out.site == want.site->value());
}

/// Of all kinds: a server's connection ids and a client's, of both configurations and of others, long and
/// short headers, cut short.
Bytes random_datagram(std::mt19937_64& random, std::size_t sites, std::size_t backends) {
    const auto number =
        static_cast<std::uint16_t>(1000 + (1 + random() % (sites + 1)) * 100 + random() % (backends + 1));
    Bytes cid = server_cid(number, random() % 2);
    if (random() % 8 == 0) cid[0] = static_cast<std::uint8_t>(random());
    if (random() % 8 == 0) cid.resize(random() % 24);
    const std::uint32_t version = std::array<std::uint32_t, 3>{kQuic1, kQuic2, 0}[random() % 3];
    Bytes out = random() % 2 == 0 ? quic_short(cid, random() % 24)
                                  : quic_long(static_cast<QuicType>(random() % 4), version, cid);
    if (random() % 8 == 0) out.resize(random() % (out.size() + 1));
    return out;
}

}  // namespace

TEST_CASE("QUIC packets go where the model says, under random switches") {
    std::mt19937_64 random(support::random_seed());
    std::size_t named = 0;
    std::size_t client_number = 0;
    for (int round = 0; round < 30; ++round) {
        const std::size_t sites = 1 + random() % 8;
        const std::size_t backends = 1 + random() % 9;
        const api::ForwardingPlan plan =
            make_plan({.hash = api::HashKey::kQuicCid, .sites = sites, .backends = backends});
        const model::Model model(plan);
        FastPath fast(plan, 8192);
        const model::Switches switches = throw_switches(random, plan, fast.host);
        for (int i = 0; i < 1000; ++i) {
            Client c = random_client(random, client_number++);
            c.udp = true;
            const Bytes datagram = random_datagram(random, sites, backends);
            Frame with;
            with.ether(kRouterMac, kHostMac);
            c.v6 ? with.ipv6(c.address, "2001:db8:f::10") : with.ipv4(c.address, "203.0.113.10");
            const Out out = fast.send(with.udp(c.port, 53).raw(datagram).bytes());
            const auto by_cid = model.named(c.flow().vip, datagram, switches);
            compare(out, by_cid ? *by_cid : *model.choose(c.flow(), switches));
            REQUIRE((out.reason == api::Reason::kForwardedCid) == by_cid.has_value());
            named += by_cid ? 1 : 0;
        }
    }
    CHECK(named > 2000);
}

TEST_CASE("new and mid-flow packets go where the model says, under random switches") {
    std::mt19937_64 random(support::random_seed());
    std::size_t client_number = 0;
    for (int round = 0; round < 60; ++round) {
        const auto hash = round % 2 == 0 ? api::HashKey::kFiveTuple : api::HashKey::kSource;
        const api::ForwardingPlan plan =
            make_plan({.hash = hash, .sites = 1 + random() % 10, .backends = 1 + random() % 5});
        const model::Model model(plan);
        FastPath fast(plan, 8192);
        const model::Switches switches = throw_switches(random, plan, fast.host);
        for (int i = 0; i < 500; ++i) {
            const Client c = random_client(random, client_number++);
            compare(fast.send(c.frame(kSyn, 1)), *model.choose(c.flow(), switches, model::Admission::kNew));
            const Client d = random_client(random, client_number++);
            if (d.udp) continue;
            compare(fast.send(d.frame(kAck, 5)), *model.choose(d.flow(), switches, model::Admission::kMid));
        }
    }
}

TEST_CASE("a site going dark or drained: every flow against the model, pinned ones where they were") {
    std::mt19937_64 random(support::random_seed());
    const api::ForwardingPlan plan = make_plan({.sites = 5, .backends = 3});
    const model::Model model(plan);
    for (std::uint8_t dark = 1; dark <= 5; ++dark) {
        FastPath fast(plan, 8192);
        model::Switches switches;
        std::vector<std::pair<Client, std::uint16_t>> pinned;
        for (std::size_t i = 0; i < 1000; ++i) {
            Client c = random_client(random, i);
            c.udp = false;
            const model::Choice want = *model.choose(c.flow(), switches);
            compare(fast.send(c.frame(kSyn, 1)), want);
            compare(fast.send(c.frame(kAck, 2)), want);
            pinned.emplace_back(c, want.backend->value());
        }
        switches.sites[api::SiteId{dark}] = {api::kAdmitNone, api::kAdmitAll, true};
        fast.host.set_site(api::SiteId{dark}, switches.sites[api::SiteId{dark}]);
        for (const auto& [c, backend] : pinned) {
            REQUIRE(fast.send(c.frame(kAck, 2)).backend == backend);
            const model::Choice now = *model.choose(c.flow(), switches);
            REQUIRE(now.site->value() != dark);
            if (fast.tables->backends[backend].site != dark) REQUIRE(now.backend->value() == backend);
            compare(fast.send(c.frame(kSyn, 77)), now);
        }
    }
}
