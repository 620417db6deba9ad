// The BFD control packet (RFC 5880 section 4.1) and the checks of section 6.8.6 that need no session.
//
// 24 bytes in UDP. No authentication: a packet with the A bit is dropped, since none is configured. Every
// reason to drop has a name of its own and is counted, so that an operator sees why a session does not come
// up. Pure values, any thread.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tl/expected.hpp>

#include "dataplane/api/types.h"

namespace detour::bfd {

using std::chrono::microseconds;

/// Names a session at one end. Zero is "not known yet".
using Discriminator = api::Strong<struct DiscriminatorTag, std::uint32_t>;

/// The wire's values.
enum class State : std::uint8_t { kAdminDown = 0, kDown = 1, kInit = 2, kUp = 3 };
[[nodiscard]] std::string_view to_string(State state) noexcept;

/// Why a session last left Up. The wire's values; 9 … 31 are reserved and kept as received.
enum class Diagnostic : std::uint8_t {
    kNone = 0,
    kDetectionTimeExpired = 1,
    kEchoFailed = 2,
    kNeighborSignaledDown = 3,
    kForwardingPlaneReset = 4,
    kPathDown = 5,
    kConcatenatedPathDown = 6,
    kAdministrativelyDown = 7,
    kReverseConcatenatedPathDown = 8,
};
[[nodiscard]] std::string_view to_string(Diagnostic diagnostic) noexcept;

/// Why a packet was dropped. The first group is the codec's, the second the session table's.
enum class Drop : std::uint8_t {
    kTooShort,               ///< under 24 bytes
    kVersion,                ///< not 1
    kLength,                 ///< length field under 24, or under 26 with the A bit
    kLengthBeyondPayload,    ///< length field above what the datagram holds
    kDetectMultZero,         ///< detect multiplier 0
    kMultipoint,             ///< M bit
    kMyDiscriminatorZero,    ///< the sender names no session of its own
    kYourDiscriminatorZero,  ///< Init or Up towards no session of ours
    kAuthentication,         ///< A bit, while no authentication is configured
    kTtl,  ///< single hop: TTL or hop limit not 255 (RFC 5881); multi hop: under the session's
    kUnknownDiscriminator,  ///< names a session that is not ours
    kNoSession,             ///< names no session, and none is configured with this sender
    kWrongPath,             ///< names a session of another sender, receiver, port or interface
};
inline constexpr std::size_t kDropCount = 13;
[[nodiscard]] std::string_view to_string(Drop drop) noexcept;

inline constexpr std::size_t kPacketSize = 24;

struct ControlPacket {
    Diagnostic diagnostic = Diagnostic::kNone;
    State state = State::kDown;
    bool poll = false;
    bool final = false;
    bool control_plane_independent = false;
    bool demand = false;
    std::uint8_t detect_mult = 0;
    Discriminator mine;   ///< of who sends
    Discriminator yours;  ///< of who receives, as far as the sender knows
    microseconds desired_min_tx{0};
    microseconds required_min_rx{0};
    microseconds required_min_echo_rx{0};
    bool operator==(const ControlPacket&) const = default;
};

/// Bytes behind the length field are ignored, as the RFC allows.
[[nodiscard]] tl::expected<ControlPacket, Drop> decode(std::span<const std::uint8_t> payload) noexcept;

/// Intervals above 2^32 - 1 µs are cut to it, negative ones to 0.
[[nodiscard]] std::array<std::uint8_t, kPacketSize> encode(const ControlPacket& packet) noexcept;

}  // namespace detour::bfd
