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

    [[nodiscard]] static const core::FlowTableV4& flows_of(const WorkerState& w) noexcept {
        return w.flows_v4;
    }
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

    [[nodiscard]] static const core::FlowTableV6& flows_of(const WorkerState& w) noexcept {
        return w.flows_v6;
    }
    KeyedV6(const core::Packet& p, WorkerState& w) noexcept : flows(w.flows_v6), syns(w.syns_v6) {
        const std::uint8_t* address = p.data + p.l3 + 8;
        key = core::FlowKeyV6::make(address, p.source_port, p.vip);
        syn_key = p.flow_hash;
        client_prefix = core::load<std::uint32_t>(address) ^ core::load<std::uint16_t>(address + 4);
    }
};

/// Whether any VIP has the packet's destination address, on whatever port.
[[nodiscard]] inline bool is_for_a_vip(const core::Packet& p, const Context& context) noexcept {
    core::VipMap::Address address{};
    const std::uint8_t* ip = p.data + p.l3;
    if (p.v6 != 0) {
        std::memcpy(address.data(), ip + 24, 16);
    } else {
        std::memcpy(address.data(), ip + 16, 4);
    }
    return context.tables.vips.has_address(address, p.v6);
}

/// True while flows pinned to `backend` stay there.
[[nodiscard]] inline bool keeps(std::uint16_t backend, api::PoolId pool, const Context& context) noexcept {
    return core::keeps(context.tables, context.host, pool, backend);
}

/// True where the flows of `backend` are ended although it lives: it is told too, and no pool is spared.
[[nodiscard]] inline bool ends(std::uint16_t backend, api::PoolId pool, const Context& context) noexcept {
    if (!context.tables.has_backend(backend)) return false;
    const core::BackendValue own = context.host.backend(api::BackendId{backend});
    const core::SwitchValue site =
        context.host.effective(pool, api::SiteId{context.tables.backends[backend].site});
    return (!own.keep && own.end) || (!site.keep && site.end);
}

/// What chooses site and backend for `packet` of the client at `client` (an address as in the packet).
[[nodiscard]] inline std::uint64_t choice_hash(const core::Packet& packet, const std::uint8_t* client,
                                               api::HashKey key, const core::HashSeed& seed) noexcept {
    if (packet.v6 != 0) return core::choice_hash_v6(seed, key, packet.flow_hash, client);
    return core::choice_hash_v4(seed, key, packet.flow_hash, core::load<std::uint32_t>(client));
}
/// Where the packet has its source address.
[[nodiscard]] inline const std::uint8_t* client_of(const core::Packet& packet) noexcept {
    return packet.data + packet.l3 + (packet.v6 != 0 ? 8 : 12);
}

/// For the packets in `batch.rest` that may be of new flows, before the full pass: see core::prefetch_slot.
inline void prefetch_choices(const core::Batch& batch, const Context& context) noexcept {
    const auto each = [&](auto prefetch) {
        for (const std::uint8_t i : batch.rest) {
            const core::Packet& p = batch.packets[i];
            const core::PoolEntry& pool = context.tables.pools[p.pool];
            prefetch(pool, choice_hash(p, client_of(p), pool.hash, context.tables.seed));
        }
    };
    each([](const core::PoolEntry& pool, std::uint64_t hash) { core::prefetch_slot(pool, hash); });
    each([](const core::PoolEntry& pool, std::uint64_t hash) { core::prefetch_backend(pool, hash); });
}

/// Chooses a backend for `packet` of the client at `client`, or drops it. True when there is one.
[[nodiscard]] inline bool choose(core::Packet& packet, const std::uint8_t* client, const Context& context,
                                 core::Admission admission, api::Reason reason) noexcept {
    const core::PoolEntry& pool = context.tables.pools[packet.pool];
    const std::uint64_t hash = choice_hash(packet, client, pool.hash, context.tables.seed);
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
    return choose(packet, client_of(packet), context, admission, reason);
}

inline void send_to(core::Packet& packet, std::uint16_t backend, const Context& context,
                    api::Reason reason) noexcept {
    packet.backend = backend;
    packet.site = context.tables.backends[backend].site;
    packet.reason = reason;
    __builtin_prefetch(&context.tables.headers[backend]);
}

}  // namespace detour::stages
