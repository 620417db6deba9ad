#include "control/health/bfd/session_table.h"

#include <doctest/doctest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

using namespace detour;
using namespace detour::bfd;
using namespace std::chrono_literals;

namespace {

constexpr Monotonic kNow{1000s};

api::IpAddress address(const char* text) {
    return *api::IpAddress::parse(text);
}

/// 0, 0, 0, 0, 1, 1, 1, 1, 2 …: a zero and repetitions, which must not become discriminators.
SessionTable::Random counting() {
    return [drawn = std::uint32_t{0}]() mutable { return drawn++ / 4; };
}

Path single(const char* remote) {
    return {Hop::kSingle, address(remote), std::nullopt, Interface{}, Ttl{}};
}

/// A table with one single-hop session at 10.0.0.1 on interface 3 and one multi-hop session of 10.9.0.9.
struct World {
    SessionTable table{counting()};
    SessionId one =
        *table.add({Hop::kSingle, address("10.0.0.2"), address("10.0.0.1"), Interface{3}, Ttl{}}, {}, kNow);
    SessionId far =
        *table.add({Hop::kMulti, address("10.9.0.9"), std::nullopt, Interface{}, Ttl{250}}, {}, kNow);
    std::vector<SessionId> reached;

    void deliver(ControlPacket packet, const Arrival& arrival) {
        const auto bytes = encode(packet);
        table.on_datagram(bytes, arrival, kNow, [this](SessionId id, const Step&) { reached.push_back(id); });
    }
    ControlPacket packet(SessionId to, State state = State::kDown) {
        ControlPacket result;
        result.state = state;
        result.detect_mult = 3;
        result.mine = Discriminator{77};
        result.yours = to == SessionId{} ? Discriminator{} : table.find(to)->local();
        return result;
    }
};

Arrival on_link() {
    return {Hop::kSingle, address("10.0.0.2"), address("10.0.0.1"), Interface{3}, Ttl{255}};
}
Arrival from_far() {
    return {Hop::kMulti, address("10.9.0.9"), address("10.0.0.1"), Interface{4}, Ttl{250}};
}

}  // namespace

TEST_CASE("a packet reaches the session that it names, or whose path it came by") {
    World world;
    world.deliver(world.packet(SessionId{}), on_link());
    world.deliver(world.packet(world.one), on_link());
    world.deliver(world.packet(SessionId{}), from_far());
    world.deliver(world.packet(world.far, State::kInit), from_far());
    CHECK(world.reached == std::vector{world.one, world.one, world.far, world.far});
    CHECK(world.table.counters().received == 4);
}

TEST_CASE("what does not belong is dropped, and counted under its reason alone") {
    struct Row {
        std::string name;
        std::function<void(World&, ControlPacket&, Arrival&)> spoil;
        Drop expected;
    };
    const std::vector<Row> rows = {
        {"single hop with TTL 254", [](World&, ControlPacket&, Arrival& a) { a.ttl = Ttl{254}; }, Drop::kTtl},
        {"single hop with TTL 0", [](World&, ControlPacket&, Arrival& a) { a.ttl = Ttl{0}; }, Drop::kTtl},
        {"multi hop under its least TTL",
         [](World& w, ControlPacket& p, Arrival& a) {
             p = w.packet(w.far);
             a = from_far();
             a.ttl = Ttl{249};
         },
         Drop::kTtl},
        {"unknown discriminator", [](World&, ControlPacket& p, Arrival&) { p.yours = Discriminator{99}; },
         Drop::kUnknownDiscriminator},
        {"no such sender",
         [](World&, ControlPacket& p, Arrival& a) {
             p.yours = Discriminator{};
             a.source = address("10.0.0.3");
         },
         Drop::kNoSession},
        {"no discriminator, other interface",
         [](World&, ControlPacket& p, Arrival& a) {
             p.yours = Discriminator{};
             a.interface = Interface{4};
         },
         Drop::kNoSession},
        {"right discriminator, other sender",
         [](World&, ControlPacket&, Arrival& a) { a.source = address("10.0.0.3"); }, Drop::kWrongPath},
        {"right discriminator, other receiver",
         [](World&, ControlPacket&, Arrival& a) { a.destination = address("10.0.0.9"); }, Drop::kWrongPath},
        {"right discriminator, other interface",
         [](World&, ControlPacket&, Arrival& a) { a.interface = Interface{4}; }, Drop::kWrongPath},
        {"a single-hop session by the multi-hop port, round the TTL check",
         [](World&, ControlPacket&, Arrival& a) {
             a.hop = Hop::kMulti;
             a.ttl = Ttl{9};
         },
         Drop::kWrongPath},
        {"a multi-hop session by the single-hop port",
         [](World& w, ControlPacket& p, Arrival& a) {
             p = w.packet(w.far);
             a = from_far();
             a.hop = Hop::kSingle;
             a.ttl = Ttl{255};
         },
         Drop::kWrongPath},
        {"what the codec drops", [](World&, ControlPacket& p, Arrival&) { p.detect_mult = 0; },
         Drop::kDetectMultZero},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        World world;
        ControlPacket packet = world.packet(world.one);
        Arrival arrival = on_link();
        row.spoil(world, packet, arrival);
        world.deliver(packet, arrival);
        CHECK(world.reached.empty());
        CHECK(world.table.counters().received == 0);
        std::uint64_t all = 0;
        for (const std::uint64_t count : world.table.counters().dropped) all += count;
        CHECK(all == 1);
        CHECK(world.table.counters().of(row.expected) == 1);
        CHECK(world.table.find(world.one)->state() == State::kDown);
    }
}

TEST_CASE("discriminators are never zero and never twice") {
    SessionTable table(counting());
    std::set<Discriminator> seen;
    for (int i = 0; i < 64; ++i) {
        const auto id = table.add(single(("10.0.0." + std::to_string(i)).c_str()), {}, kNow);
        REQUIRE(id.has_value());
        CHECK(table.find(*id)->local() != Discriminator{});
        CHECK(seen.insert(table.find(*id)->local()).second);
    }
    const auto more = table.add(single("10.0.1.1"), {}, kNow);
    REQUIRE_FALSE(more.has_value());
    CHECK(more.error().code == api::ErrorCode::kLimit);
}

TEST_CASE("a path that packets could not be told apart by is refused, one that they can is not") {
    struct Row {
        std::string name;
        Path path;
        bool accepted;
    };
    const Path base{Hop::kSingle, address("10.0.0.2"), address("10.0.0.1"), Interface{3}, Ttl{}};
    const auto changed = [&](auto change) {
        Path path = base;
        change(path);
        return path;
    };
    const std::vector<Row> rows = {
        {"the same", base, false},
        {"any local address", changed([](Path& p) { p.local.reset(); }), false},
        {"any interface", changed([](Path& p) { p.interface = Interface{}; }), false},
        {"another least TTL", changed([](Path& p) { p.least_ttl = Ttl{9}; }), false},
        {"other local address", changed([](Path& p) { p.local = address("10.0.0.5"); }), true},
        {"other interface", changed([](Path& p) { p.interface = Interface{4}; }), true},
        {"other remote address", changed([](Path& p) { p.remote = address("10.0.0.6"); }), true},
        {"other kind of hop", changed([](Path& p) { p.hop = Hop::kMulti; }), true},
        {"two families", changed([](Path& p) { p.remote = address("fd00::1"); }), false},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        SessionTable table(counting());
        REQUIRE(table.add(base, {}, kNow).has_value());
        const auto added = table.add(row.path, {}, kNow);
        CHECK(added.has_value() == row.accepted);
        if (!added) CHECK(added.error().code == api::ErrorCode::kInvalidArgument);
    }
}

TEST_CASE("intervals out of range are refused") {
    SessionTable table(counting());
    for (const Intervals& wrong : {Intervals{0us, 50ms, 3}, Intervals{50ms, 0us, 3}, Intervals{50ms, 50ms, 0},
                                   Intervals{microseconds{0x1'0000'0000}, 50ms, 3}, Intervals{50ms, -1us, 3}})
        CHECK(table.add(single("10.0.0.2"), wrong, kNow).error().code == api::ErrorCode::kInvalidArgument);
    CHECK(table.size() == 0);
    CHECK(table.add(single("10.0.0.2"), {1us, microseconds{0xffff'ffff}, 255}, kNow).has_value());
}

TEST_CASE("timers run each session that is due; a removed one is gone") {
    World world;
    std::vector<SessionId> sent;
    const auto sink = [&](SessionId id, const Step& step) {
        if (step.send) sent.push_back(id);
    };
    CHECK(world.table.next_timer() == kNow);
    world.table.on_timer(kNow, sink);
    CHECK(sent == std::vector{world.one, world.far});
    world.table.on_timer(kNow, sink);
    CHECK(sent.size() == 2);
    const ControlPacket late = world.packet(world.one);
    world.table.remove(world.one);
    CHECK(world.table.find(world.one) == nullptr);
    CHECK(world.table.path(world.one) == nullptr);
    world.deliver(late, on_link());
    CHECK(world.table.counters().of(Drop::kUnknownDiscriminator) == 1);
    world.table.remove(world.far);
    CHECK(world.table.next_timer() == health::kNever);
}
