// Arbitrary datagrams and times for a table of BFD sessions. Each record of the input is a control byte (how
// the datagram came, how much time passes), a length, and the datagram.
//
// Beside what the sanitizers see: what decode() accepts survives encoding; each datagram is counted once; a
// step never sends what our own decode() refuses; timers never stand still.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "control/health/bfd/session_table.h"

using namespace detour;
using namespace detour::bfd;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

void check_codec(std::span<const std::uint8_t> bytes) {
    const auto packet = decode(bytes);
    if (!packet) return require(static_cast<std::size_t>(packet.error()) < kDropCount);
    const auto again = decode(encode(*packet));
    require(again.has_value() && *again == *packet);
}

void check_step(const Step& step) {
    if (!step.send) return;
    require(decode(encode(*step.send)).has_value());
    require(!(step.send->poll && step.send->final));
}

std::uint64_t counted(const Counters& counters) {
    std::uint64_t sum = counters.received;
    for (const std::uint64_t dropped : counters.dropped) sum += dropped;
    return sum;
}

struct World {
    api::IpAddress peer = api::IpAddress::v4({10, 0, 0, 2});
    std::uint32_t next = 0;
    // Small discriminators, so that the fuzzer finds them.
    SessionTable table{[this] { return ++next; }};
    Monotonic now{};

    World() {
        require(table.add({Hop::kSingle, peer, std::nullopt, Interface{}, Ttl{}}, {}, now).has_value());
        require(table.add({Hop::kMulti, peer, std::nullopt, Interface{}, Ttl{}}, {}, now).has_value());
    }

    void run_timers() {
        const auto sink = [](SessionId, const Step& step) { check_step(step); };
        // Two steps a session are enough: the end of the detection time, and a transmission.
        for (int i = 0; i < 2; ++i) table.on_timer(now, sink);
        require(table.next_timer() > now);
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::span<const std::uint8_t> rest(data, size);
    World world;
    std::uint64_t datagrams = 0;
    while (rest.size() >= 2 && datagrams < 256) {
        const std::uint8_t how = rest[0];
        const std::size_t length = std::min<std::size_t>(rest[1], rest.size() - 2);
        const auto datagram = rest.subspan(2, length);
        rest = rest.subspan(2 + length);
        check_codec(datagram);
        world.now = world.now + std::chrono::milliseconds(1LL << (how >> 4));
        Arrival arrival{(how & 1) != 0 ? Hop::kMulti : Hop::kSingle, world.peer, world.peer, Interface{1},
                        Ttl{static_cast<std::uint8_t>((how & 2) != 0 ? 254 : 255)}};
        world.table.on_datagram(datagram, arrival, world.now,
                                [](SessionId, const Step& step) { check_step(step); });
        require(counted(world.table.counters()) == ++datagrams);
        world.run_timers();
    }
    return 0;
}
