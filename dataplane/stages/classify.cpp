#include "dataplane/core/bytes.h"
#include "dataplane/core/parse.h"
#include "dataplane/stages/stages.h"

namespace detour::stages {
namespace {

using core::load;

/// Source and destination port as they lie in the packet, as one word.
std::uint32_t ports_of(const core::Packet& p) noexcept {
    return static_cast<std::uint32_t>(p.source_port) | static_cast<std::uint32_t>(p.destination_port) << 16U;
}

void hash_v4(core::Packet& p, const Context& context, api::HashKey key) noexcept {
    const std::uint8_t* ip = p.data + p.l3;
    const auto source = load<std::uint32_t>(ip + 12);
    const auto destination = load<std::uint32_t>(ip + 16);
    p.flow_hash = core::hash_v4(context.tables.seed, source, destination, ports_of(p), p.protocol);
    p.choice_hash = p.flow_hash;
    if (key == api::HashKey::kSource) p.choice_hash = core::hash_v4(context.tables.seed, source, 0, 0, 0);
}

void hash_v6(core::Packet& p, const Context& context, api::HashKey key) noexcept {
    static constexpr std::array<std::uint8_t, 16> kAny{};
    const std::uint8_t* ip = p.data + p.l3;
    p.flow_hash = core::hash_v6(context.tables.seed, ip + 8, ip + 24, ports_of(p), p.protocol);
    p.choice_hash = p.flow_hash;
    if (key == api::HashKey::kSource)
        p.choice_hash = core::hash_v6(context.tables.seed, ip + 8, kAny.data(), 0, 0);
}

void classify_one(core::Packet& p, const Context& context) noexcept {
    const std::uint8_t* ip = p.data + p.l3;
    std::array<std::uint64_t, 2> address{};
    if (p.v6 != 0) {
        std::memcpy(address.data(), ip + 24, 16);
    } else {
        std::memcpy(address.data(), ip + 16, 4);
    }
    const core::VipSlot* vip = context.tables.vips.find(address, p.v6, p.protocol, p.destination_port);
    if (vip == nullptr) return to_kernel(p, api::Reason::kNotOurs);
    p.pool = vip->pool;
    p.vip = vip->vip;
    const api::HashKey key = context.tables.pools[vip->pool].hash;
    if (p.v6 != 0) {
        hash_v6(p, context, key);
        context.worker.flows_v6.prefetch(p.flow_hash);
        if ((p.tcp_flags & core::kTcpSyn) != 0) context.worker.syns_v6.prefetch(p.flow_hash);
    } else {
        hash_v4(p, context, key);
        context.worker.flows_v4.prefetch(p.flow_hash);
        if ((p.tcp_flags & core::kTcpSyn) != 0) context.worker.syns_v4.prefetch(p.flow_hash);
    }
}

}  // namespace

void classify(core::Batch& batch, const Context& context) noexcept {
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        core::Packet& p = batch.packets[i];
        if (p.verdict == core::Verdict::kPending && (p.protocol == 6 || p.protocol == 17))
            classify_one(p, context);
    }
}

}  // namespace detour::stages
