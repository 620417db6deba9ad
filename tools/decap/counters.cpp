#include "tools/decap/counters.h"

namespace detour::decap {

const std::array<CounterInfo, DECAP_COUNTERS> kCounters{{
    {DECAP_PASSED, "passed", "Not a tunnel packet to an address of this host: left as it was."},
    {DECAP_IPIP, "decapsulated_ipip", "An IP-in-IP header was taken off."},
    {DECAP_GUE, "decapsulated_gue", "A UDP and GUE header was taken off."},
    {DECAP_GRE, "decapsulated_gre", "A GRE header was taken off."},
    {DECAP_NOT_A_SOURCE, "not_a_source", "Dropped: the outer source is in no --source prefix."},
    {DECAP_NOT_A_VIP, "not_a_vip", "Dropped: the inner destination is no --vip."},
    {DECAP_OUTER_MALFORMED, "outer_malformed",
     "Dropped: the outer IP header has a wrong length or checksum, or the frame is shorter than it says."},
    {DECAP_OUTER_FRAGMENT, "outer_fragment",
     "Dropped: a fragment of a tunnel packet; the tunnel's MTU is set wrong."},
    {DECAP_OUTER_TOO_LONG, "outer_too_long", "Dropped: more than 256 bytes of outer headers."},
    {DECAP_UDP_MALFORMED, "udp_malformed",
     "Dropped: the outer UDP header is cut off or its length is wrong."},
    {DECAP_GUE_UNSUPPORTED, "gue_unsupported",
     "Dropped: GUE other than variant 1, or variant 0 without control bit, flags and options."},
    {DECAP_GRE_UNSUPPORTED, "gre_unsupported", "Dropped: GRE with options, or with a payload other than IP."},
    {DECAP_INNER_MALFORMED, "inner_malformed",
     "Dropped: the inner IP header is cut off, of another version than the tunnel says, or of a wrong "
     "length."},
    {DECAP_INNER_ECN, "inner_ecn",
     "Dropped: congestion was marked outside and the inner packet can't carry the mark."},
    {DECAP_FAILED, "failed", "Dropped: the kernel refused to shorten the packet."},
    {DECAP_SYNACK_CLAMPED, "synack_clamped", "A SYN-ACK of a VIP left with a lower MSS."},
    {DECAP_SYNACK_KEPT, "synack_kept",
     "A SYN-ACK of a VIP left as it was: its MSS is low enough, or it has none."},
}};

}  // namespace detour::decap
