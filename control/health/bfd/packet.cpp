#include "control/health/bfd/packet.h"

#include <algorithm>
#include <limits>

namespace detour::bfd {

namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kPacketSizeWithAuthentication = 26;

constexpr std::uint8_t kPoll = 0x20;
constexpr std::uint8_t kFinal = 0x10;
constexpr std::uint8_t kControlPlaneIndependent = 0x08;
constexpr std::uint8_t kAuthenticationPresent = 0x04;
constexpr std::uint8_t kDemand = 0x02;
constexpr std::uint8_t kMultipointBit = 0x01;

std::uint32_t load32(std::span<const std::uint8_t> bytes, std::size_t at) noexcept {
    return std::uint32_t{bytes[at]} << 24 | std::uint32_t{bytes[at + 1]} << 16 |
           std::uint32_t{bytes[at + 2]} << 8 | std::uint32_t{bytes[at + 3]};
}

void store32(std::span<std::uint8_t> bytes, std::size_t at, std::uint32_t value) noexcept {
    bytes[at] = static_cast<std::uint8_t>(value >> 24);
    bytes[at + 1] = static_cast<std::uint8_t>(value >> 16);
    bytes[at + 2] = static_cast<std::uint8_t>(value >> 8);
    bytes[at + 3] = static_cast<std::uint8_t>(value);
}

std::uint32_t wire(microseconds interval) noexcept {
    constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>(interval.count(), 0, kMost));
}

ControlPacket read(std::span<const std::uint8_t> payload) noexcept {
    ControlPacket packet;
    packet.diagnostic = static_cast<Diagnostic>(payload[0] & 0x1f);
    packet.state = static_cast<State>(payload[1] >> 6);
    packet.poll = (payload[1] & kPoll) != 0;
    packet.final = (payload[1] & kFinal) != 0;
    packet.control_plane_independent = (payload[1] & kControlPlaneIndependent) != 0;
    packet.demand = (payload[1] & kDemand) != 0;
    packet.detect_mult = payload[2];
    packet.mine = Discriminator{load32(payload, 4)};
    packet.yours = Discriminator{load32(payload, 8)};
    packet.desired_min_tx = microseconds{load32(payload, 12)};
    packet.required_min_rx = microseconds{load32(payload, 16)};
    packet.required_min_echo_rx = microseconds{load32(payload, 20)};
    return packet;
}

}  // namespace

std::string_view to_string(State state) noexcept {
    constexpr std::array<std::string_view, 4> kNames = {"admin-down", "down", "init", "up"};
    return kNames[static_cast<std::size_t>(state) % kNames.size()];
}

std::string_view to_string(Diagnostic diagnostic) noexcept {
    constexpr std::array<std::string_view, 9> kNames = {"none",
                                                        "detection-time-expired",
                                                        "echo-failed",
                                                        "neighbor-signaled-down",
                                                        "forwarding-plane-reset",
                                                        "path-down",
                                                        "concatenated-path-down",
                                                        "administratively-down",
                                                        "reverse-concatenated-path-down"};
    const auto index = static_cast<std::size_t>(diagnostic);
    return index < kNames.size() ? kNames[index] : "reserved";
}

std::string_view to_string(Drop drop) noexcept {
    constexpr std::array<std::string_view, kDropCount> kNames = {"too-short",
                                                                 "version",
                                                                 "length",
                                                                 "length-beyond-payload",
                                                                 "detect-mult-zero",
                                                                 "multipoint",
                                                                 "my-discriminator-zero",
                                                                 "your-discriminator-zero",
                                                                 "authentication",
                                                                 "ttl",
                                                                 "unknown-discriminator",
                                                                 "no-session",
                                                                 "wrong-path"};
    const auto index = static_cast<std::size_t>(drop);
    return index < kNames.size() ? kNames[index] : "unknown";
}

tl::expected<ControlPacket, Drop> decode(std::span<const std::uint8_t> payload) noexcept {
    // In the order of RFC 5880 section 6.8.6.
    if (payload.size() < kPacketSize) return tl::unexpected(Drop::kTooShort);
    if (payload[0] >> 5 != kVersion) return tl::unexpected(Drop::kVersion);
    const bool authenticated = (payload[1] & kAuthenticationPresent) != 0;
    const std::size_t length = payload[3];
    if (length < (authenticated ? kPacketSizeWithAuthentication : kPacketSize))
        return tl::unexpected(Drop::kLength);
    if (length > payload.size()) return tl::unexpected(Drop::kLengthBeyondPayload);
    if (payload[2] == 0) return tl::unexpected(Drop::kDetectMultZero);
    if ((payload[1] & kMultipointBit) != 0) return tl::unexpected(Drop::kMultipoint);
    const ControlPacket packet = read(payload);
    if (packet.mine == Discriminator{}) return tl::unexpected(Drop::kMyDiscriminatorZero);
    const bool starting = packet.state == State::kDown || packet.state == State::kAdminDown;
    if (packet.yours == Discriminator{} && !starting) return tl::unexpected(Drop::kYourDiscriminatorZero);
    if (authenticated) return tl::unexpected(Drop::kAuthentication);
    return packet;
}

std::array<std::uint8_t, kPacketSize> encode(const ControlPacket& packet) noexcept {
    std::array<std::uint8_t, kPacketSize> bytes{};
    bytes[0] = static_cast<std::uint8_t>(kVersion << 5 | (static_cast<unsigned>(packet.diagnostic) & 0x1f));
    unsigned flags = static_cast<unsigned>(packet.state) << 6;
    if (packet.poll) flags |= kPoll;
    if (packet.final) flags |= kFinal;
    if (packet.control_plane_independent) flags |= kControlPlaneIndependent;
    if (packet.demand) flags |= kDemand;
    bytes[1] = static_cast<std::uint8_t>(flags);
    bytes[2] = packet.detect_mult;
    bytes[3] = kPacketSize;
    store32(bytes, 4, packet.mine.value());
    store32(bytes, 8, packet.yours.value());
    store32(bytes, 12, wire(packet.desired_min_tx));
    store32(bytes, 16, wire(packet.required_min_rx));
    store32(bytes, 20, wire(packet.required_min_echo_rx));
    return bytes;
}

}  // namespace detour::bfd
