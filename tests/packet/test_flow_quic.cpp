// hash = "quic-cid": a connection id that names a backend is followed from any address; all else goes by the
// addresses.
#include <doctest/doctest.h>

#include "tests/support/fast_path.h"
#include "tests/support/quic_packets.h"

using namespace detour;
using namespace detour::support;
using api::Reason;

namespace {

struct Client {
    bool v6 = false;
    std::uint16_t port = 7000;
    [[nodiscard]] Frame frame() const {
        Frame out;
        out.ether(kRouterMac, kHostMac);
        v6 ? out.ipv6("2001:db8:c::7", "2001:db8:f::10") : out.ipv4("198.51.100.7", "203.0.113.10");
        return out.udp(port, 53);
    }
    [[nodiscard]] Bytes sends(const Bytes& datagram) const { return frame().raw(datagram).bytes(); }
};

api::ForwardingPlan quic_plan(api::Stranded stranded = api::Stranded::kRehash) {
    return make_plan({.encap = api::Encap::kIpip,
                      .stranded = stranded,
                      .hash = api::HashKey::kQuicCid,
                      .sites = 3,
                      .backends = 4});
}

Out handshake(FastPath& fast, const Client& client) {
    return fast.send(client.sends(quic_long(QuicType::kInitial, kQuic1, Bytes(8, 0x33))));
}

/// A client whose addresses don't lead to backend 1203.
Client elsewhere(bool v6) {
    FastPath fast(quic_plan());
    Client client{v6};
    while (handshake(fast, client).backend == 1203) ++client.port;
    return client;
}

}  // namespace

TEST_CASE("a connection id keeps its backend when the client's address changes, byte by byte") {
    for (const bool v6 : {false, true}) {
        FastPath fast(quic_plan());
        const Out initial = handshake(fast, {v6});
        CHECK(initial.reason == Reason::kForwardedNew);
        for (std::uint16_t port = 7001; port < 7050; ++port) {
            const Bytes frame = Client{v6, port}.sends(quic_short(server_cid(initial.backend)));
            const Out moved = fast.send(frame);
            CHECK(moved.reason == Reason::kForwardedCid);
            CHECK(moved.backend == initial.backend);
            Frame want;
            want.ether(kOutMac, kNextHopMac)
                .ipv4("192.0.2.1", backend_address(initial.site, initial.backend % 100U, false));
            CHECK(moved.bytes == want.inner(frame).bytes());
            CHECK(fast.send(frame).reason == Reason::kForwardedPinned);
        }
        CHECK(fast.count(Reason::kForwardedCid) == 49);
    }
}

TEST_CASE("a connection id beats the flow's entry, and the entry learns from it") {
    for (const bool v6 : {false, true}) {
        for (const auto& from_server :
             {quic_short(server_cid(1203)), quic_long(QuicType::kHandshake, kQuic1, server_cid(1203)),
              quic_long(QuicType::kHandshake, kQuic2, server_cid(1203)), quic_short(server_cid(1203, 1))}) {
            FastPath fast(quic_plan());
            const Client client = elsewhere(v6);
            CHECK(handshake(fast, client).backend != 1203);
            const Out named = fast.send(client.sends(from_server));
            CHECK(named.reason == Reason::kForwardedCid);
            CHECK(named.backend == 1203);
            CHECK(fast.send(client.sends(from_server)).reason == Reason::kForwardedPinned);
            // What names nobody goes where the entry says.
            const Out other = fast.send(client.sends(quic_short(Bytes(20, 0xff))));
            CHECK(other.reason == Reason::kForwardedPinned);
            CHECK(other.backend == 1203);
        }
    }
}

TEST_CASE("what a client may have made up, and what names nobody, goes by the addresses") {
    using enum QuicType;
    struct Row {
        const char* name;
        Bytes datagram;
    };
    const Bytes cid = server_cid(1203);
    const std::vector<Row> rows{
        {"an Initial of version 1", quic_long(kInitial, kQuic1, cid)},
        {"an Initial of version 2", quic_long(kInitial, kQuic2, cid)},
        {"0-RTT of version 1", quic_long(kZeroRtt, kQuic1, cid)},
        {"0-RTT of version 2", quic_long(kZeroRtt, kQuic2, cid)},
        {"an unknown version", quic_long(kHandshake, 0x0a0a0a0a, cid)},
        {"a configuration that is not in use", quic_short(quic_lb_cid(2, {12, 3}))},
        {"no configuration", quic_short(quic_lb_cid(7, {2, 3}))},
        {"a server id that nobody has", quic_short(quic_lb_cid(0, {9, 9}))},
        {"too short for an id", quic_short({0, 2, 3}, 3)},
        {"an empty datagram", {}},
        {"an id longer than any", quic_long(kHandshake, kQuic1, Bytes(21, 0))},
    };
    const api::ForwardingPlan by_addresses = make_plan({.sites = 3, .backends = 4});
    for (const Row& row : rows) {
        for (const bool v6 : {false, true}) {
            INFO(row.name);
            const Bytes frame = Client{v6}.sends(row.datagram);
            FastPath fast(quic_plan());
            FastPath plain(by_addresses);
            const Out out = fast.send(frame);
            CHECK(out.reason == Reason::kForwardedNew);
            CHECK(out.backend == plain.send(frame).backend);
            CHECK(fast.send(frame).reason == Reason::kForwardedPinned);
        }
    }
}

TEST_CASE("a drained site's connections are followed while they are kept, whatever admits new ones") {
    for (const bool v6 : {false, true}) {
        FastPath fast(quic_plan());
        const api::SiteId site{2};
        const Bytes datagram = quic_short(server_cid(1203));
        const auto from = [&](std::uint16_t port) { return fast.send(Client{v6, port}.sends(datagram)); };
        struct Row {
            const char* name;
            core::SwitchValue value;
            bool followed;
        };
        const std::vector<Row> rows{
            {"all is well", {}, true},
            {"a drain began, or it went dark a moment ago", {api::kAdmitNone, api::kAdmitAll, true}, true},
            {"it ramps up", {api::Admit{655}, api::kAdmitNone, true}, true},
            {"the drain is over, or it is dark", {api::kAdmitNone, api::kAdmitNone, false}, false},
            {"its flows are ended", {api::kAdmitNone, api::kAdmitNone, false, true}, false},
        };
        std::uint16_t port = 8000;
        for (const Row& row : rows) {
            INFO(row.name);
            fast.host.set_site(site, row.value);
            CHECK((from(++port).backend == 1203) == row.followed);
            fast.host.set_site(site, {});
            fast.host.set_pool_site(api::PoolId{1}, site, row.value);
            CHECK((from(++port).backend == 1203) == row.followed);
            fast.host.set_pool_site(api::PoolId{1}, site, {});
        }
        fast.host.set_backend(api::BackendId{1203}, {.up = false, .keep = true});
        CHECK_MESSAGE(from(++port).backend == 1203, "takes nothing new, keeps what it has");
        fast.host.set_backend(api::BackendId{1203}, {.up = false, .keep = false});
        CHECK_MESSAGE(from(++port).backend != 1203, "dead");
    }
}

TEST_CASE(
    "a dark site's connection moves once and stays moved, and is followed again when the site keeps again") {
    FastPath fast(quic_plan());
    const Bytes frame = Client{}.sends(quic_short(server_cid(1203)));
    CHECK(fast.send(frame).backend == 1203);
    fast.host.set_site(api::SiteId{2}, {api::kAdmitNone, api::kAdmitNone, false});
    const Out moved = fast.send(frame);
    CHECK(moved.reason == Reason::kForwardedRehashed);
    CHECK(moved.site != 2);
    const Out again = fast.send(frame);
    CHECK(again.reason == Reason::kForwardedPinned);
    CHECK(again.backend == moved.backend);
    fast.host.set_site(api::SiteId{2}, {});
    CHECK(fast.send(frame).backend == 1203);
}

TEST_CASE("a migrated connection is no new flow: no limit refuses it") {
    FastPath fast(quic_plan());
    fast.host.set_limit(api::PoolId{1}, {true, 0, api::Refusal::kDrop});
    CHECK(handshake(fast, {}).reason == Reason::kShed);
    CHECK(fast.send(Client{}.sends(quic_short(server_cid(1203)))).reason == Reason::kForwardedCid);
}

TEST_CASE("a server id whose backend left the plan names nobody") {
    FastPath fast(quic_plan());
    const Bytes frame = Client{}.sends(quic_short(server_cid(1203)));
    CHECK(fast.send(frame).backend == 1203);
    api::ForwardingPlan smaller = quic_plan();
    smaller.generation = api::Generation{2};
    smaller.pools[1].sites[1].backends.pop_back();
    fast.apply(smaller);
    CHECK(fast.send(frame).reason == Reason::kForwardedRehashed);
    CHECK(fast.send(frame).backend != 1203);
}

TEST_CASE("TCP of a pool with server ids goes by the addresses; other pools' UDP does too") {
    FastPath fast(quic_plan());
    FastPath plain(make_plan({.sites = 3, .backends = 4}));
    Frame syn;
    syn.ether(kRouterMac, kHostMac).ipv4("198.51.100.7", "203.0.113.10").tcp({7000, 443, kSyn, 1, 0});
    CHECK(fast.send(syn.bytes()).backend == plain.send(syn.bytes()).backend);
    api::ForwardingPlan mixed = quic_plan();
    mixed.pools[1].hash = api::HashKey::kFiveTuple;
    for (auto& site : mixed.pools[1].sites)
        for (auto& backend : site.backends) backend.server_ids.clear();
    fast.apply(mixed);
    const Bytes frame = Client{false, 7777}.sends(quic_short(server_cid(1203)));
    CHECK(fast.send(frame).backend == plain.send(frame).backend);
    CHECK(fast.count(Reason::kForwardedCid) == 0);
}

TEST_CASE("a first fragment is followed by its connection id, the later ones with it") {
    FastPath fast(quic_plan());
    Frame head;
    head.ether(kRouterMac, kHostMac)
        .ipv4("198.51.100.7", "203.0.113.10", {.id = 5, .df = false, .fragment = 0x2000});
    const Out out = fast.send(head.udp(7000, 53).raw(quic_short(server_cid(1203), 1201 - 11)).bytes());
    CHECK(out.reason == Reason::kForwardedCid);
    CHECK(out.backend == 1203);
    Frame tail;
    tail.ether(kRouterMac, kHostMac)
        .ipv4("198.51.100.7", "203.0.113.10", {.id = 5, .df = false, .protocol = 17, .fragment = 151});
    const Out later = fast.send(tail.raw(Bytes(100, 1)).bytes());
    CHECK(later.reason == Reason::kForwardedFragment);
    CHECK(later.backend == 1203);
}
