// Every verdict's reason, once: enum, metric label and one sentence for the manual.
//
// The stages give a packet exactly one reason; kTransmitFull and kKernelFull come beside it. Counters are per
// worker, written by that worker alone with relaxed stores and read by the control channel. Order is the
// wire's: append only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace detour::api {

enum class Reason : std::uint8_t {
    // Forwarded.
    kForwardedPinned,     // a known flow
    kForwardedNew,        // SYN or first packet of a UDP flow
    kForwardedHandshake,  // the handshake's ACK, answered from the SYN table
    kForwardedMid,        // TCP mid-flow without a state here: chosen by admit_mid
    kForwardedRehashed,   // pinned to a site or backend that no longer keeps: moved
    // Answered.
    kResetSent,
    kTooBigAnswered,
    // Left to the kernel.
    kNotOurs,
    kIcmpToKernel,
    // Dropped: malformed.
    kTruncatedEthernet,
    kTruncatedIp,
    kBadIpVersion,
    kBadIpHeaderLength,
    kBadIpTotalLength,
    kBadIpChecksum,
    kBadSource,
    kTooManyExtensions,
    kTruncatedTcp,
    kBadTcpOffset,
    kBadTcpFlags,
    kTruncatedUdp,
    kBadUdpLength,
    // Dropped: understood, not forwarded.
    kFragment,
    kIcmpOverBudget,
    kNoSite,
    kNoBackend,
    kUnresolvedNextHop,
    kNoTunnelSource,
    kTooBigOverBudget,
    kStranded,  // pinned, not kept, and nothing may be answered (RST, or `keep` pools)
    kResetOverBudget,
    kNoHeadroom,
    kMultiSegment,
    kTransmitFull,
    kKernelFull,
    kForwardedIcmp,      // an ICMP error about a flow, sent to the flow's backend
    kShed,               // a new flow beyond its pool's or site's limit
    kShedReset,          // the same, its SYN answered with a RST
    kForwardedFragment,  // a later fragment, sent where its datagram's first went
    kTinyFragment,
    kOverlappingFragment,
    kBadFragment,
    kForwardedCid,      // QUIC: the connection id named the backend, and no entry did
    kEmptyReset,        // a SYN that no site or backend takes, answered with a RST
    kTooBigUnanswered,  // an ICMP error or a later fragment that does not fit its tunnel
    kEchoAnswered,      // an echo request to a VIP
    kNoService,         // to a VIP's address, but none of its ports: to the kernel
    kCount,
};

inline constexpr std::size_t kReasonCount = static_cast<std::size_t>(Reason::kCount);

enum class Outcome : std::uint8_t { kForwarded, kAnswered, kKernel, kDropped };

struct ReasonInfo {
    Reason reason;
    Outcome outcome;
    std::string_view name;         ///< metric label, snake_case
    std::string_view description;  ///< one sentence
};

/// Indexed by Reason.
extern const std::array<ReasonInfo, kReasonCount> kReasons;

/// True when the packet was sent to a backend, so when the table says Outcome::kForwarded. Inline, for the
/// fast path.
[[nodiscard]] constexpr bool is_forwarded(Reason reason) noexcept {
    constexpr auto bit = [](Reason r) { return std::uint64_t{1} << static_cast<unsigned>(r); };
    constexpr std::uint64_t kForwarded = bit(Reason::kForwardedPinned) | bit(Reason::kForwardedNew) |
                                         bit(Reason::kForwardedHandshake) | bit(Reason::kForwardedMid) |
                                         bit(Reason::kForwardedRehashed) | bit(Reason::kForwardedIcmp) |
                                         bit(Reason::kForwardedFragment) | bit(Reason::kForwardedCid);
    static_assert(kReasonCount <= 64);
    return (kForwarded >> static_cast<unsigned>(reason) & 1U) != 0;
}

[[nodiscard]] inline const ReasonInfo& info(Reason reason) noexcept {
    return kReasons[static_cast<std::size_t>(reason)];
}

}  // namespace detour::api
