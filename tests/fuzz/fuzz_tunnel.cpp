// Any bytes as a packet from the tunnel's device, and as the answer to an echo. What is wrapped ends with the
// very bytes that were read.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "control/health/icmp_message.h"
#include "control/health/tunnel_packet.h"

using namespace detour;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const auto packet = std::make_unique<health::TunnelPacket>();
    static const core::HashSeed seed = core::make_hash_seed(api::FleetSeed::from_text("fuzz"));
    static const health::TunnelEnd end = [] {
        health::ProbeRequest asked;
        asked.address = api::IpAddress::v4({10, 1, 0, 11});
        asked.tunnel = health::ProbeTunnel{};
        return health::make_tunnel_end(asked, api::IpAddress::v4({192, 0, 2, 1}));
    }();
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    for (const bool v6 : {false, true}) {
        for (const auto form : {health::EchoBytes::kMessage, health::EchoBytes::kPacket})
            if (health::answers_echo(bytes, form, {v6, 0, 0, 0}) && size < health::kLeastEchoBytes)
                std::abort();
    }
    const auto room = packet->room();
    if (size > room.size()) return 0;
    std::copy_n(data, size, room.begin());
    if (!packet->read(size)) return 0;
    const auto outer = packet->wrap(end, seed);
    if (outer.empty()) return 0;
    if (outer.size() < 28 || outer.size() > size + 28) std::abort();
    if (!std::equal(outer.begin() + 28, outer.end(), data)) std::abort();
    return 0;
}
