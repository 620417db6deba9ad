#include "tests/bench/traffic.h"

#include <algorithm>
#include <random>

#include "tests/support/packets.h"

namespace detour::bench {
namespace {

constexpr std::size_t kFloodFactor = 10;  // one frame of ten is of an established flow
constexpr std::size_t kEthernet = 14;
constexpr std::size_t kFlagsInTcp = 13;

std::size_t frames_of(const Scenario& scenario) {
    return scenario.kind == Kind::kFlood ? scenario.flows * kFloodFactor : scenario.flows;
}
std::size_t stride_of(const Scenario& scenario) {
    return scenario.v6 ? Traffic::kStrideV6 : Traffic::kStrideV4;
}

support::Bytes frame_of(const Scenario& scenario, std::size_t pool) {
    const api::Vip vip = vip_of(scenario, pool);
    support::Frame frame;
    frame.ether("02:00:00:00:00:01", "02:00:00:00:00:02");
    if (scenario.v6) {
        frame.ipv6("2001:db8::2", vip.address.to_string());
    } else {
        frame.ipv4("192.0.2.9", vip.address.to_string());
    }
    if (scenario.protocol == api::Protocol::kTcp) {
        frame.tcp(
            {.source = 1, .destination = vip.port.value(), .flags = support::kAck, .acknowledgement = 1});
    } else {
        frame.udp(1, vip.port.value()).payload(scenario.v6 ? 12 : 18);
    }
    return frame.bytes();
}

void write_client(std::uint8_t* frame, bool v6, std::uint64_t random) {
    std::uint8_t* ip = frame + kEthernet;
    if (v6) {
        const std::uint64_t low = random * 0x9e3779b97f4a7c15ULL;
        ip[8 + 1] = 0;
        std::memcpy(ip + 8 + 4, &random, 4);
        std::memcpy(ip + 8 + 8, &low, 8);
        return;
    }
    // 1.0.0.0 to 120.255.255.255: unicast, none of it special to the parser.
    const std::uint8_t first = static_cast<std::uint8_t>(1 + (random >> 24U & 0xffU) % 120);
    ip[12] = first;
    std::memcpy(ip + 13, &random, 3);
    ip[10] = ip[11] = 0;
    const std::uint16_t sum = support::plain_checksum(support::Bytes(ip, ip + 20));
    ip[10] = static_cast<std::uint8_t>(sum >> 8U);
    ip[11] = static_cast<std::uint8_t>(sum);
}

}  // namespace

std::size_t Traffic::bytes(const Scenario& scenario) {
    return frames_of(scenario) * stride_of(scenario);
}

Traffic::Traffic(const Scenario& scenario)
    : flows_(scenario.flows),
      count_(frames_of(scenario)),
      stride_(stride_of(scenario)),
      port_at_(kEthernet + (scenario.v6 ? 40 : 20)),
      length_(0),
      pages_(bytes(scenario)),
      frames_(static_cast<std::uint8_t*>(pages_.get())) {
    std::vector<support::Bytes> templates;
    for (std::size_t pool = 0; pool < scenario.pools; ++pool) {
        templates.push_back(frame_of(scenario, pool));
        templates.back().resize(stride_);
    }
    length_ = scenario.v6 ? 74 : 60;
    std::mt19937_64 random(1);
    for (std::size_t i = 0; i < count_; ++i) {
        const std::uint64_t client = random();
        // A flood's frames are copies of the established ones until become_measured().
        if (scenario.kind == Kind::kFlood && !established(i)) {
            std::memcpy(at(i), at(i - i % kFloodFactor), stride_);
            continue;
        }
        std::memcpy(at(i), templates[i % templates.size()].data(), stride_);
        write_client(at(i), scenario.v6, client);
        const auto port = static_cast<std::uint16_t>(client >> 48U);
        std::memcpy(at(i) + port_at_, &port, 2);
    }
}

bool Traffic::established(std::size_t i) const noexcept {
    return count_ == flows_ ? kind_ == Kind::kEstablished : i % kFloodFactor == 0;
}

void Traffic::become_measured(Kind kind) {
    kind_ = kind;
    const bool v6 = stride_ == kStrideV6;
    std::mt19937_64 random(2);
    for (std::size_t i = 0; i < count_; ++i) {
        const std::uint64_t client = random();
        if (established(i)) continue;
        if (kind == Kind::kMalformed) {
            // IPv4: the header's checksum; IPv6: a multicast source.
            if (v6)
                at(i)[kEthernet + 8] = 0xff;
            else
                at(i)[kEthernet + 10] ^= 0x55;
            continue;
        }
        constexpr std::uint16_t kStep = 1;
        std::memcpy(at(i) + stride_ - 2, &kStep, 2);
        if (kind == Kind::kNewFlow) continue;
        at(i)[port_at_ + kFlagsInTcp] = support::kSyn;
        if (kind == Kind::kFlood) write_client(at(i), v6, client);
    }
}

}  // namespace detour::bench
