#include "control/health/bfd/session.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/random_seed.h"

using namespace detour::bfd;
using namespace std::chrono_literals;
using detour::health::nanoseconds;

namespace {

constexpr Discriminator kOurs{0x1111};
constexpr Discriminator kTheirs{0x2222};
constexpr Monotonic kStart{1000s};

ControlPacket from_peer(State state, microseconds interval = 50ms) {
    ControlPacket packet;
    packet.state = state;
    packet.detect_mult = 3;
    packet.mine = kTheirs;
    packet.yours = kOurs;
    packet.desired_min_tx = interval;
    packet.required_min_rx = interval;
    return packet;
}

Session fresh(Intervals intervals = {}) {
    return Session(intervals, kOurs, 42, kStart);
}

/// A session in the wanted state at kStart, its poll (if any) answered.
Session in_state(State state, Intervals intervals = {}) {
    Session session = fresh(intervals);
    (void)session.on_timer(kStart);
    if (state == State::kAdminDown) (void)session.disable(kStart);
    if (state == State::kInit || state == State::kUp)
        (void)session.on_packet(from_peer(State::kDown), kStart);
    if (state == State::kUp) (void)session.on_packet(from_peer(State::kUp), kStart);
    if (session.polling()) {
        ControlPacket answer = from_peer(state);
        answer.final = true;
        (void)session.on_packet(answer, kStart);
    }
    REQUIRE(session.state() == state);
    REQUIRE_FALSE(session.polling());
    return session;
}

/// Runs the timers until `end`, and gives the times of what was sent.
std::vector<std::pair<Monotonic, ControlPacket>> run(Session& session, Monotonic end) {
    std::vector<std::pair<Monotonic, ControlPacket>> sent;
    while (session.next_timer() <= end) {
        const Monotonic at = session.next_timer();
        const Step step = session.on_timer(at);
        if (step.send) sent.emplace_back(at, *step.send);
    }
    return sent;
}

}  // namespace

TEST_CASE("the state table of RFC 5880 section 6.8.6, row by row") {
    struct Row {
        State from;
        State received;
        State to;
    };
    using enum State;
    const std::vector<Row> rows = {
        {kAdminDown, kAdminDown, kAdminDown},
        {kAdminDown, kDown, kAdminDown},
        {kAdminDown, kInit, kAdminDown},
        {kAdminDown, kUp, kAdminDown},
        {kDown, kAdminDown, kDown},
        {kDown, kDown, kInit},
        {kDown, kInit, kUp},
        {kDown, kUp, kDown},
        {kInit, kAdminDown, kDown},
        {kInit, kDown, kInit},
        {kInit, kInit, kUp},
        {kInit, kUp, kUp},
        {kUp, kAdminDown, kDown},
        {kUp, kDown, kDown},
        {kUp, kInit, kUp},
        {kUp, kUp, kUp},
    };
    for (const Row& row : rows) {
        CAPTURE(to_string(row.from));
        CAPTURE(to_string(row.received));
        Session session = in_state(row.from);
        const Step step = session.on_packet(from_peer(row.received), kStart + 1ms);
        CHECK(session.state() == row.to);
        CHECK(step.changed.has_value() == (row.from != row.to));
        CHECK(session.remote_state() == row.received);
        if (row.to == kDown && row.from != kDown)
            CHECK(session.diagnostic() == Diagnostic::kNeighborSignaledDown);
        if (row.to == kUp) CHECK(session.diagnostic() == Diagnostic::kNone);
        // A change is told at once.
        if (row.from != row.to) {
            REQUIRE(step.send.has_value());
            CHECK(step.send->state == row.to);
            CHECK(step.send->mine == kOurs);
            CHECK(step.send->yours == kTheirs);
        }
    }
}

TEST_CASE("silence for the detection time ends Init and Up, and only those") {
    for (const State from : {State::kAdminDown, State::kDown, State::kInit, State::kUp}) {
        CAPTURE(to_string(from));
        Session session = in_state(from);
        (void)session.on_packet(from_peer(State::kInit == from ? State::kDown : State::kUp), kStart);
        (void)run(session, kStart + (150ms - 1us));
        CHECK(session.state() == from);
        const Step step = session.on_timer(kStart + 150ms);
        const bool falls = from == State::kInit || from == State::kUp;
        CHECK(step.changed.has_value() == falls);
        CHECK(session.state() == (falls ? State::kDown : from));
        if (falls) CHECK(session.diagnostic() == Diagnostic::kDetectionTimeExpired);
        CHECK(session.remote() == Discriminator{});
        if (from != State::kAdminDown) {
            REQUIRE(step.send.has_value());  // your discriminator is news, and the state
            CHECK(step.send->yours == Discriminator{});
            CHECK_FALSE(step.send->poll);
        }
        CHECK_FALSE(session.on_timer(kStart + 150ms).changed.has_value());  // once
    }
}

TEST_CASE("the detection time is the peer's multiplier times the slower of our receiving and its sending") {
    struct Row {
        microseconds ours;
        microseconds theirs;
        std::uint8_t multiplier;
        microseconds expected;
    };
    const std::vector<Row> rows = {
        {50ms, 50ms, 3, 150ms}, {50ms, 300ms, 3, 900ms},
        {200ms, 50ms, 5, 1s},   {50ms, 50ms, 1, 50ms},
        {50ms, 0us, 2, 100ms},  {50ms, microseconds{0xffff'ffff}, 255, microseconds{0xffff'ffffLL * 255}}};
    for (const Row& row : rows) {
        CAPTURE(row.expected.count());
        Session session = in_state(State::kUp, {50ms, row.ours, 3});
        ControlPacket packet = from_peer(State::kUp, row.theirs);
        packet.detect_mult = row.multiplier;
        packet.required_min_rx = 50ms;
        (void)session.on_packet(packet, kStart + 1ms);
        CHECK(session.detection_time() == row.expected);
        CHECK_FALSE(session.on_timer(kStart + (1ms + row.expected - 1us)).changed);
        CHECK(session.on_timer(kStart + 1ms + row.expected).changed == State::kDown);
    }
}

TEST_CASE("no faster than once a second while not Up, with jitter; our wishes are told truly") {
    Session session = fresh();
    const auto sent = run(session, kStart + 100s);
    REQUIRE(sent.size() >= 100);
    CHECK(sent.size() <= 134);
    CHECK(sent.front().first == kStart);
    for (std::size_t i = 0; i < sent.size(); ++i) {
        CHECK(sent[i].second.desired_min_tx == 1s);
        CHECK(sent[i].second.required_min_rx == 50ms);
        CHECK(sent[i].second.state == State::kDown);
        if (i == 0) continue;
        CHECK(sent[i].first - sent[i - 1].first >= 750ms);
        CHECK(sent[i].first - sent[i - 1].first <= 1s);
    }
}

TEST_CASE(
    "jitter takes 0 to 25 % off each interval, 10 to 25 % with a multiplier of 1, and uses the whole range") {
    for (const std::uint8_t multiplier : {std::uint8_t{1}, std::uint8_t{3}}) {
        Session session = in_state(State::kUp, {50ms, 50ms, multiplier});
        nanoseconds least = 1h;
        nanoseconds most = 0ns;
        std::optional<Monotonic> last;
        for (Monotonic now = kStart; now < kStart + 100s;) {
            (void)session.on_packet(from_peer(State::kUp), now);  // stays Up
            now = session.next_timer();
            REQUIRE(session.on_timer(now).send.has_value());
            if (last) {
                least = std::min(least, now - *last);
                most = std::max(most, now - *last);
            }
            last = now;
        }
        CHECK(least >= nanoseconds(37'500us));
        CHECK(least < nanoseconds(38ms));
        CHECK(most <= (multiplier == 1 ? nanoseconds(45ms) : nanoseconds(50ms)));
        CHECK(most > (multiplier == 1 ? nanoseconds(44'500us) : nanoseconds(49'500us)));
    }
}

TEST_CASE("we send no faster than the peer takes, and not at all when it takes nothing") {
    Session session = in_state(State::kUp);
    ControlPacket packet = from_peer(State::kUp);
    packet.required_min_rx = 400ms;
    packet.desired_min_tx = 10s;  // no detection meanwhile
    (void)session.on_packet(packet, kStart);
    CHECK(session.transmit_interval() == 400ms);
    packet.required_min_rx = 0us;
    (void)session.on_packet(packet, kStart);
    CHECK(run(session, kStart + 29s).empty());
    // A poll is answered even so, and who comes back after a silence must hear of us.
    packet.poll = true;
    CHECK(session.on_packet(packet, kStart + 29s).send->final);
    (void)run(session, kStart + 59s);
    CHECK(session.state() == State::kDown);
    CHECK(run(session, kStart + 70s).size() >= 10);
}

TEST_CASE("a poll is answered at once with Final and without Poll, in every state that listens") {
    for (const State from : {State::kDown, State::kInit, State::kUp}) {
        CAPTURE(to_string(from));
        Session session = in_state(from);
        ControlPacket packet = from_peer(State::kUp);
        packet.poll = true;
        const Step step = session.on_packet(packet, kStart + 1us);
        REQUIRE(step.send.has_value());
        CHECK(step.send->final);
        CHECK_FALSE(step.send->poll);
        CHECK(step.send->state == session.state());
    }
    Session off = in_state(State::kAdminDown);
    ControlPacket packet = from_peer(State::kUp);
    packet.poll = true;
    CHECK_FALSE(off.on_packet(packet, kStart + 1us).send.has_value());
}

TEST_CASE("coming up starts a poll for the fast interval, which lasts until Final") {
    Session session = in_state(State::kInit);
    const Step up = session.on_packet(from_peer(State::kUp), kStart);
    REQUIRE(up.send.has_value());
    CHECK(up.send->poll);
    CHECK(up.send->desired_min_tx == 50ms);
    CHECK(session.transmit_interval() == 50ms);  // faster takes effect at once
    for (const auto& [at, packet] : run(session, kStart + 140ms)) CHECK(packet.poll);
    ControlPacket answer = from_peer(State::kUp);
    answer.final = true;
    (void)session.on_packet(answer, kStart + 140ms);
    CHECK_FALSE(session.polling());
    const auto later = run(session, kStart + 280ms);
    CHECK(later.size() >= 2);
    for (const auto& [at, packet] : later) CHECK_FALSE(packet.poll);
}

TEST_CASE("slower sending and faster receiving wait for the peer's Final; the other two don't") {
    const auto answered = [](Session& session) {
        ControlPacket answer = from_peer(State::kUp);
        answer.final = true;
        (void)session.on_packet(answer, kStart + 80ms);
    };
    Session session = in_state(State::kUp, {100ms, 100ms, 3});
    const Step step = session.set_intervals({200ms, 60ms, 3}, kStart + 1ms);
    REQUIRE(step.send.has_value());
    CHECK(step.send->poll);
    CHECK(step.send->desired_min_tx == 200ms);
    CHECK(step.send->required_min_rx == 60ms);
    CHECK(session.transmit_interval() == 100ms);
    CHECK(session.detection_time() == 300ms);
    answered(session);
    CHECK(session.transmit_interval() == 200ms);
    CHECK(session.detection_time() == 180ms);

    (void)session.set_intervals({70ms, 90ms, 3}, kStart + 81ms);
    CHECK(session.transmit_interval() == 70ms);
    CHECK(session.detection_time() == 270ms);
    CHECK(session.polling());

    // Changed again under way: the first Final may answer the values before.
    (void)session.set_intervals({500ms, 90ms, 3}, kStart + 82ms);
    answered(session);
    CHECK(session.polling());
    CHECK(session.transmit_interval() == 70ms);
    answered(session);  // nothing was asked since
    CHECK(session.polling());
    CHECK(run(session, kStart + 160ms).front().second.poll);
    answered(session);
    CHECK_FALSE(session.polling());
    CHECK(session.transmit_interval() == 500ms);
}

TEST_CASE("a Final before our Poll was sent does not end it") {
    Session session = in_state(State::kInit);
    ControlPacket packet = from_peer(State::kUp);
    packet.poll = true;
    CHECK(session.on_packet(packet, kStart).send->final);  // Up now, but this packet could not ask
    packet.poll = false;
    packet.final = true;
    (void)session.on_packet(packet, kStart + 1ms);
    CHECK(session.polling());
    CHECK(run(session, kStart + 60ms).front().second.poll);
    (void)session.on_packet(packet, kStart + 60ms);
    CHECK_FALSE(session.polling());
}

TEST_CASE("a Final that nobody asked for changes nothing") {
    Session session = in_state(State::kUp);
    ControlPacket packet = from_peer(State::kUp);
    packet.final = true;
    CHECK_FALSE(session.on_packet(packet, kStart + 1ms).send.has_value());
    CHECK(session.state() == State::kUp);
}

TEST_CASE("a peer in demand mode gets no periodic packets while both are Up, and a poll all the same") {
    Session session = in_state(State::kUp);
    ControlPacket packet = from_peer(State::kUp, 10s);
    packet.required_min_rx = 50ms;
    packet.demand = true;
    (void)session.on_packet(packet, kStart);
    CHECK(run(session, kStart + 20s).empty());
    CHECK(session.set_intervals({200ms, 50ms, 3}, kStart + 20s).send->poll);
    CHECK(run(session, kStart + 21s).size() >= 5);
}

TEST_CASE("a session that is switched off says so once a second, hears nothing, and starts from Down") {
    Session session = in_state(State::kUp);
    const Step off = session.disable(kStart + 1ms);
    CHECK(off.changed == State::kAdminDown);
    REQUIRE(off.send.has_value());
    CHECK(off.send->state == State::kAdminDown);
    CHECK(off.send->diagnostic == Diagnostic::kAdministrativelyDown);
    CHECK(off.send->desired_min_tx == 1s);
    const auto sent = run(session, kStart + 10s);
    CHECK(sent.size() >= 9);
    for (const auto& [at, packet] : sent) CHECK(packet.state == State::kAdminDown);
    CHECK_FALSE(session.disable(kStart + 10s).changed.has_value());
    const Step on = session.enable(kStart + 10s);
    CHECK(on.changed == State::kDown);
    CHECK(on.send->state == State::kDown);
    CHECK_FALSE(session.enable(kStart + 10s).changed.has_value());
}

TEST_CASE("the reason of the fall is told until the session is up again") {
    Session session = in_state(State::kUp);
    (void)session.on_timer(kStart + 150ms);
    const Step init = session.on_packet(from_peer(State::kDown), kStart + 1s);
    CHECK(init.send->state == State::kInit);
    CHECK(init.send->diagnostic == Diagnostic::kDetectionTimeExpired);
    CHECK(session.on_packet(from_peer(State::kInit), kStart + 1s).send->diagnostic == Diagnostic::kNone);
}

TEST_CASE("two sessions over a lossy line come up, stay up without loss, and fall together when it is cut") {
    std::mt19937_64 random(detour::support::random_seed());
    for (int history = 0; history < 300; ++history) {
        Session a({50ms, 50ms, 3}, Discriminator{1}, random(), kStart);
        Session b({50ms, 80ms, 4}, Discriminator{2}, random(), kStart);
        int loss_percent = static_cast<int>(random() % 60);
        std::vector<std::pair<Session*, ControlPacket>> line;
        const auto carry = [&](Session& from, const Step& step) {
            if (!step.send || static_cast<int>(random() % 100) < loss_percent) return;
            line.emplace_back(&from == &a ? &b : &a, *step.send);
        };
        const auto advance = [&](Monotonic end) {
            for (Monotonic now = std::min(a.next_timer(), b.next_timer()); now <= end;
                 now = std::min(a.next_timer(), b.next_timer())) {
                carry(a, a.on_timer(now));
                carry(b, b.on_timer(now));
                for (std::size_t i = 0; i < line.size() && i < 1000; ++i) {
                    auto [to, packet] = line[i];
                    carry(*to, to->on_packet(packet, now));
                }
                REQUIRE(line.size() < 1000);  // no storm of answers to answers
                line.clear();
            }
        };
        advance(kStart + 20s);
        loss_percent = 0;
        advance(kStart + 25s);
        REQUIRE(a.state() == State::kUp);
        REQUIRE(b.state() == State::kUp);
        REQUIRE_FALSE(a.polling());
        REQUIRE_FALSE(b.polling());
        REQUIRE(a.transmit_interval() == 80ms);
        REQUIRE(b.transmit_interval() == 50ms);
        REQUIRE(a.detection_time() == 200ms);
        REQUIRE(b.detection_time() == 240ms);
        loss_percent = 100;
        advance(kStart + (25s + 240ms));
        REQUIRE(a.state() == State::kDown);
        REQUIRE(b.state() == State::kDown);
    }
}
