// Received frames as a batch for the stages, and what the stages did to them as mbufs again.
//
// Apart from the worker so that a benchmark runs the very same code. One worker's thread; the mbufs stay the
// caller's.
#pragma once

#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include <algorithm>
#include <cstdint>
#include <span>

#include "dataplane/core/batch.h"

namespace detour::io {

// A whole pass of the sweep over a million flows takes seconds either way, and costs a busy worker under 1 %.
inline constexpr unsigned kBurstsPerSweep = 16;
inline constexpr std::size_t kBusySweep = 16;
// What the driver may have said about a frame's content is no longer true once it is encapsulated.
inline constexpr std::uint64_t kKeptFlags = RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT;

/// Makes `batch` of at most kMaxBurst frames received on `port`. Calls `refuse(mbuf)` for each frame that the
/// stages can't take, one in several segments.
template <class Refuse>
void fill(core::Batch& batch, std::span<rte_mbuf*> mbufs, std::uint8_t port, Refuse refuse) noexcept {
    constexpr unsigned kPrefetchAhead = 4;
    batch.count = 0;
    for (std::size_t i = 0; i < std::min<std::size_t>(kPrefetchAhead, mbufs.size()); ++i) {
        rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void*));
    }
    for (std::size_t i = 0; i < mbufs.size(); ++i) {
        if (i + kPrefetchAhead < mbufs.size())
            rte_prefetch0(rte_pktmbuf_mtod(mbufs[i + kPrefetchAhead], void*));
        rte_mbuf* mbuf = mbufs[i];
        if (mbuf->nb_segs != 1) [[unlikely]] {
            refuse(mbuf);
            continue;
        }
        core::Packet& packet = batch.packets[batch.count++];
        packet.data = rte_pktmbuf_mtod(mbuf, std::uint8_t*);
        packet.length = mbuf->data_len;
        packet.headroom = mbuf->data_off;
        packet.port = port;
        packet.user = mbuf;
        mbuf->port = port;  // the kernel path needs it, the driver does not
    }
}

/// The stages moved the packet's start within its buffer; tell the mbuf.
inline void apply(rte_mbuf& mbuf, const core::Packet& packet) noexcept {
    mbuf.data_off = static_cast<std::uint16_t>(packet.data - static_cast<std::uint8_t*>(mbuf.buf_addr));
    mbuf.data_len = packet.length;
    mbuf.pkt_len = packet.length;
    mbuf.ol_flags &= kKeptFlags;
}

}  // namespace detour::io
