// A burst of packets on its way through the stages, without a word of DPDK.
//
// The io layer fills `data`, `length`, `headroom` and `port`, runs the pipeline, and acts on `verdict`.
// `data` may have moved: forward into the headroom by the outer header, or back onto an answer. Owned by one
// worker.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "dataplane/api/counters.h"
#include "dataplane/api/limits.h"

namespace detour::core {

enum class Verdict : std::uint8_t {
    kPending,   ///< stages go on
    kTransmit,  ///< send on `port`: encapsulated, or an answer to where it came from
    kKernel,    ///< not ours: to the exception path
    kDrop,
    kHold,  ///< a fragment that waits for its datagram's first: kept in slot `backend`, not counted yet
};

/// One cache line. Batches are used again without being cleared: `parse` writes every field of its own that a
/// later stage may read.
struct alignas(64) Packet {
    std::uint8_t* data = nullptr;   ///< first byte of the Ethernet header
    void* user = nullptr;           ///< the io layer's own (its mbuf); the stages never touch it
    std::uint64_t flow_hash = 0;    ///< of the 5-tuple: places in tables, tunnel entropy
    std::uint16_t length = 0;       ///< from the Ethernet header on
    std::uint16_t headroom = 0;     ///< free bytes before data
    std::uint16_t l4 = 0;           ///< offset of the TCP or UDP header
    std::uint16_t ip_length = 0;    ///< of the whole IP packet, padding excluded
    std::uint16_t source_port = 0;  ///< wire order
    std::uint16_t destination_port = 0;
    std::uint16_t pool = 0;     ///< index into ForwardingTables::pools
    std::uint16_t pool_id = 0;  ///< stable PoolId
    std::uint16_t vip = 0;
    std::uint16_t backend = 0;
    std::uint8_t port = 0;  ///< in: received on; out: to send on
    Verdict verdict = Verdict::kPending;
    api::Reason reason = api::Reason::kCount;
    std::uint8_t v6 = 0;
    std::uint8_t protocol = 0;
    std::uint8_t tcp_flags = 0;  ///< 0 for all but TCP
    std::uint8_t l3 = 0;         ///< offset of the IP header from data
    std::uint8_t site = 0;
};
static_assert(sizeof(Packet) == 64);

/// Indices into a batch, in order.
class PacketList {
  public:
    void clear() noexcept { count_ = 0; }
    void add(std::uint32_t index) noexcept { indices_[count_++] = static_cast<std::uint8_t>(index); }
    /// Branch-free: `take` is 0 or 1.
    void add_if(std::uint32_t index, std::uint32_t take) noexcept {
        indices_[count_] = static_cast<std::uint8_t>(index);
        count_ += take;
    }
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
    [[nodiscard]] bool contains(std::uint8_t index) const noexcept {
        return std::find(begin(), end(), index) != end();
    }
    [[nodiscard]] const std::uint8_t* begin() const noexcept { return indices_.data(); }
    [[nodiscard]] const std::uint8_t* end() const noexcept { return indices_.data() + count_; }

  private:
    std::uint32_t count_ = 0;
    std::array<std::uint8_t, api::kMaxBurst + 1> indices_{};  // one more: add_if writes before it counts
};

struct Batch {
    std::uint32_t count = 0;
    PacketList icmp;       ///< set by parse
    PacketList fragments;  ///< set by parse
    PacketList first_fragments;
    /// Of a VIP, set by classify: TCP, then UDP, of which flow_quic takes its own out.
    std::array<PacketList, 2> by_transport;
    PacketList rest;  ///< of one of them, what its fast pass left to the full one
    std::array<Packet, api::kMaxBurst> packets;
    [[nodiscard]] PacketList& tcp() noexcept { return by_transport[0]; }
    [[nodiscard]] PacketList& udp() noexcept { return by_transport[1]; }
    [[nodiscard]] std::span<Packet> all() noexcept { return {packets.data(), count}; }
    std::array<std::uint64_t, api::kMaxBurst> first_fragment_tags;  ///< by packet, of first_fragments alone
};

}  // namespace detour::core
