#include "tests/bpf/decap_frames.h"

#include <algorithm>
#include <string_view>

namespace detour::bpf_tests {

using support::Frame;

namespace {

constexpr std::string_view kPop4 = "192.0.2.1";
constexpr std::string_view kPop6 = "2001:db8:1::1";
constexpr std::string_view kBackend4 = "192.0.2.11";
constexpr std::string_view kBackend6 = "2001:db8:1::11";
constexpr std::string_view kClient4 = "198.51.100.7";
constexpr std::string_view kClient6 = "2001:db8:c::7";
constexpr std::string_view kVip4 = "203.0.113.10";
constexpr std::string_view kVip6 = "2001:db8:f::10";

decap_address key(std::string_view text) {
    const Bytes bytes = support::address_bytes(text);
    decap_address address{};
    address.family = bytes.size() == 4 ? DECAP_FAMILY_V4 : DECAP_FAMILY_V6;
    std::copy(bytes.begin(), bytes.end(), address.bytes);
    return address;
}

}  // namespace

decap_counter taken(Tunnel tunnel) {
    switch (tunnel) {
        case Tunnel::kIpip:
            return DECAP_IPIP;
        case Tunnel::kGre:
            return DECAP_GRE;
        case Tunnel::kGue:
        case Tunnel::kGueVariant0:
            break;
    }
    return DECAP_GUE;
}

Frame link() {
    return Frame().ether("02:00:00:00:00:01", "02:00:00:00:00:02");
}

Frame outer(Family family) {
    Frame frame = link();
    return family == Family::kV4 ? frame.ipv4(kPop4, kBackend4) : frame.ipv6(kPop6, kBackend6);
}

Bytes client_frame(Family family) {
    Frame frame = link();
    family == Family::kV4 ? frame.ipv4(kClient4, kVip4) : frame.ipv6(kClient6, kVip6);
    return frame.tcp({.source = 40000, .destination = 443, .flags = support::kSyn}).payload(30).bytes();
}

Bytes tunneled(const TunnelRow& row, const Bytes& inner) {
    Frame frame = outer(row.outer);
    if (row.tunnel == Tunnel::kGue || row.tunnel == Tunnel::kGueVariant0) frame.udp(50000, 6080, true);
    if (row.tunnel == Tunnel::kGre) frame.gre();
    Bytes payload(inner.begin() + 14, inner.end());
    if (row.tunnel == Tunnel::kGueVariant0) {
        const std::uint8_t protocol = row.inner == Family::kV4 ? 4 : 41;
        payload.insert(payload.begin(), {0, protocol, 0, 0});
    }
    return frame.raw(payload).bytes();
}

std::size_t recognisable_bytes(const TunnelRow& row) {
    const std::size_t ip = row.outer == Family::kV4 ? 20 : 40;
    const bool udp = row.tunnel == Tunnel::kGue || row.tunnel == Tunnel::kGueVariant0;
    return 14 + ip + (udp ? 8 : 0);
}

void fix_checksum(Bytes& frame, std::size_t offset) {
    frame.at(offset + 10) = frame.at(offset + 11) = 0;
    const auto begin = frame.begin() + static_cast<std::ptrdiff_t>(offset);
    const std::uint16_t sum = support::plain_checksum(Bytes(begin, begin + (frame[offset] & 0xf) * 4));
    frame[offset + 10] = static_cast<std::uint8_t>(sum >> 8U);
    frame[offset + 11] = static_cast<std::uint8_t>(sum);
}

Program decap_program(const char* name) {
    Program program(DETOUR_DECAP_OBJECT, name);
    const std::uint8_t present = 1;
    for (const auto vip : {kVip4, kVip6}) program.put("decap_vips", key(vip), present);
    for (const auto local : {kBackend4, kBackend6}) program.put("decap_locals", key(local), present);
    program.put("decap_sources", decap_prefix{8 + 32, key(kPop4)}, present);
    program.put("decap_sources", decap_prefix{8 + 48, key("2001:db8:1::")}, present);
    return program;
}

std::uint64_t counted(const Program& program, decap_counter counter) {
    return program.counter("decap_counters", counter);
}

}  // namespace detour::bpf_tests
