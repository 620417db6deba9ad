#include "control/plan/described_packet.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "dataplane/core/ip_headers.h"
#include "dataplane/core/parse.h"

namespace detour::plan {
namespace {

constexpr std::uint32_t kLargest = 9978;
constexpr std::uint32_t kTcpHeader = 20;
constexpr std::uint32_t kUdpHeader = 8;
constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kQuicShortHeader = 0x40;

std::uint8_t flags_of(Segment segment) {
    switch (segment) {
        case Segment::kSyn:
            return core::kTcpSyn;
        case Segment::kAck:
            return core::kTcpAck;
        case Segment::kData:
            return core::kTcpPsh | core::kTcpAck;
        case Segment::kFin:
            return core::kTcpFin | core::kTcpAck;
        case Segment::kRst:
            return core::kTcpRst;
    }
    return core::kTcpAck;
}

/// What has to be behind the IP header at least.
std::uint32_t least_payload(const DescribedPacket& described) {
    if (described.flow.vip.protocol == api::Protocol::kTcp)
        return kTcpHeader + (described.segment == Segment::kData ? 1U : 0U);
    return kUdpHeader +
           (described.flow.cid.empty() ? 0U : static_cast<std::uint32_t>(1 + described.flow.cid.size()));
}

void write_ip(std::vector<std::uint8_t>& packet, const Flow& flow) {
    const auto protocol = static_cast<std::uint8_t>(flow.vip.protocol);
    const auto from = flow.client.bytes();
    const auto to = flow.vip.address.bytes();
    if (flow.client.is_v6()) {
        core::Address6 source{};
        core::Address6 destination{};
        std::ranges::copy(from, source.bytes.begin());
        std::ranges::copy(to, destination.bytes.begin());
        return core::write_ipv6(packet.data(), protocol, static_cast<std::uint16_t>(packet.size() - 40),
                                source, destination);
    }
    core::write_ipv4(packet.data(), protocol, static_cast<std::uint16_t>(packet.size()),
                     core::load<std::uint32_t>(from.data()), core::load<std::uint32_t>(to.data()));
}

void write_transport(std::uint8_t* at, std::size_t size, const DescribedPacket& described) {
    const Flow& flow = described.flow;
    core::store_be16(at, flow.client_port.value());
    core::store_be16(at + 2, flow.vip.port.value());
    if (static_cast<std::uint8_t>(flow.vip.protocol) == kTcp) {
        at[12] = kTcpHeader / 4 << 4U;
        at[13] = flags_of(described.segment);
        return;
    }
    core::store_be16(at + 4, static_cast<std::uint16_t>(size));
    if (flow.cid.empty()) return;
    at[kUdpHeader] = kQuicShortHeader;
    std::ranges::copy(flow.cid, at + kUdpHeader + 1);
}

}  // namespace

api::Result<std::string> make_packet(const DescribedPacket& described) {
    const Flow& flow = described.flow;
    const auto wrong = [](std::string what) {
        return api::fail(api::ErrorCode::kInvalidArgument, "describing a packet", std::move(what));
    };
    if (flow.client.is_v6() != flow.vip.address.is_v6()) {
        return wrong(fmt::format("client {} and VIP {} are of different families", flow.client.to_string(),
                                 flow.vip.to_string()));
    }
    const std::uint32_t header = flow.client.is_v6() ? 40 : 20;
    const std::uint32_t least = header + least_payload(described);
    const std::uint32_t size = described.size == 0 ? least : described.size;
    if (size < least || size > kLargest)
        return wrong(fmt::format("its size is {}, expected {} to {}", size, least, kLargest));
    std::vector<std::uint8_t> packet(size);
    write_transport(packet.data() + header, size - header, described);
    write_ip(packet, flow);
    return std::string(packet.begin(), packet.end());
}

}  // namespace detour::plan
