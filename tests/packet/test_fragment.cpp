// Fragments: one datagram, one backend, in any order; what is wrong is dropped under its own reason.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using api::Reason;
using core::Verdict;

namespace {

constexpr std::string_view kClient4 = "198.51.100.7";
constexpr std::string_view kVip4 = "203.0.113.10";
constexpr std::string_view kClient6 = "2001:db8:c::7";
constexpr std::string_view kVip6 = "2001:db8:f::10";

Frame from_client(bool v6) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac);
    return v6 ? frame.ipv6(kClient6, kVip6) : frame.ipv4(kClient4, kVip4, {.df = false});
}

/// The part [begin, end) of `whole`'s payload as a fragment of datagram `id`; offsets in bytes.
Bytes fragment_of(const Bytes& whole, std::size_t begin, std::size_t end, std::uint16_t id) {
    const bool v6 = whole[12] == 0x86;
    const std::size_t header = 14U + (v6 ? 40U : 20U);
    const bool more = header + end < whole.size();
    const std::size_t size = end - begin;
    Bytes out(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(header));
    const auto put = [&](std::size_t at, std::size_t value) {
        out[at] = static_cast<std::uint8_t>(value >> 8U);
        out[at + 1] = static_cast<std::uint8_t>(value);
    };
    if (v6) {
        put(18, size + 8);
        const std::size_t field = begin | (more ? 1U : 0U);
        const Bytes extension{
            out[20], 0, static_cast<std::uint8_t>(field >> 8U), static_cast<std::uint8_t>(field),
            0,       0, static_cast<std::uint8_t>(id >> 8U),    static_cast<std::uint8_t>(id)};
        out[20] = 44;
        out.insert(out.end(), extension.begin(), extension.end());
    } else {
        put(16, size + 20);
        put(18, id);
        put(20, begin / 8 | (more ? 0x2000U : 0U));
        put(24, 0);
        put(24, plain_checksum({out.begin() + 14, out.begin() + 34}));
    }
    const auto payload = whole.begin() + static_cast<std::ptrdiff_t>(header);
    out.insert(out.end(), payload + static_cast<std::ptrdiff_t>(begin),
               payload + static_cast<std::ptrdiff_t>(end));
    return out;
}

std::vector<Bytes> cut(const Bytes& whole, std::size_t each, std::uint16_t id) {
    const std::size_t payload = whole.size() - (whole[12] == 0x86 ? 54U : 34U);
    std::vector<Bytes> parts;
    for (std::size_t at = 0; at < payload; at += each)
        parts.push_back(fragment_of(whole, at, std::min(payload, at + each), id));
    return parts;
}

}  // namespace

TEST_CASE("in every order, the four fragments of a datagram reach the backend of their flow") {
    for (const bool v6 : {false, true}) {
        for (const bool tcp : {false, true}) {
            CAPTURE(v6);
            CAPTURE(tcp);
            FastPath fast(make_plan({.sites = 3, .backends = 3}));
            std::array<std::size_t, 4> order{0, 1, 2, 3};
            std::uint16_t id = 1;
            do {
                Frame frame = from_client(v6);
                const auto port = static_cast<std::uint16_t>(40000 + id);
                const Bytes whole = tcp ? frame.tcp({port, 443, kAck, 7, 9}).payload(780).bytes()
                                        : frame.udp(port, 53).payload(781).bytes();
                const std::vector<Bytes> parts = cut(whole, 200, id++);
                REQUIRE(parts.size() == 4);
                std::vector<Out> outs;
                for (const std::size_t i : order) {
                    outs.push_back(fast.send(parts[i]));
                    for (const Out& out : fast.resume()) outs.push_back(out);
                }
                const std::uint16_t backend = fast.send(whole).backend;
                std::size_t sent = 0;
                for (const Out& out : outs) {
                    if (out.verdict == Verdict::kHold) continue;
                    CHECK(out.verdict == Verdict::kTransmit);
                    CHECK(out.backend == backend);
                    ++sent;
                }
                CHECK(sent == 4);
            } while (std::next_permutation(order.begin(), order.end()));
            CHECK(fast.count(Reason::kForwardedFragment) == 24 * 3);
            CHECK(fast.count(Reason::kFragment) == 0);
        }
    }
}

TEST_CASE("a fragment leaves whole, behind the tunnel's header of its flow") {
    FastPath fast(make_plan());
    const Bytes whole = from_client(false).udp(40000, 53).payload(500).bytes();
    const std::vector<Bytes> parts = cut(whole, 256, 9);
    const Out first = fast.send(parts[0]);
    const Out second = fast.send(parts[1]);
    REQUIRE(second.verdict == Verdict::kTransmit);
    const std::size_t outer = 42;
    CHECK(Bytes(second.bytes.begin() + outer, second.bytes.end()) ==
          Bytes(parts[1].begin() + 14, parts[1].end()));
    // GUE's source port, so the path through the network, is the flow's.
    CHECK(Bytes(second.bytes.begin() + 34, second.bytes.begin() + 36) ==
          Bytes(first.bytes.begin() + 34, first.bytes.begin() + 36));
}

TEST_CASE("tiny, overlapping, repeated and malformed fragments each have their reason") {
    const Bytes tcp = from_client(false).tcp({40000, 443, kAck, 7, 9}).payload(200).bytes();
    const Bytes udp = from_client(true).udp(40000, 53).payload(200).bytes();
    const auto last = [](const Bytes& b) { return b.size() - (b[12] == 0x86 ? 54U : 34U); };
    struct Row {
        const char* name;
        std::vector<Bytes> before;
        Bytes frame;
        Reason reason;
    };
    const Row rows[] = {
        {"TCP's header cut", {}, fragment_of(tcp, 0, 16, 1), Reason::kTinyFragment},
        {"TCP's flags in a second fragment", {}, fragment_of(tcp, 8, 40, 1), Reason::kTinyFragment},
        {"no multiple of 8", {}, fragment_of(tcp, 0, 30, 1), Reason::kBadFragment},
        {"empty", {}, fragment_of(udp, 16, 16, 1), Reason::kBadFragment},
        {"overlapping by one unit",
         {fragment_of(tcp, 0, 48, 1)},
         fragment_of(tcp, 40, 80, 1),
         Reason::kOverlappingFragment},
        {"after an overlap nothing of it goes",
         {fragment_of(udp, 0, 48, 1), fragment_of(udp, 40, 80, 1)},
         fragment_of(udp, 80, last(udp), 1),
         Reason::kFragment},
        {"the same again",
         {fragment_of(udp, 0, 48, 1), fragment_of(udp, 48, 80, 1)},
         fragment_of(udp, 48, 80, 1),
         Reason::kOverlappingFragment},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        FastPath fast(make_plan());
        for (const Bytes& frame : row.before) (void)fast.send(frame);
        const Out out = fast.send(row.frame);
        CHECK(out.verdict == Verdict::kDrop);
        CHECK(out.reason == row.reason);
        CHECK(fast.count(row.reason) == 1);
    }
    Bytes beyond = fragment_of(tcp, 24, 64, 1);
    beyond[20] = 0x1f;
    beyond[21] = 0xff;
    beyond[24] = beyond[25] = 0;
    const std::uint16_t sum = plain_checksum({beyond.begin() + 14, beyond.begin() + 34});
    beyond[24] = static_cast<std::uint8_t>(sum >> 8U);
    beyond[25] = static_cast<std::uint8_t>(sum);
    FastPath fast(make_plan());
    CHECK(fast.send(beyond).reason == Reason::kBadFragment);
}

TEST_CASE("who waits in vain is counted, and waiting is bounded per datagram and in all") {
    FastPath fast(make_plan());
    const Bytes whole = from_client(false).udp(40000, 53).payload(1000).bytes();
    std::size_t held = 0;
    for (std::size_t at = 8; at < 8 + 8 * 20; at += 8)
        held += fast.send(fragment_of(whole, at, at + 8, 1)).verdict == Verdict::kHold ? 1 : 0;
    CHECK(held == core::FragmentCache::kSlotsPerTag);
    for (std::uint16_t id = 2; id < 100; ++id)
        held += fast.send(fragment_of(whole, 8, 16, id)).verdict == Verdict::kHold ? 1 : 0;
    CHECK(held == core::FragmentCache::kSlots);
    const std::uint64_t refused = 20 + 98 - held;
    CHECK(fast.count(Reason::kFragment) == refused);
    fast.advance(std::chrono::milliseconds(core::FragmentCache::kPatience));
    CHECK(fast.resume().empty());
    CHECK(fast.count(Reason::kFragment) == refused + held);
    CHECK_FALSE(fast.worker->fragments.waiting());
}

TEST_CASE("a datagram for another port of a VIP's address is the kernel's, all of it") {
    FastPath fast(make_plan());
    const std::vector<Bytes> parts = cut(from_client(true).udp(40000, 9999).payload(500).bytes(), 256, 3);
    CHECK(fast.send(parts[1]).verdict == Verdict::kHold);
    CHECK(fast.send(parts[0]).verdict == Verdict::kKernel);
    const std::vector<Out> outs = fast.resume();
    REQUIRE(outs.size() == 1);
    CHECK(outs[0].verdict == Verdict::kKernel);
}

TEST_CASE("an identification may be used again as soon as its datagram is complete") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan());
        for (int again = 0; again < 3; ++again) {
            auto parts = cut(from_client(v6).udp(5353, 53).payload(900).bytes(), 304, 7);
            REQUIRE(parts.size() == 3);
            if (again == 1) std::swap(parts[1], parts[2]);
            for (const Bytes& part : parts) CHECK(fast.send(part).verdict == Verdict::kTransmit);
        }
        // Not before: what overlaps belongs to nobody.
        const auto parts = cut(from_client(v6).udp(5353, 53).payload(900).bytes(), 304, 7);
        CHECK(fast.send(parts[0]).verdict == Verdict::kTransmit);
        CHECK(fast.send(parts[1]).verdict == Verdict::kTransmit);
        CHECK(fast.send(parts[0]).reason == Reason::kOverlappingFragment);
    }
}

TEST_CASE("a flow's fragmented datagram that reaches another worker goes where the flow lives") {
    for (const bool v6 : {false, true}) {
        const auto plan = make_plan({.sites = 4, .backends = 3});
        FastPath owner(plan);
        FastPath other(plan);
        other.worker->know_others({owner.worker.get()});
        const Bytes whole = from_client(v6).udp(5353, 53).payload(400).bytes();
        const Out pinned = owner.send(whole);
        // Its site takes no new flows any more.
        const core::SwitchValue drained{api::kAdmitNone, api::kAdmitNone, true};
        for (FastPath* fast : {&owner, &other}) fast->host.set_site(api::SiteId{pinned.site}, drained);
        const auto parts = cut(whole, 200, 7);
        Out out = other.send(parts[0]);
        CHECK(out.reason == Reason::kForwardedPinned);
        CHECK(out.backend == pinned.backend);
        CHECK(other.send(parts[1]).backend == pinned.backend);
        CHECK(other.worker->pools[1].new_flows.get() == 0);
        // From then on this worker knows it too: whole datagrams, without a look elsewhere.
        CHECK(other.send(whole).backend == pinned.backend);
        // Where the flow's backend no longer keeps it, it is chosen anew.
        FastPath third(plan);
        third.worker->know_others({owner.worker.get()});
        third.host.set_site(api::SiteId{pinned.site}, {api::kAdmitNone, api::kAdmitNone, false});
        out = third.send(parts[0]);
        CHECK(out.reason == Reason::kForwardedNew);
        CHECK(out.site != pinned.site);
    }
}

TEST_CASE("a first fragment that is too big is answered, a later one never") {
    for (const bool v6 : {false, true}) {
        FastPath fast(make_plan({.mtu = 1280}));
        const Bytes whole = from_client(v6).udp(5353, 53).payload(2900).bytes();
        const auto parts = cut(whole, 1304, 7);
        CHECK(fast.send(parts[0]).reason == Reason::kTooBigAnswered);
        FastPath wide(make_plan());
        CHECK(wide.send(cut(whole, 800, 8)[0]).reason == Reason::kForwardedNew);
        wide.apply(make_plan({.mtu = 1280}));
        CHECK(wide.send(fragment_of(whole, 800, 2104, 8)).reason == Reason::kTooBigUnanswered);
    }
}

TEST_CASE("a flood of first fragments takes places from one another, and from nobody else") {
    FastPath fast(make_plan());
    const Bytes whole = from_client(false).udp(40000, 53).payload(500).bytes();
    for (std::uint32_t id = 0; id < 60'000; ++id)
        CHECK(fast.send(fragment_of(whole, 0, 256, static_cast<std::uint16_t>(id))).verdict ==
              Verdict::kTransmit);
    CHECK(fast.send(fragment_of(whole, 256, 508, 59'999)).reason == Reason::kForwardedFragment);
}

TEST_CASE("of datagrams that begin in one millisecond those that came last are known") {
    constexpr std::size_t kDatagrams = 4000;
    constexpr std::size_t kLast = core::FragmentCache::kSets;  // a quarter of the cache
    FastPath fast(make_plan());
    std::vector<Bytes> later;
    for (std::size_t id = 0; id < kDatagrams; ++id) {
        const Bytes whole = from_client(false).udp(999, 53).payload(40).bytes();
        const std::vector<Bytes> parts = cut(whole, 24, static_cast<std::uint16_t>(id));
        fast.send(parts[0]);
        if (id >= kDatagrams - kLast) later.push_back(parts[1]);
    }
    std::size_t forwarded = 0;
    for (const Bytes& part : later) forwarded += fast.send(part).reason == Reason::kForwardedFragment ? 1 : 0;
    MESSAGE("of " << kLast << " that came last " << forwarded << " were known");
    CHECK(forwarded >= kLast * 95 / 100);
}
