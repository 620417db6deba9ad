// What the TCP and UDP flow stages share: keys of both families, a pin's liveness, new choices.
//
// Private to stages/. Owner thread only.
#pragma once

#include "dataplane/core/bytes.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/select.h"
#include "dataplane/stages/stages.h"

namespace detour::stages {

/// A family's tables and the packet's keys in them.
struct KeyedV4 {
    core::FlowTableV4& flows;
    core::SynTable& syns;
    core::FlowKeyV4 key;
    std::uint64_t syn_key;
    std::uint32_t client_prefix;  ///< the client's /24

    KeyedV4(const core::Packet& p, WorkerState& w) noexcept : flows(w.flows_v4), syns(w.syns_v4) {
        const auto address = core::load<std::uint32_t>(p.data + p.l3 + 12);
        key = core::FlowKeyV4::make(address, p.source_port, p.vip);
        syn_key = key.word;
        client_prefix = address & 0x00ffffffU;
    }
};

struct KeyedV6 {
    core::FlowTableV6& flows;
    core::SynTable& syns;
    core::FlowKeyV6 key;
    std::uint64_t syn_key;
    std::uint32_t client_prefix;  ///< of the client's /48, folded

    KeyedV6(const core::Packet& p, WorkerState& w) noexcept : flows(w.flows_v6), syns(w.syns_v6) {
        const std::uint8_t* address = p.data + p.l3 + 8;
        key = core::FlowKeyV6::make(address, p.source_port, p.vip);
        syn_key = p.flow_hash;
        client_prefix = core::load<std::uint32_t>(address) ^ core::load<std::uint16_t>(address + 4);
    }
};

/// True while flows pinned to `backend` stay there.
[[nodiscard]] inline bool keeps(std::uint16_t backend, const core::PoolEntry& pool,
                                const Context& context) noexcept {
    if (!context.tables.has_backend(backend)) return false;
    if (!context.host.backend(api::BackendId{backend}).keep) return false;
    return context.host.effective(pool.id, api::SiteId{context.tables.backends[backend].site}).keep;
}

/// Chooses a backend for `packet`, or drops it. True when there is one.
[[nodiscard]] inline bool choose(core::Packet& packet, const Context& context, core::Admission admission,
                                 api::Reason reason) noexcept {
    const core::PoolEntry& pool = context.tables.pools[packet.pool];
    const core::Choice c = core::choose(context.tables, pool, context.host, packet.choice_hash, admission);
    if (c.backend == core::kNoBackendId) {
        drop(packet, c.site == core::kNoSiteId ? api::Reason::kNoSite : api::Reason::kNoBackend);
        return false;
    }
    packet.backend = c.backend;
    packet.site = c.site;
    packet.reason = reason;
    return true;
}

inline void send_to(core::Packet& packet, std::uint16_t backend, const Context& context,
                    api::Reason reason) noexcept {
    packet.backend = backend;
    packet.site = context.tables.backends[backend].site;
    packet.reason = reason;
}

}  // namespace detour::stages
