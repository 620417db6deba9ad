// VLAN tags: looked through on the way in, set by the next hop on the way out, kept on answers.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using api::Reason;

namespace {

constexpr std::uint16_t kPort = 40000;

api::ForwardingPlan tagged(api::Encap encap, bool v6_backends, std::uint16_t vlan = 100) {
    api::ForwardingPlan plan = make_plan({.encap = encap, .v6_backends = v6_backends});
    plan.next_hops[0].vlan = vlan;
    return plan;
}

/// The client's frame, with a tag of the router's VLAN when `vlan` is not 0.
Frame client(bool v6, std::uint16_t vlan = 0) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac);
    if (vlan != 0) frame.vlan(vlan);
    return v6 ? frame.ipv6("2001:db8:c::7", "2001:db8:f::10") : frame.ipv4("198.51.100.7", "203.0.113.10");
}

/// `frame` with a tag behind its hardware addresses.
Bytes with_tag(const Bytes& frame, std::uint16_t id) {
    Bytes out(frame.size() + 4);
    std::copy(frame.begin(), frame.begin() + 12, out.begin());
    out[12] = 0x81;
    out[14] = static_cast<std::uint8_t>(id / 256U);
    out[15] = static_cast<std::uint8_t>(id % 256U);
    std::copy(frame.begin() + 12, frame.end(), out.begin() + 16);
    return out;
}

}  // namespace

TEST_CASE("a frame to a backend has its next hop's tag, and is the same beside") {
    for (const auto encap : {api::Encap::kIpip, api::Encap::kGue, api::Encap::kGre}) {
        for (const bool v6_backends : {false, true}) {
            for (const bool v6 : {false, true}) {
                for (const std::uint16_t vlan : std::array<std::uint16_t, 3>{1, 100, 4094}) {
                    FastPath with(tagged(encap, v6_backends, vlan));
                    FastPath without(tagged(encap, v6_backends, 0));
                    const Bytes syn = client(v6).tcp({kPort, 443, kSyn, 1000, 0}).bytes();
                    const Out out = with.send(syn);
                    CHECK(out.reason == Reason::kForwardedNew);
                    CHECK(out.port == 1);
                    CHECK(out.bytes == with_tag(without.send(syn).bytes, vlan));
                }
            }
        }
    }
}

TEST_CASE("a tag on the way in has no part in the way out") {
    FastPath plain(tagged(api::Encap::kGue, false, 0));
    FastPath with(tagged(api::Encap::kGue, false));
    const Bytes untagged = client(false).tcp({kPort, 443, kSyn, 1000, 0}).bytes();
    const Bytes from_vlan = client(false, 7).tcp({kPort, 443, kSyn, 1000, 0}).bytes();
    const Bytes want = plain.send(untagged).bytes;
    CHECK(plain.send(from_vlan).bytes == want);
    CHECK(with.send(from_vlan).bytes == with_tag(want, 100));
}

TEST_CASE("an answer keeps the tag that its packet came with, and gets no other") {
    for (const bool v6 : {false, true}) {
        FastPath fast(tagged(api::Encap::kGue, false));
        for (const auto& [flags, sequence] : {std::pair{kSyn, 1000U}, std::pair{kAck, 1001U}})
            CHECK(api::is_forwarded(
                fast.send(client(v6, 7).tcp({kPort, 443, flags, sequence, 1}).bytes()).reason));
        for (const std::uint8_t site : std::array<std::uint8_t, 2>{1, 2})
            fast.host.set_site(api::SiteId{site}, {api::kAdmitNone, api::kAdmitNone, false});
        const Out reset = fast.send(client(v6, 7).tcp({kPort, 443, kAck, 1001, 77}).bytes());
        CHECK(reset.reason == Reason::kResetSent);
        Frame want;
        want.ether(kHostMac, kRouterMac).vlan(7);
        v6 ? want.ipv6("2001:db8:f::10", "2001:db8:c::7") : want.ipv4("203.0.113.10", "198.51.100.7");
        CHECK(reset.bytes == want.tcp({443, kPort, kRst, 77, 0}).bytes());
    }
}

TEST_CASE("a backend that is told of its flows' end is told through the same VLAN") {
    FastPath with(tagged(api::Encap::kGue, false));
    FastPath without(tagged(api::Encap::kGue, false, 0));
    std::vector<Bytes> to_backends;
    for (FastPath* fast : {&with, &without}) {
        for (const auto& [flags, sequence] : {std::pair{kSyn, 1000U}, std::pair{kAck, 1001U}})
            CHECK(api::is_forwarded(
                fast->send(client(false).tcp({kPort, 443, flags, sequence, 1}).bytes()).reason));
        for (const std::uint8_t site : std::array<std::uint8_t, 2>{1, 2})
            fast->host.set_site(api::SiteId{site}, {api::kAdmitNone, api::kAdmitNone, false, true});
        CHECK(fast->send(client(false).tcp({kPort, 443, kAck, 1001, 77}).bytes()).reason ==
              Reason::kResetSent);
        const auto made = fast->made();
        REQUIRE(made.size() == 1);
        to_backends.push_back(made[0].bytes);
    }
    CHECK(to_backends[0] == with_tag(to_backends[1], 100));
}

TEST_CASE("without room for the tag a packet is dropped and counted, with just enough it goes") {
    FastPath fast(tagged(api::Encap::kIpip, false));
    const Bytes syn = client(false).tcp({kPort, 443, kSyn, 1000, 0}).bytes();
    CHECK(fast.send(syn, 20 + 3).reason == Reason::kNoHeadroom);
    CHECK(fast.count(Reason::kNoHeadroom) == 1);
    CHECK(fast.send(syn, 20 + 4).reason == Reason::kForwardedNew);
}

TEST_CASE("only the next hop that has a tag gives one") {
    api::ForwardingPlan plan = tagged(api::Encap::kGue, false);
    plan.next_hops.push_back(plan.next_hops[0]);
    plan.next_hops[1].id = api::NextHopId{1};
    plan.next_hops[1].vlan = 0;
    for (auto& pool : plan.pools)
        for (auto& backend : pool.sites[1].backends) backend.next_hop = api::NextHopId{1};
    FastPath fast(plan);
    std::size_t tags = 0;
    for (std::uint16_t port = 1; port <= 64; ++port) {
        const Out out = fast.send(client(false).tcp({port, 443, kSyn, 1, 0}).bytes());
        const bool has_tag = out.bytes[12] == 0x81;
        CHECK(has_tag == (out.site == 1));
        tags += has_tag ? 1 : 0;
    }
    CHECK(tags > 0);
    CHECK(tags < 64);
}
