// The stages, each in the file of its name. See pipeline.h for the contract that all share.
#pragma once

#include "dataplane/stages/pipeline.h"

namespace detour::stages {

/// Headers: kMalformed drops, kOther goes to the kernel.
void parse(core::Batch& batch, const Context& context) noexcept;
/// Fragments of a VIP's datagrams: the first goes on as a packet, the later follow it, wait or are dropped.
void fragment(core::Batch& batch, const Context& context) noexcept;
/// VIP or not ours; hashes; prefetches the flow's buckets.
void classify(core::Batch& batch, const Context& context) noexcept;
/// ICMP errors about a VIP's flow: to its backend. Other ICMP to the kernel.
void icmp(core::Batch& batch, const Context& context) noexcept;
/// TCP: SYN, handshake, pinned, mid-flow. Names a backend, or answers or drops.
void flow_tcp(core::Batch& batch, const Context& context) noexcept;
/// UDP of pools with server ids: what a connection id names. The others stay in Batch::udp.
void flow_quic(core::Batch& batch, const Context& context) noexcept;
/// UDP: pinned or new.
void flow_udp(core::Batch& batch, const Context& context) noexcept;
/// Remembers where first fragments go, and lets those go that waited for them.
void fragment_follow(core::Batch& batch, const Context& context) noexcept;
/// The tunnel header; too big is answered.
void encapsulate(core::Batch& batch, const Context& context) noexcept;
/// The VLAN tag of the next hop, where there is one.
void tag(core::Batch& batch, const Context& context) noexcept;
/// Counts every packet's reason once, and what went where.
void account(core::Batch& batch, const Context& context) noexcept;

inline void drop(core::Packet& packet, api::Reason reason) noexcept {
    packet.verdict = core::Verdict::kDrop;
    packet.reason = reason;
}
inline void to_kernel(core::Packet& packet, api::Reason reason) noexcept {
    packet.verdict = core::Verdict::kKernel;
    packet.reason = reason;
}

}  // namespace detour::stages
