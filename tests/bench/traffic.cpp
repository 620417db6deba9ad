#include "tests/bench/traffic.h"

#include <algorithm>
#include <random>

#include "tests/support/packets.h"

namespace detour::bench {
namespace {

using support::Bytes;
using support::Frame;

constexpr std::size_t kFloodFactor = 10;  // one frame of ten is of an established flow
constexpr std::size_t kEthernet = 14;
constexpr std::size_t kFlagsInTcp = 13;
constexpr std::uint8_t kUdp = 17;
// Of the outer headers; a quoted packet has its own.
constexpr std::size_t kSumV4 = kEthernet + 10;
constexpr std::size_t kIdV4 = kEthernet + 4;
constexpr std::size_t kFragmentHeaderV6 = kEthernet + 40;
constexpr std::size_t kIdV6 = kFragmentHeaderV6 + 6;

/// Where a frame holds its client's address and port.
struct ClientAt {
    std::size_t address;
    std::size_t port;
};
constexpr ClientAt kOwn[] = {{kEthernet + 12, kEthernet + 20}, {kEthernet + 8, kEthernet + 40}};
// Quoted behind 8 bytes of ICMP: the answer's destination.
constexpr ClientAt kQuoted[] = {{kEthernet + 28 + 16, kEthernet + 28 + 22},
                                {kEthernet + 48 + 24, kEthernet + 48 + 42}};

std::size_t per_flow_of(Kind kind) {
    if (kind == Kind::kFlood) return kFloodFactor;
    return kind == Kind::kFragments ? 2 : 1;
}
std::size_t stride_of(const Scenario& scenario) {
    if (scenario.kind == Kind::kIcmpError || (scenario.kind == Kind::kFragments && scenario.v6))
        return scenario.v6 ? Traffic::kLongest : Traffic::kStrideV6;
    return scenario.v6 ? Traffic::kStrideV6 : Traffic::kStrideV4;
}

Frame from_router(bool v6, const std::string& source, const std::string& destination,
                  support::Ipv4Fields fields = {}) {
    Frame frame;
    frame.ether("02:00:00:00:00:01", "02:00:00:00:00:02");
    if (v6) {
        frame.ipv6(source, destination);
    } else {
        frame.ipv4(source, destination, std::move(fields));
    }
    return frame;
}

Bytes frame_of(const Scenario& scenario, std::size_t pool) {
    const api::Vip vip = vip_of(scenario, pool);
    Frame frame =
        from_router(scenario.v6, scenario.v6 ? "2001:db8::2" : "192.0.2.9", vip.address.to_string());
    if (scenario.protocol == api::Protocol::kTcp) {
        frame.tcp(
            {.source = 1, .destination = vip.port.value(), .flags = support::kAck, .acknowledgement = 1});
    } else {
        frame.udp(1, vip.port.value()).payload(scenario.v6 ? 12 : 18);
    }
    return frame.bytes();
}

/// "Too big" from a router about a segment of the VIP's answer, of which it quotes no more than it must.
Bytes error_about(const api::Vip& vip, bool v6) {
    const std::string address = vip.address.to_string();
    const std::string client = v6 ? "2001:db8::2" : "192.0.2.9";
    const std::size_t quoted = v6 ? 48 : 28;
    const Bytes answer = from_router(v6, address, client).tcp({vip.port.value(), 1, support::kAck}).bytes();
    Frame frame = from_router(v6, v6 ? "2001:db8::9" : "192.0.2.99", address);
    v6 ? frame.icmp(2, 0, 1400) : frame.icmp(3, 4, 1400);
    return frame.raw(Bytes(answer.begin() + kEthernet, answer.begin() + kEthernet + quoted)).bytes();
}

/// A datagram of 40 bytes in fragments of 24 and 16.
Bytes fragment_of(const api::Vip& vip, bool v6, bool first) {
    const std::uint16_t offset = first ? 0 : 3;  // units of 8 bytes
    const auto in_v4 = static_cast<std::uint16_t>(offset | (first ? 0x2000U : 0U));
    Frame frame = from_router(v6, v6 ? "2001:db8::2" : "192.0.2.9", vip.address.to_string(),
                              {.df = false, .protocol = kUdp, .fragment = in_v4});
    if (v6) frame.fragment(static_cast<std::uint16_t>(offset << 3U | (first ? 1U : 0U)));
    Bytes bytes = first ? frame.udp(1, vip.port.value()).payload(16).bytes() : frame.payload(16).bytes();
    if (v6) bytes[kFragmentHeaderV6] = kUdp;
    if (first) bytes[kEthernet + (v6 ? 48 : 20) + 5] = 40;  // UDP's length is the whole datagram's
    return bytes;
}

void fix_checksum(std::uint8_t* frame) {
    frame[kSumV4] = frame[kSumV4 + 1] = 0;
    const std::uint16_t sum = support::plain_checksum(Bytes(frame + kEthernet, frame + kEthernet + 20));
    frame[kSumV4] = static_cast<std::uint8_t>(sum >> 8U);
    frame[kSumV4 + 1] = static_cast<std::uint8_t>(sum);
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
    ip[12] = static_cast<std::uint8_t>(1 + (random >> 24U & 0xffU) % 120);
    std::memcpy(ip + 13, &random, 3);
    fix_checksum(frame);
}

/// The client of `from`, whose own packet it is, into `to`.
void copy_client(std::uint8_t* to, ClientAt there, const std::uint8_t* from, bool v6) {
    std::memcpy(to + there.address, from + kOwn[v6].address, v6 ? 16 : 4);
    std::memcpy(to + there.port, from + kOwn[v6].port, 2);
}

}  // namespace

std::size_t Traffic::bytes(const Scenario& scenario) {
    return scenario.flows * per_flow_of(scenario.kind) * stride_of(scenario);
}

Traffic::Traffic(const Scenario& scenario)
    : v6_(scenario.v6),
      vip_(vip_of(scenario, 0)),
      per_flow_(per_flow_of(scenario.kind)),
      count_(scenario.flows * per_flow_),
      stride_(stride_of(scenario)),
      number_at_(kOwn[v6_].port),
      length_(scenario.v6 ? 74 : 60),
      pages_(bytes(scenario)),
      frames_(static_cast<std::uint8_t*>(pages_.get())) {
    std::vector<Bytes> templates;
    for (std::size_t pool = 0; pool < scenario.pools; ++pool) {
        templates.push_back(frame_of(scenario, pool));
        templates.back().resize(stride_);
    }
    std::mt19937_64 random(1);
    for (std::size_t i = 0; i < count_; ++i) {
        const std::uint64_t client = random();
        // All of a flow's frames are alike until become_measured().
        if (i % per_flow_ != 0) {
            std::memcpy(at(i), at(i - i % per_flow_), stride_);
            continue;
        }
        std::memcpy(at(i), templates[i % templates.size()].data(), stride_);
        write_client(at(i), v6_, client);
        const auto port = static_cast<std::uint16_t>(client >> 48U);
        std::memcpy(at(i) + number_at_, &port, 2);
    }
}

bool Traffic::established(std::size_t i) const noexcept {
    return kind_ == Kind::kEstablished || (kind_ == Kind::kFlood && i % kFloodFactor == 0);
}

void Traffic::become_errors() {
    Bytes error = error_about(vip_, v6_);
    length_ = static_cast<std::uint16_t>(error.size());
    error.resize(stride_);
    Bytes frame;
    for (std::size_t i = 0; i < count_; ++i) {
        frame = error;
        copy_client(frame.data(), kQuoted[v6_], at(i), v6_);
        std::memcpy(at(i), frame.data(), stride_);
    }
}

void Traffic::become_fragments() {
    Bytes fragments[] = {fragment_of(vip_, v6_, true), fragment_of(vip_, v6_, false)};
    length_ = static_cast<std::uint16_t>(std::max<std::size_t>(60, fragments[0].size()));
    number_at_ = v6_ ? kIdV6 : kIdV4;
    sum_at_ = v6_ ? 0 : kSumV4;
    // In a first fragment the UDP header lies behind the fragment header.
    const ClientAt there{kOwn[v6_].address, kOwn[v6_].port + (v6_ ? 8U : 0U)};
    for (Bytes& fragment : fragments) fragment.resize(stride_);
    std::mt19937_64 random(3);
    for (std::size_t i = 0; i < count_; i += 2) {
        const Bytes flow(at(i), at(i) + stride_);
        const std::uint64_t id = random();
        for (std::size_t part = 0; part < 2; ++part) {
            std::uint8_t* frame = at(i + part);
            std::memcpy(frame, fragments[part].data(), stride_);
            if (part == 0) {
                copy_client(frame, there, flow.data(), v6_);
            } else {
                std::memcpy(frame + there.address, flow.data() + there.address, v6_ ? 16 : 4);
            }
            std::memcpy(frame + number_at_, &id, 2);
            if (!v6_) fix_checksum(frame);
            renew_each_pass(frame);
        }
    }
}

void Traffic::renew_each_pass(std::uint8_t* frame) const noexcept {
    constexpr std::uint16_t kStep = 1;
    std::memcpy(frame + stride_ - 2, &kStep, 2);
}

void Traffic::become_measured(Kind kind) {
    kind_ = kind;
    if (kind == Kind::kIcmpError) return become_errors();
    if (kind == Kind::kFragments) return become_fragments();
    std::mt19937_64 random(2);
    for (std::size_t i = 0; i < count_; ++i) {
        const std::uint64_t client = random();
        if (established(i)) continue;
        if (kind == Kind::kMalformed) {
            // IPv4: the header's checksum; IPv6: a multicast source.
            if (v6_)
                at(i)[kEthernet + 8] = 0xff;
            else
                at(i)[kSumV4] ^= 0x55;
            continue;
        }
        renew_each_pass(at(i));
        if (kind == Kind::kNewFlow) continue;
        at(i)[number_at_ + kFlagsInTcp] = support::kSyn;
        if (kind == Kind::kFlood) write_client(at(i), v6_, client);
    }
}

}  // namespace detour::bench
