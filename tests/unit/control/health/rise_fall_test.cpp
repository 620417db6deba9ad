#include "control/health/rise_fall.h"

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

#include "control/health/due_queue.h"

using namespace detour::health;
using namespace std::chrono_literals;

namespace {

/// 'o' an answer, 'm' a miss, '-' not sent; serials in order.
State after(const std::string& results, Thresholds thresholds = {3, 2}) {
    RiseFall state;
    std::uint64_t serial = 0;
    for (const char c : results) {
        const Cause cause = c == 'o' ? Cause::kOk : c == 'm' ? Cause::kTimeout : Cause::kNotSent;
        (void)state.on_result(cause, ++serial, thresholds);
    }
    return state.state();
}

}  // namespace

TEST_CASE("fall misses in a row make down, rise answers in a row make up, anything less changes nothing") {
    struct Row {
        std::string results;
        State expected;
    };
    const std::vector<Row> rows = {
        {"", State::kUnknown},      {"m", State::kUnknown},      {"mm", State::kUnknown},
        {"mmm", State::kDown},      {"mmmm", State::kDown},      {"o", State::kUnknown},
        {"oo", State::kUp},         {"mmommo", State::kUnknown}, {"oommo", State::kUp},
        {"oommm", State::kDown},    {"oommmo", State::kDown},    {"oommmoo", State::kUp},
        {"oommmomo", State::kDown}, {"oom-m-m", State::kDown},   {"oo------", State::kUp},
        {"----", State::kUnknown},  {"oommommommo", State::kUp},
    };
    for (const Row& row : rows) {
        CAPTURE(row.results);
        CHECK(after(row.results) == row.expected);
    }
    CHECK(after("m", {1, 1}) == State::kDown);
    CHECK(after("mo", {1, 1}) == State::kUp);
}

TEST_CASE("each cause but 'ok' and 'not sent' is a miss, and only 'not sent' says nothing") {
    for (const Cause cause : {Cause::kTimeout, Cause::kRefused, Cause::kReset, Cause::kUnreachable,
                              Cause::kBadStatus, Cause::kBadResponse, Cause::kBadBody}) {
        CAPTURE(to_string(cause));
        RiseFall state;
        CHECK(state.on_result(cause, 1, {1, 1}).changed);
        CHECK(state.state() == State::kDown);
        CHECK(state.last() == cause);
    }
    RiseFall state;
    const auto step = state.on_result(Cause::kNotSent, 1, {1, 1});
    CHECK_FALSE(step.changed);
    CHECK_FALSE(step.first_miss);
}

TEST_CASE("suspicion starts with the first miss after an answer, once") {
    RiseFall state;
    CHECK(state.on_result(Cause::kTimeout, 1, {3, 2}).first_miss);
    CHECK_FALSE(state.on_result(Cause::kTimeout, 2, {3, 2}).first_miss);
    CHECK_FALSE(state.on_result(Cause::kOk, 3, {3, 2}).first_miss);
    CHECK(state.on_result(Cause::kTimeout, 4, {3, 2}).first_miss);
}

TEST_CASE("a late miss of an older probe does not count against a newer answer") {
    RiseFall state;
    (void)state.on_result(Cause::kOk, 1, {2, 2});
    (void)state.on_result(Cause::kOk, 4, {2, 2});
    (void)state.on_result(Cause::kTimeout, 2, {2, 2});
    (void)state.on_result(Cause::kTimeout, 3, {2, 2});
    CHECK(state.state() == State::kUp);
    CHECK(state.misses() == 0);
    (void)state.on_result(Cause::kTimeout, 5, {2, 2});
    (void)state.on_result(Cause::kTimeout, 6, {2, 2});
    CHECK(state.state() == State::kDown);
}

TEST_CASE("a late answer of an older probe does not undo a newer miss") {
    RiseFall state;
    (void)state.on_result(Cause::kRefused, 5, {1, 1});
    (void)state.on_result(Cause::kOk, 4, {1, 1});
    CHECK(state.state() == State::kDown);
}

TEST_CASE("a state that is taken over needs a whole run to change") {
    RiseFall state;
    state.set(State::kDown);
    (void)state.on_result(Cause::kOk, 1, {2, 2});
    CHECK(state.state() == State::kDown);
    (void)state.on_result(Cause::kOk, 2, {2, 2});
    CHECK(state.state() == State::kUp);
}

TEST_CASE("DueQueue gives items out by time, each at most once") {
    DueQueue queue;
    CHECK(queue.next() == kNever);
    CHECK_FALSE(queue.pop(kNever));
    queue.set(1, {30ms});
    queue.set(2, {10ms});
    queue.set(3, {20ms});
    queue.set(1, {5ms});  // earlier than before
    queue.remove(3);
    queue.remove(77);
    CHECK(queue.next() == Monotonic{5ms});
    CHECK_FALSE(queue.pop({4ms}));
    CHECK(queue.pop({50ms})->first == 1);
    CHECK(queue.pop({50ms})->first == 2);
    CHECK_FALSE(queue.pop({50ms}));
}

TEST_CASE("an answer of the service itself shows that it lives; a reset is the kernel's") {
    for (const Cause cause : {Cause::kOk, Cause::kBadStatus, Cause::kNotServing, Cause::kTlsFailed}) {
        CHECK(served(cause));
        CHECK(answered(cause));
    }
    for (const Cause cause : {Cause::kRefused, Cause::kReset}) {
        CHECK_FALSE(served(cause));
        CHECK(answered(cause));
    }
    for (const Cause cause : {Cause::kTimeout, Cause::kUnreachable, Cause::kNotSent}) {
        CHECK_FALSE(served(cause));
        CHECK_FALSE(answered(cause));
    }
}

TEST_CASE("jitter delays a turn by no more than its part of the interval, and uses the whole range") {
    detour::config::Health probe;
    probe.interval = std::chrono::milliseconds{200};
    CHECK(jitter_of(probe, 12345) == nanoseconds{0});
    probe.jitter = 0.25;
    std::array<int, 5> fifths{};  // of 50 ms
    for (std::uint64_t turn = 0; turn < 10'000; ++turn) {
        const nanoseconds late = jitter_of(probe, 0x1234567890abcdefULL ^ turn);
        REQUIRE(late >= nanoseconds{0});
        REQUIRE(late < nanoseconds(50ms));
        ++fifths[static_cast<std::size_t>(late / nanoseconds(10ms))];
    }
    for (const int part : fifths) CHECK(part == doctest::Approx(2000).epsilon(0.1));
}

TEST_CASE("next_on_grid is after now, at most one interval away, and on the same grid for ever") {
    for (const std::uint64_t phase : {0ULL, 1ULL, 199'999'999ULL, 200'000'000ULL, ~0ULL}) {
        for (const std::int64_t now : {0LL, 1LL, 199'999'999LL, 200'000'000LL, 123'456'789'012LL}) {
            const Monotonic at{nanoseconds{now}};
            const Monotonic next = next_on_grid(at, 200ms, phase);
            CHECK(next > at);
            CHECK(next - at <= nanoseconds(200ms));
            CHECK(next_on_grid(next, 200ms, phase) - next == nanoseconds(200ms));
        }
    }
}
