#include "dataplane/api/counters.h"

namespace detour::api {

using enum Outcome;

constexpr std::array<ReasonInfo, kReasonCount> kReasons{{
    {Reason::kForwardedPinned, kForwarded, "forwarded_pinned",
     "A packet of a known flow, sent to the flow's backend."},
    {Reason::kForwardedNew, kForwarded, "forwarded_new", "A SYN, or the first packet of a UDP flow."},
    {Reason::kForwardedHandshake, kForwarded, "forwarded_handshake",
     "The ACK that completes a handshake seen here; makes the flow's entry."},
    {Reason::kForwardedMid, kForwarded, "forwarded_mid",
     "A TCP packet of a flow that has no entry here, placed by admit_mid."},
    {Reason::kForwardedRehashed, kForwarded, "forwarded_rehashed",
     "A packet whose site or backend no longer keeps flows, moved to a live one."},
    {Reason::kResetSent, kAnswered, "reset_sent", "A segment of a stranded flow, answered with a RST."},
    {Reason::kTooBigAnswered, kAnswered, "too_big_answered",
     "A packet larger than its tunnel, answered with ICMP and the tunnel's MTU."},
    {Reason::kNotOurs, kKernel, "not_ours", "Not addressed to a VIP: left to the kernel."},
    {Reason::kIcmpToKernel, kKernel, "icmp_to_kernel",
     "ICMP that is no error for a VIP's flow: left to the kernel."},
    {Reason::kTruncatedEthernet, kDropped, "truncated_ethernet",
     "Shorter than an Ethernet header and its VLAN tags."},
    {Reason::kTruncatedIp, kDropped, "truncated_ip", "Shorter than its IP header."},
    {Reason::kBadIpVersion, kDropped, "bad_ip_version", "The version field contradicts the EtherType."},
    {Reason::kBadIpHeaderLength, kDropped, "bad_ip_header_length",
     "The IPv4 header length is below 20 or beyond the packet."},
    {Reason::kBadIpTotalLength, kDropped, "bad_ip_total_length",
     "The IP length is beyond the frame or below its headers."},
    {Reason::kBadIpChecksum, kDropped, "bad_ip_checksum", "The IPv4 header checksum is wrong."},
    {Reason::kBadSource, kDropped, "bad_source",
     "The source address can't be answered: multicast, loopback, unspecified, broadcast."},
    {Reason::kTooManyExtensions, kDropped, "too_many_extensions",
     "More IPv6 extension headers than are looked through."},
    {Reason::kTruncatedTcp, kDropped, "truncated_tcp", "Shorter than a TCP header."},
    {Reason::kBadTcpOffset, kDropped, "bad_tcp_offset",
     "The TCP data offset is below 20 bytes or beyond the packet."},
    {Reason::kBadTcpFlags, kDropped, "bad_tcp_flags",
     "Flags that no TCP sends: none at all, SYN with FIN, SYN with RST, FIN without ACK."},
    {Reason::kTruncatedUdp, kDropped, "truncated_udp", "Shorter than a UDP header."},
    {Reason::kBadUdpLength, kDropped, "bad_udp_length", "The UDP length is below 8 or beyond the packet."},
    {Reason::kFragment, kDropped, "fragment",
     "A later fragment whose datagram goes nowhere: its first one did not come in time or was not forwarded, "
     "or there was no "
     "room to wait for it."},
    {Reason::kIcmpOverBudget, kDropped, "icmp_over_budget",
     "An ICMP error about a VIP's flow or an echo request to a VIP, and the budget for those is spent."},
    {Reason::kNoSite, kDropped, "no_site", "No site of the pool admits the flow."},
    {Reason::kNoBackend, kDropped, "no_backend", "The chosen site has no backend that is up."},
    {Reason::kUnresolvedNextHop, kDropped, "unresolved_next_hop",
     "The neighbour towards the backend is not known yet."},
    {Reason::kNoTunnelSource, kDropped, "no_tunnel_source",
     "No tunnel source address of the backend's family is configured."},
    {Reason::kTooBigOverBudget, kDropped, "too_big_over_budget",
     "Larger than its tunnel, and the ICMP budget is spent."},
    {Reason::kStranded, kDropped, "stranded",
     "Of a flow whose site or backend is gone, where nothing may be answered: a RST, or a client that was "
     "reset already."},
    {Reason::kResetOverBudget, kDropped, "reset_over_budget",
     "Of a stranded flow, and the RST budget is spent: the client tries again."},
    {Reason::kNoHeadroom, kDropped, "no_headroom", "No room before the packet for the tunnel's header."},
    {Reason::kMultiSegment, kDropped, "multi_segment", "The driver split the packet over several buffers."},
    {Reason::kTransmitFull, kDropped, "transmit_full", "The transmit queue was full."},
    {Reason::kKernelFull, kDropped, "kernel_full",
     "Of those left to the kernel: not handed over, for its budget was spent or the port has no kernel "
     "side."},
    {Reason::kForwardedIcmp, kForwarded, "forwarded_icmp",
     "An ICMP error about a VIP's flow, sent to that flow's backend."},
    {Reason::kShed, kDropped, "shed", "A new flow beyond the limit that its pool or its site has now."},
    {Reason::kShedReset, kAnswered, "shed_reset",
     "A SYN beyond the limit that its pool or its site has now, answered with a RST."},
    {Reason::kForwardedFragment, kForwarded, "forwarded_fragment",
     "A later fragment, sent where the first one of its datagram went."},
    {Reason::kTinyFragment, kDropped, "tiny_fragment",
     "A first fragment too short for its TCP or UDP header, or a second one that would overwrite TCP's "
     "flags."},
    {Reason::kOverlappingFragment, kDropped, "overlapping_fragment",
     "A fragment that was there already, or overlaps another one of its datagram."},
    {Reason::kBadFragment, kDropped, "bad_fragment",
     "A fragment that is empty, no multiple of 8 bytes long, ends beyond 65,535 bytes, or has a malformed "
     "header."},
    {Reason::kForwardedCid, kForwarded, "forwarded_cid",
     "A QUIC packet sent to the backend that its connection id names, where no flow entry did: as a rule the "
     "first after its client's address changed."},
    {Reason::kEmptyReset, kAnswered, "empty_reset",
     "A SYN that no site or backend of its pool takes, answered with a RST (`on_empty`)."},
    {Reason::kTooBigUnanswered, kDropped, "too_big_unanswered",
     "Larger than its tunnel, and nobody to tell: an ICMP error, or a later fragment."},
    {Reason::kEchoAnswered, kAnswered, "echo_answered", "An echo request to a VIP, answered."},
    {Reason::kNoService, kKernel, "no_service",
     "To a VIP's address, but to no port and protocol that it serves: left to the kernel, within a budget of "
     "its own."},
}};

namespace {
constexpr bool in_order() {
    for (std::size_t i = 0; i < kReasonCount; ++i) {
        if (kReasons[i].reason != static_cast<Reason>(i)) return false;
    }
    return true;
}
}  // namespace
static_assert(in_order(), "a reason's row stands where the enumeration has it");

}  // namespace detour::api
