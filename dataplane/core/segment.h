// TCP segments that no client sent: the resets and questions of the sweep, as few words and as frames.
//
// The stages put them on a queue of fixed size; the io layer takes a buffer for each and has make_frame()
// write it. Queue and segments belong to one worker; make_frame() is pure.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "dataplane/api/limits.h"
#include "dataplane/core/batch.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/tables.h"

namespace detour::core {

/// A segment without data between a client and a VIP. From the VIP to the client, or, when a backend is
/// named, from the client to that backend.
struct Segment {
    std::array<std::uint8_t, 16> client{};  ///< wire bytes; IPv4 in the first 4
    std::uint16_t client_port = 0;          ///< wire order
    std::uint16_t vip = 0;                  ///< VipId; it says the family too
    std::uint16_t backend = kNoBackendId;
    std::uint8_t flags = 0;
    std::uint32_t sequence = 0;
    std::uint32_t acknowledgement = 0;
};

/// Ethernet header and VLAN tags of frames towards the clients. Length 0: the way is not known.
struct LinkHeader {
    std::array<std::uint8_t, kMaxLinkHeader> bytes{};
    std::uint8_t length = 0;
    std::uint8_t port = 0;
    constexpr bool operator==(const LinkHeader&) const noexcept = default;
};

class SegmentQueue {
  public:
    /// A burst's packets may each lead to two.
    static constexpr std::size_t kCapacity = 2 * api::kMaxBurst;

    [[nodiscard]] std::size_t room() const noexcept { return kCapacity - count_; }
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
    /// Needs room().
    void push(const Segment& segment) noexcept { segments_[count_++] = segment; }
    [[nodiscard]] std::span<const Segment> all() const noexcept { return {segments_.data(), count_}; }
    void clear() noexcept { count_ = 0; }

  private:
    std::size_t count_ = 0;
    std::array<Segment, kCapacity> segments_;
};

/// Bytes that a frame needs from `Packet::data` on, and before it.
inline constexpr std::size_t kSegmentBytes = kMaxLinkHeader + 40 + 20;
inline constexpr std::size_t kSegmentHeadroom = api::kMaxEncapBytes;

/// Writes the segment as a whole frame into `packet`, whose `data` and `headroom` are set to a buffer of that
/// size, and fills in `data`, `length`, `headroom` and `port`. False when it has nowhere to go: the VIP or
/// the backend is in no plan any more, the next hop is not known, or `to_clients` is not.
[[nodiscard]] bool make_frame(const Segment& segment, const ForwardingTables& tables,
                              const LinkHeader& to_clients, Packet& packet) noexcept;

}  // namespace detour::core
