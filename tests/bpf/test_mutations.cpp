// Random damage to good frames: whatever comes, each program ends in one of its own verdicts, counts once and
// lets nothing out that was not inside.
#include <doctest/doctest.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "dataplane/bpf/steer_maps.h"
#include "tests/bpf/decap_frames.h"

using namespace detour::bpf_tests;
using detour::support::Frame;

namespace {

constexpr int kRuns = 25'000;  // of each program: 100,000 in all

using Random = std::mt19937_64;

std::size_t below(Random& random, std::size_t bound) {
    return random() % bound;
}

/// One to four bytes changed, and at times a cut or a tail.
Bytes damage(Random& random, Bytes frame) {
    for (std::size_t i = 0; i <= below(random, 4); ++i) {
        // Headers are where it matters.
        frame[below(random, std::min<std::size_t>(frame.size(), 110))] = static_cast<std::uint8_t>(random());
    }
    if (below(random, 4) == 0) frame.resize(14 + below(random, frame.size() - 13));
    if (below(random, 8) == 0) frame.resize(frame.size() + below(random, 64));
    return frame;
}

std::vector<Bytes> good_frames() {
    std::vector<Bytes> frames;
    for (const TunnelRow& row : kTunnelRows) frames.push_back(tunneled(row));
    for (const Family family : {Family::kV4, Family::kV6}) frames.push_back(client_frame(family));
    frames.push_back(outer(Family::kV6).extension(60).extension(0).inner(client_frame(Family::kV4)).bytes());
    frames.push_back(link().vlan(1).inner(tunneled(kTunnelRows[0])).bytes());
    const Bytes options{2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7};
    frames.push_back(
        link().ipv4("203.0.113.10", "198.51.100.7").tcp({.flags = 0x12, .options = options}).bytes());
    frames.push_back(
        link().ipv6("2001:db8:f::10", "2001:db8:c::7").tcp({.flags = 0x12, .options = options}).bytes());
    return frames;
}

std::uint64_t total(const Program& program, const char* map, std::uint32_t size) {
    const auto values = program.counters(map, size);
    return std::accumulate(values.begin(), values.end(), std::uint64_t{0});
}

template <class Check>
void run_damaged(const Program& program, Random& random, const Check& check) {
    const auto frames = good_frames();
    for (int i = 0; i < kRuns; ++i) {
        Bytes frame = damage(random, frames[below(random, frames.size())]);
        while (!program.takes(frame)) frame = damage(random, frames[below(random, frames.size())]);
        const Ran ran = program.run(frame);
        // CHECK per run would cost more than the run itself.
        if (!check(frame, ran)) FAIL("verdict ", ran.verdict, " for\n", detour::support::hex(frame));
    }
}

/// What comes out of a decapsulator is the frame itself, or ends as the frame ended: it only takes bytes
/// away. Only the ECN bits of the inner header may change, which is why the tail alone is compared.
bool is_frame_or_its_end(const Bytes& frame, const Bytes& out) {
    if (out.size() > frame.size() || out.size() < 14) return false;
    if (out.size() == frame.size()) return out == frame;
    if (out.size() < 14 + 20) return false;
    return std::equal(out.begin() + 14 + 20, out.end(),
                      frame.end() - static_cast<std::ptrdiff_t>(out.size() - 34));
}

}  // namespace

TEST_CASE("damaged frames never abort the decapsulator, each is counted once") {
    Random random(random_seed());
    const Program xdp = decap_program("detour_decap_x");
    run_damaged(xdp, random, [](const Bytes& frame, const Ran& ran) {
        return ran.verdict == XDP_DROP || (ran.verdict == XDP_PASS && is_frame_or_its_end(frame, ran.frame));
    });
    CHECK(total(xdp, "decap_counters", DECAP_COUNTERS) == kRuns);
    CHECK(counted(xdp, DECAP_FAILED) == 0);
    const Program tc = decap_program("detour_decap_t");
    run_damaged(tc, random, [](const Bytes& frame, const Ran& ran) {
        const bool passed = ran.verdict == static_cast<std::uint32_t>(TC_ACT_UNSPEC);
        return ran.verdict == TC_ACT_SHOT || (passed && is_frame_or_its_end(frame, ran.frame));
    });
    CHECK(total(tc, "decap_counters", DECAP_COUNTERS) == kRuns);
}

TEST_CASE("damaged frames never abort the clamp, the length stays") {
    Random random(random_seed());
    run_damaged(decap_program("detour_clamp"), random, [](const Bytes& frame, const Ran& ran) {
        return ran.verdict == static_cast<std::uint32_t>(TC_ACT_UNSPEC) && ran.frame.size() == frame.size();
    });
}

TEST_CASE("damaged frames never abort the steering program, and leave it as they came") {
    Random random(random_seed());
    const Program steer(DETOUR_STEER_OBJECT, "detour_steer");
    const std::uint8_t present = 1;
    const steer_address vip{STEER_FAMILY_V4, {203, 0, 113, 10}};
    steer.put("vip_addresses", vip, present);
    steer.put("vips", steer_vip{vip, 6, __builtin_bswap16(443)}, present);
    run_damaged(steer, random, [](const Bytes& frame, const Ran& ran) {
        return (ran.verdict == XDP_DROP || ran.verdict == XDP_PASS) && ran.frame == frame;
    });
}
