#include "control/failover/admission.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace detour;
using namespace detour::failover;
using namespace std::chrono_literals;

namespace {

const AdmissionRules kRules{10s, 2s, 60s};
constexpr Gate kOpen{};

Now at(health::nanoseconds time) {
    return {{time}, {time + 1'000'000s}};
}

Gate gate_of(unsigned admit, unsigned mid, bool keep) {
    return {api::Admit{static_cast<std::uint16_t>(admit)}, api::Admit{static_cast<std::uint16_t>(mid)}, keep};
}

}  // namespace

TEST_CASE("dark: no new flow at once, established ones until nothing was heard for strand_after") {
    Admission site;
    CHECK(site.gate() == kOpen);
    site.darken(at(100s), false);
    CHECK(site.gate() == gate_of(0, 65535, true));
    site.tick(at(101999ms), kRules);
    CHECK(site.gate().keep);
    CHECK(site.next(kRules, at(101s)) == health::Monotonic{102s});
    site.tick(at(102s), kRules);
    CHECK(site.gate() == gate_of(0, 0, false));
    CHECK(site.next(kRules, at(102s)) == health::kNever);
}

TEST_CASE("any sign of life starts the strand clock again") {
    Admission site;
    site.darken(at(100s), false);
    site.sign_of_life(at(101900ms));
    site.tick(at(102s), kRules);
    CHECK(site.gate().keep);
    site.tick(at(103899ms), kRules);
    CHECK(site.gate().keep);
    site.tick(at(103900ms), kRules);
    CHECK_FALSE(site.gate().keep);
}

TEST_CASE("a short darkness comes back by a ramp that only grows") {
    Admission site;
    site.darken(at(100s), false);
    site.tick(at(102s), kRules);
    site.lighten(at(105s), kRules);
    CHECK(site.gate() == gate_of(kRampFloor.value(), 0, true));
    api::Admit last = kRampFloor;
    for (auto time = 105s; time < 115s; time += 1s) {
        site.tick(at(time), kRules);
        CHECK(site.gate().admit >= last);
        CHECK(site.gate().admit_mid == api::kAdmitNone);
        last = site.gate().admit;
    }
    CHECK(last.value() == doctest::Approx(0.9 * 65535).epsilon(0.01));
    site.tick(at(115s), kRules);
    CHECK(site.gate() == kOpen);
    CHECK(site.phase() == Phase::kLive);
}

TEST_CASE("a wall clock that is set back never turns a ramp round and delays it by no more than the ramp") {
    Admission site;
    site.darken(at(100s), false);
    site.lighten(at(100s), kRules);
    site.tick(at(105s), kRules);
    const api::Admit half = site.gate().admit;
    CHECK(half.value() == doctest::Approx(0.5 * 65535).epsilon(0.01));
    const auto set_back = [](health::nanoseconds time) { return Now{{time}, {time}}; };
    site.tick(set_back(106s), kRules);
    CHECK(site.gate().admit == half);
    site.tick(set_back(116s), kRules);
    CHECK(site.gate() == kOpen);
}

TEST_CASE("a ramp that is over ends when next() says so, not a step later") {
    Admission site;
    site.darken(at(100s), false);
    site.lighten(at(100s), kRules);
    for (Now now = at(100s); site.phase() == Phase::kRamping; now = at(site.next(kRules, now).value)) {
        site.tick(now, kRules);
        REQUIRE(now.monotonic <= health::Monotonic{110s});
        REQUIRE(site.next(kRules, now) > now.monotonic);
    }
    CHECK(site.gate() == kOpen);
}

TEST_CASE("ramp 0 comes back at once") {
    Admission site;
    const AdmissionRules rules{0s, 2s, 60s};
    site.darken(at(100s), false);
    site.lighten(at(101s), rules);
    CHECK(site.gate() == kOpen);
}

TEST_CASE("dark for auto_return_within comes back by itself, a moment longer is held until released") {
    Admission site;
    site.darken(at(100s), false);
    site.lighten(at(160s), kRules);
    CHECK(site.phase() == Phase::kRamping);

    Admission later;
    later.darken(at(100s), false);
    later.lighten(at(160001ms), kRules);
    CHECK(later.phase() == Phase::kHeld);
    CHECK(later.gate() == gate_of(0, 0, true));
    later.release(at(170s), kRules);
    CHECK(later.phase() == Phase::kRamping);
}

TEST_CASE("one that was held does not get round it by going dark for a moment") {
    Admission site;
    site.darken(at(100s), false);
    site.lighten(at(200s), kRules);
    site.darken(at(210s), false);
    site.lighten(at(211s), kRules);
    CHECK(site.phase() == Phase::kHeld);
}

TEST_CASE("a drain takes no new flow, keeps what is there, and the mid-flow value of before") {
    Admission site;
    site.drain();
    CHECK(site.gate() == gate_of(0, 65535, true));
    site.undrain(at(200s), kRules, DrainEnd::kOperator);
    CHECK(site.gate() == gate_of(kRampFloor.value(), 0, true));
    site.drain();  // within the ramp
    CHECK(site.gate() == gate_of(0, 0, true));
    site.undrain(at(300s), kRules, DrainEnd::kOperator);
    CHECK(site.phase() == Phase::kRamping);
}

TEST_CASE("a drain of a part, or a drill, does not hold a site that was dark for a moment") {
    const detour::api::Admit most{65535 - 656};
    for (const DrainEnd end : {DrainEnd::kOperator, DrainEnd::kExpired}) {
        Admission back_within;
        back_within.drain(most);
        back_within.darken(at(100s), false);
        back_within.lighten(at(103s), kRules);
        CHECK(back_within.phase() == Phase::kRamping);
        back_within.tick(at(900s), kRules);
        CHECK(back_within.gate().admit == most);
        back_within.undrain(at(901s), kRules, end);
        back_within.tick(at(2000s), kRules);
        CHECK(back_within.gate().admit == detour::api::kAdmitAll);

        Admission back_after;
        back_after.drain(most);
        back_after.darken(at(100s), false);
        back_after.undrain(at(102s), kRules, end);
        back_after.lighten(at(103s), kRules);
        CHECK(back_after.phase() == Phase::kRamping);
    }
}

TEST_CASE("a drain that expires never lets in what was dark meanwhile") {
    struct Row {
        std::string name;
        bool back_before_the_end;
        DrainEnd end;
        Phase after;
    };
    const std::vector<Row> rows = {
        {"back before it expired", true, DrainEnd::kExpired, Phase::kHeld},
        {"back after it expired", false, DrainEnd::kExpired, Phase::kHeld},
        {"back before it was undrained", true, DrainEnd::kOperator, Phase::kHeld},
        {"back after it was undrained", false, DrainEnd::kOperator, Phase::kRamping},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        Admission site;
        site.drain();
        site.darken(at(100s), false);
        if (row.back_before_the_end) site.lighten(at(101s), kRules);
        site.undrain(at(102s), kRules, row.end);
        CHECK(site.gate().admit == api::kAdmitNone);
        if (!row.back_before_the_end) site.lighten(at(103s), kRules);
        CHECK(site.phase() == row.after);
    }
}

TEST_CASE("relight undoes darken, whatever was before") {
    Admission site;
    site.darken(at(100s), false);
    site.lighten(at(101s), kRules);
    site.tick(at(106s), kRules);
    const Gate ramping = site.gate();
    site.darken(at(106s), false);
    CHECK(site.gate().admit == api::kAdmitNone);
    site.relight();
    CHECK(site.gate() == ramping);
}

TEST_CASE("what is adopted gives the gate that it was adopted from") {
    struct Row {
        std::string name;
        bool drained;
        Gate in_force;
        Phase phase;
    };
    const std::vector<Row> rows = {
        {"live", false, kOpen, Phase::kLive},
        {"dark", false, gate_of(0, 65535, true), Phase::kDark},
        {"dark and stranded", false, gate_of(0, 0, false), Phase::kDark},
        {"ramping", false, gate_of(30000, 0, true), Phase::kRamping},
        {"drained", true, gate_of(0, 65535, true), Phase::kLive},
        {"drained within a ramp", true, gate_of(0, 0, true), Phase::kLive},
        {"drained, dark and stranded", true, gate_of(0, 0, false), Phase::kDark},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        Admission site;
        if (row.drained) site.drain();
        site.adopt(row.in_force, std::nullopt, kRules, at(500s));
        CHECK(site.phase() == row.phase);
        CHECK(site.gate() == row.in_force);
    }
}

TEST_CASE("what is adopted goes on from what the disk says") {
    AdmissionRecord held;
    held.phase = Phase::kHeld;
    Admission site;
    site.adopt(gate_of(0, 0, true), held, kRules, at(500s));
    CHECK(site.phase() == Phase::kHeld);

    AdmissionRecord dark;
    dark.phase = Phase::kDark;
    dark.dark_since = at(100s).wall;
    Admission old;
    old.adopt(gate_of(0, 0, false), dark, kRules, at(500s));
    CHECK(old.gate() == gate_of(0, 0, false));
    old.lighten(at(501s), kRules);
    CHECK(old.phase() == Phase::kHeld);  // dark since 100 s, not since the restart

    AdmissionRecord ramping;
    ramping.phase = Phase::kRamping;
    ramping.ramp_start = at(495s).wall;
    Admission ramp;
    ramp.adopt(gate_of(20000, 0, true), ramping, kRules, at(500s));
    ramp.tick(at(500s), kRules);
    CHECK(ramp.gate().admit.value() == doctest::Approx(0.5 * 65535).epsilon(0.01));
}

TEST_CASE("a site that answers probes but not its clients keeps 1 % of its new flows while it is dark") {
    Admission site;
    site.start_trickle();
    CHECK_FALSE(site.trickles());  // only what is dark
    site.darken(at(100s), true);
    site.start_trickle();
    CHECK(site.gate() == gate_of(kRampFloor.value(), 65535, true));
    site.sign_of_life(at(101s));
    site.tick(at(102s), kRules);
    CHECK(site.gate() == gate_of(kRampFloor.value(), 65535, true));

    Admission drained = site;
    drained.drain();
    CHECK(drained.gate() == gate_of(0, 65535, true));

    // Silent now: nothing, and its flows are let go as those of any dark site.
    Admission silent = site;
    site.tick(at(103s + 10min), kRules);  // nobody asked for a while: that says nothing
    CHECK(site.gate() == gate_of(kRampFloor.value(), 65535, true));
    silent.end_trickle({}, false);
    CHECK(silent.gate() == gate_of(0, 65535, true));
    silent.tick(at(103s), kRules);
    CHECK(silent.gate() == gate_of(0, 0, false));

    // A mistake: it trickles on.
    Admission again = site;
    again.end_trickle(at(104s), false);
    CHECK(again.dark_at() == at(104s).monotonic);
    again.relight();
    CHECK(again.trickles());
    CHECK(again.record() == site.record());

    Admission held = site;
    held.hold_trickle();
    CHECK(held.phase() == Phase::kHeld);
    CHECK(held.gate() == gate_of(0, 0, true));
    held.release(at(105s), kRules);
    CHECK(held.phase() == Phase::kRamping);
    held.hold_trickle();
    CHECK(held.phase() == Phase::kRamping);  // only what trickles

    Admission adopted;
    adopted.adopt(site.gate(), site.record(), kRules, at(500s));
    CHECK(adopted.trickles());
    CHECK(adopted.gate() == site.gate());

    site.lighten(at(105s), kRules);
    CHECK_FALSE(site.trickles());
    CHECK(site.phase() == Phase::kRamping);
    CHECK(site.gate() == gate_of(kRampFloor.value(), 0, true));
}
