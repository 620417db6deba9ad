// What the TCP and UDP flow stages share: keys of both families, a pin's liveness, new choices.
//
// Private to stages/. Owner thread only.
#pragma once

#include "dataplane/core/bytes.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/select.h"
#include "dataplane/stages/stages.h"

namespace detour::stages {

/// Source and destination port as they lie in the packet, as one word.
[[nodiscard]] inline std::uint32_t ports_of(const core::Packet& p) noexcept {
    std::uint32_t ports = 0;
    std::memcpy(&ports, &p.source_port, sizeof ports);
    return ports;
}

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
[[nodiscard]] inline bool keeps(std::uint16_t backend, api::PoolId pool, const Context& context) noexcept {
    if (!context.tables.has_backend(backend)) return false;
    if (!context.host.backend(api::BackendId{backend}).keep) return false;
    return context.host.keeps(pool, api::SiteId{context.tables.backends[backend].site});
}

/// Chooses a backend for `packet` of the client at `client`, or drops it. True when there is one.
[[nodiscard]] inline bool choose(core::Packet& packet, const std::uint8_t* client, const Context& context,
                                 core::Admission admission, api::Reason reason) noexcept {
    const core::PoolEntry& pool = context.tables.pools[packet.pool];
    const core::HashSeed& seed = context.tables.seed;
    const std::uint64_t hash =
        packet.v6 != 0
            ? core::choice_hash_v6(seed, pool.hash, packet.flow_hash, client)
            : core::choice_hash_v4(seed, pool.hash, packet.flow_hash, core::load<std::uint32_t>(client));
    const core::Choice c = core::choose(context.tables, pool, context.host, hash, admission);
    if (c.backend == core::kNoBackendId) {
        drop(packet, c.site == core::kNoSiteId ? api::Reason::kNoSite : api::Reason::kNoBackend);
        return false;
    }
    packet.backend = c.backend;
    packet.site = c.site;
    packet.reason = reason;
    __builtin_prefetch(&context.tables.headers[c.backend]);
    return true;
}

/// The same for a packet from the client itself.
[[nodiscard]] inline bool choose(core::Packet& packet, const Context& context, core::Admission admission,
                                 api::Reason reason) noexcept {
    return choose(packet, packet.data + packet.l3 + (packet.v6 != 0 ? 8 : 12), context, admission, reason);
}

inline void send_to(core::Packet& packet, std::uint16_t backend, const Context& context,
                    api::Reason reason) noexcept {
    packet.backend = backend;
    packet.site = context.tables.backends[backend].site;
    packet.reason = reason;
    __builtin_prefetch(&context.tables.headers[backend]);
}

}  // namespace detour::stages
