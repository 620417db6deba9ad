// ICMP errors about answers that went to clients directly: they reach the backend that sent the answer.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using api::Reason;

namespace {

constexpr std::uint16_t kPort = 40000;

Frame client(bool v6) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac);
    return v6 ? frame.ipv6("2001:db8:c::7", "2001:db8:f::10") : frame.ipv4("198.51.100.7", "203.0.113.10");
}

/// What the backend sent to the client, as a router on the way quotes it.
Bytes quoted(bool v6, std::uint16_t vip_port = 443, bool udp = false) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac);
    v6 ? frame.ipv6("2001:db8:f::10", "2001:db8:c::7") : frame.ipv4("203.0.113.10", "198.51.100.7");
    udp ? frame.udp(vip_port, kPort) : frame.tcp({vip_port, kPort, kAck, 9000, 1001});
    return frame.payload(100).bytes();
}

/// The router's error, to the VIP.
Frame error(bool v6) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac);
    return v6 ? frame.ipv6("2001:db8:99::1", "2001:db8:f::10") : frame.ipv4("192.0.2.99", "203.0.113.10");
}
Bytes too_big(bool v6, const Bytes& quote) {
    Frame frame = error(v6);
    v6 ? frame.icmp(2, 0, 1280) : frame.icmp(3, 4, 1280);
    return frame.raw(Bytes(quote.begin() + 14, quote.end())).bytes();
}

std::uint16_t pin(FastPath& fast, bool v6) {
    const Out syn = fast.send(client(v6).tcp({kPort, 443, kSyn, 1000, 0}).bytes());
    fast.send(client(v6).tcp({kPort, 443, kAck, 1001, 1}).bytes());
    return syn.backend;
}

}  // namespace

TEST_CASE(
    "\"too big\" goes to the backend that the flow is pinned to, whole, even after its site was drained") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan({.encap = api::Encap::kIpip, .sites = 4, .backends = 3}));
        const std::uint16_t backend = pin(fast, v6);
        const std::uint8_t site = fast.tables->backends[backend].site;
        fast.host.set_site(api::SiteId{site}, {api::kAdmitNone, api::kAdmitNone, true});
        const Bytes frame = too_big(v6, quoted(v6));
        const Out out = fast.send(frame);
        CHECK(out.reason == Reason::kForwardedIcmp);
        CHECK(out.backend == backend);
        Frame want;
        want.ether(kOutMac, kNextHopMac).ipv4("192.0.2.1", backend_address(site, backend % 100U, false));
        const Bytes bytes = want.inner(frame).bytes();
        INFO("got\n" << hex(out.bytes) << "\nexpected\n" << hex(bytes));
        CHECK(out.bytes == bytes);
        CHECK(fast.count(Reason::kForwardedIcmp) == 1);
    }
}

TEST_CASE("an error that reaches another worker goes to the backend that the flow's own worker knows") {
    for (const bool v6 : {false, true}) {
        const auto plan = make_plan({.sites = 4, .backends = 3});
        FastPath owner(plan);
        FastPath other(plan);
        other.worker->know_others({owner.worker.get()});
        const std::uint16_t backend = pin(owner, v6);
        const std::uint8_t site = owner.tables->backends[backend].site;
        other.host.set_site(api::SiteId{site}, {api::kAdmitNone, api::kAdmitNone, true});
        const Out out = other.send(too_big(v6, quoted(v6)));
        CHECK(out.reason == Reason::kForwardedIcmp);
        CHECK(out.backend == backend);
        // A flow that was reset there is no flow any more.
        owner.host.set_site(api::SiteId{site}, {api::kAdmitNone, api::kAdmitNone, false});
        CHECK(owner.send(client(v6).tcp({kPort, 443, kAck, 1001, 1}).bytes()).reason == Reason::kResetSent);
        CHECK(other.send(too_big(v6, quoted(v6))).backend != backend);
    }
}

TEST_CASE("without an entry here, the error goes where the flow's own packets would") {
    for (const bool v6 : {false, true}) {
        for (const auto hash : {api::HashKey::kFiveTuple, api::HashKey::kSource}) {
            const PlanOptions options{.hash = hash, .sites = 5, .backends = 4};
            FastPath other(make_plan(options));
            const std::uint16_t backend = pin(other, v6);
            FastPath fast(make_plan(options));
            CHECK(fast.send(too_big(v6, quoted(v6))).backend == backend);
        }
    }
}

TEST_CASE("errors about UDP flows, and each kind of error") {
    FastPath fast(make_plan());
    for (const bool v6 : {false, true}) {
        const Bytes quote = quoted(v6, 53, true);
        const Out first = fast.send(client(v6).udp(kPort, 53).bytes());
        CHECK(fast.send(too_big(v6, quote)).backend == first.backend);
        const std::vector<std::uint8_t> types =
            v6 ? std::vector<std::uint8_t>{1, 2, 3, 4} : std::vector<std::uint8_t>{3, 11, 12};
        for (unsigned type = 0; type < 256; ++type) {
            Frame frame = error(v6);
            frame.icmp(static_cast<std::uint8_t>(type), 0, 0).raw(Bytes(quote.begin() + 14, quote.end()));
            const bool is_error = std::find(types.begin(), types.end(), type) != types.end();
            const bool is_echo = type == (v6 ? 128U : 8U);
            CHECK(fast.send(frame.bytes()).reason == (is_error  ? Reason::kForwardedIcmp
                                                      : is_echo ? Reason::kEchoAnswered
                                                                : Reason::kIcmpToKernel));
        }
    }
}

TEST_CASE("a fragmented IPv6 answer: the error quotes its first fragment") {
    FastPath fast(make_plan({.sites = 4, .backends = 3}));
    const Out first = fast.send(client(true).udp(kPort, 53).bytes());
    const auto answer = [](std::uint16_t offset_and_more, std::uint8_t protocol = 17) {
        Bytes quote = Frame()
                          .ether(kHostMac, kRouterMac)
                          .ipv6("2001:db8:f::10", "2001:db8:c::7")
                          .fragment(offset_and_more)
                          .udp(53, kPort)
                          .payload(1200)
                          .bytes();
        quote.at(14 + 40) = protocol;
        return quote;
    };
    const Out out = fast.send(too_big(true, answer(1)));
    CHECK(out.reason == Reason::kForwardedIcmp);
    CHECK(out.backend == first.backend);
    CHECK(fast.send(too_big(true, answer(8 * 100 + 1))).reason == Reason::kIcmpToKernel);  // a later one
    CHECK(fast.send(too_big(true, answer(1, 58))).reason == Reason::kIcmpToKernel);
    // Cut at every byte of the quote: 8 bytes of UDP behind the fragment header are needed.
    const Bytes quote = answer(1);
    for (std::size_t length = 14; length < 90; ++length) {
        const Bytes part(quote.begin(), quote.begin() + static_cast<std::ptrdiff_t>(length));
        CHECK(fast.send(too_big(true, part)).reason ==
              (length >= 14 + 40 + 8 + 8 ? Reason::kForwardedIcmp : Reason::kIcmpToKernel));
    }
}

TEST_CASE("an error that does not fit its tunnel is answered by nobody") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan({.mtu = v6 ? 1280U : 576U}));
        Bytes quote = quoted(v6);
        quote.resize(quote.size() + (v6 ? 1200 : 540));
        CHECK(fast.send(too_big(v6, quote)).reason == Reason::kTooBigUnanswered);
    }
}

TEST_CASE("an echo request to a VIP is answered whole, within a budget") {
    for (const bool v6 : {false, true}) {
        api::ForwardingPlan plan = make_plan();
        plan.icmp_per_second = 50;
        FastPath fast(plan);
        const auto request = [&](std::string_view address, bool to_vip = true) {
            Frame frame;
            frame.ether(kRouterMac, kHostMac).vlan(7);
            v6 ? frame.ipv6(address, to_vip ? "2001:db8:f::10" : "2001:db8:f::11", 3)
               : frame.ipv4(address, to_vip ? "203.0.113.10" : "203.0.113.11", {.id = 77, .ttl = 3});
            return frame.icmp(v6 ? 128 : 8, 0, 0x12345678).payload(56).bytes();
        };
        const std::string_view address = v6 ? "2001:db8:c::7" : "198.51.100.7";
        const Out out = fast.send(request(address));
        CHECK(out.reason == Reason::kEchoAnswered);
        Frame want;
        want.ether(kHostMac, kRouterMac).vlan(7);
        v6 ? want.ipv6("2001:db8:f::10", address) : want.ipv4("203.0.113.10", address, {.id = 77});
        const Bytes bytes = want.icmp(v6 ? 129 : 0, 0, 0x12345678).payload(56).bytes();
        INFO("got\n" << hex(out.bytes) << "\nexpected\n" << hex(bytes));
        CHECK(out.bytes == bytes);
        CHECK(fast.send(request(address, false)).reason == Reason::kIcmpToKernel);
        // The rest of the burst of a tenth of a second, and no more; errors have a budget of their own.
        for (int i = 1; i < 5; ++i) CHECK(fast.send(request(address)).reason == Reason::kEchoAnswered);
        CHECK(fast.send(request(address)).reason == Reason::kIcmpOverBudget);
        CHECK(fast.send(too_big(v6, quoted(v6))).reason == Reason::kForwardedIcmp);
        fast.advance(std::chrono::seconds(1));
        CHECK(fast.send(request(address)).reason == Reason::kEchoAnswered);
        // With options or extension headers the kernel may have it.
        Frame odd;
        odd.ether(kRouterMac, kHostMac);
        v6 ? odd.ipv6(address, "2001:db8:f::10").extension(60)
           : odd.ipv4(address, "203.0.113.10", {.options = Bytes(4, 1)});
        CHECK(fast.send(odd.icmp(v6 ? 128 : 8, 0, 1).bytes()).reason == Reason::kIcmpToKernel);
    }
}

TEST_CASE("what is about no VIP's flow is left to the kernel") {
    FastPath fast(make_plan());
    for (const bool v6 : {false, true}) {
        CHECK(fast.send(too_big(v6, quoted(v6, 22))).reason == Reason::kIcmpToKernel);
        // The quoted sender is not whom the error is sent to.
        CHECK(fast.send(too_big(v6, client(v6).tcp({443, kPort, kAck}).bytes())).reason ==
              Reason::kIcmpToKernel);
        // Cut at every byte of the quote: 8 bytes of TCP are needed.
        const Bytes quote = quoted(v6);
        const std::size_t needed = 14U + (v6 ? 40U : 20U) + 8U;
        for (std::size_t length = 14; length <= needed; ++length) {
            const Out out = fast.send(
                too_big(v6, Bytes(quote.begin(), quote.begin() + static_cast<std::ptrdiff_t>(length))));
            CHECK(out.reason == (length == needed ? Reason::kForwardedIcmp : Reason::kIcmpToKernel));
        }
    }
    // A later fragment has no ports; an options length beyond the quote.
    Bytes quote = quoted(false);
    quote[21] = 1;
    CHECK(fast.send(too_big(false, quote)).reason == Reason::kIcmpToKernel);
    quote = quoted(false);
    quote[14] = 0x4f;
    quote.resize(60);
    CHECK(fast.send(too_big(false, quote)).reason == Reason::kIcmpToKernel);
}

TEST_CASE("a reset flow's error is not sent after it, and passing on is limited in rate") {
    api::ForwardingPlan plan = make_plan();
    plan.icmp_per_second = 100;
    FastPath fast(plan);
    const std::uint16_t backend = pin(fast, false);
    fast.advance(std::chrono::seconds(1));
    fast.host.set_site(api::SiteId{fast.tables->backends[backend].site},
                       {api::kAdmitNone, api::kAdmitNone, false});
    fast.send(client(false).tcp({kPort, 443, kAck, 1001, 2}).bytes());
    CHECK(fast.send(too_big(false, quoted(false))).site != fast.tables->backends[backend].site);
    unsigned passed = 1;
    for (int i = 0; i < 100; ++i)
        passed += fast.send(too_big(false, quoted(false))).reason == Reason::kForwardedIcmp ? 1 : 0;
    CHECK(passed == 10);
    CHECK(fast.count(Reason::kIcmpOverBudget) == 91);
}
