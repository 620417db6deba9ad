// A burst of packets on its way through the stages, without a word of DPDK.
//
// The io layer fills `data`, `length`, `headroom` and `port`, runs the pipeline, and acts on `verdict`.
// `data` may have moved: forward into the headroom by the outer header, or back onto an answer. Owned by one
// worker.
#pragma once

#include <array>
#include <cstdint>

#include "dataplane/api/counters.h"
#include "dataplane/api/limits.h"

namespace detour::core {

enum class Verdict : std::uint8_t {
    kPending,   ///< stages go on
    kTransmit,  ///< send on `port`: encapsulated, or an answer to where it came from
    kKernel,    ///< not ours: to the exception path
    kDrop,
};

struct Packet {
    std::uint8_t* data = nullptr;  ///< first byte of the Ethernet header
    std::uint16_t length = 0;      ///< from the Ethernet header on
    std::uint16_t headroom = 0;    ///< free bytes before data
    std::uint8_t port = 0;         ///< in: received on; out: to send on
    Verdict verdict = Verdict::kPending;
    api::Reason reason = api::Reason::kCount;

    // Set by parse.
    std::uint8_t v6 = 0;
    std::uint8_t protocol = 0;
    std::uint8_t tcp_flags = 0;
    std::uint16_t l3 = 0;           ///< offset of the IP header from data
    std::uint16_t l4 = 0;           ///< offset of the TCP or UDP header
    std::uint16_t ip_length = 0;    ///< of the whole IP packet, padding excluded
    std::uint16_t source_port = 0;  ///< wire order
    std::uint16_t destination_port = 0;
    std::uint32_t sequence = 0;  ///< host order
    std::uint32_t acknowledgement = 0;

    // Set by classify, lookup and select.
    std::uint16_t pool = 0;  ///< index into ForwardingTables::pools
    std::uint16_t vip = 0;
    std::uint16_t backend = 0;
    std::uint8_t site = 0;
    std::uint64_t flow_hash = 0;    ///< of the 5-tuple: places in tables, tunnel entropy
    std::uint64_t choice_hash = 0;  ///< of the pool's hash key: slot, fraction, backend
    void* user = nullptr;           ///< the io layer's own (its mbuf); the stages never touch it
};

struct Batch {
    std::uint32_t count = 0;
    std::array<Packet, api::kMaxBurst> packets;
};

}  // namespace detour::core
