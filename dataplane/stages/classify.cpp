#include "dataplane/core/bytes.h"
#include "dataplane/stages/flow.h"

namespace detour::stages {
namespace {

using core::load;

/// The destination is a VIP: its ids, the flow's hash, and the lines that the flow stages will read.
template <class Keyed>
void known_vip(core::Packet& p, const core::VipEntry& vip, WorkerState& w) noexcept {
    p.pool = vip.pool;
    p.pool_id = vip.pool_id;
    p.vip = vip.vip;
    const Keyed k(p, w);
    k.flows.prefetch_first(p.flow_hash);
}

bool classify_v4(core::Packet& p, const Context& context) noexcept {
    const std::uint8_t* ip = p.data + p.l3;
    const auto destination = load<std::uint32_t>(ip + 16);
    const core::VipEntry* vip = context.tables.vips.find_v4(destination, p.protocol, p.destination_port);
    if (vip == nullptr) return false;
    p.flow_hash = core::hash_v4(context.tables.seed, load<std::uint32_t>(ip + 12), destination, ports_of(p),
                                p.protocol);
    known_vip<KeyedV4>(p, *vip, context.worker);
    return true;
}

bool classify_v6(core::Packet& p, const Context& context) noexcept {
    const std::uint8_t* ip = p.data + p.l3;
    core::VipMap::Address destination;
    std::memcpy(destination.data(), ip + 24, sizeof destination);
    const core::VipEntry* vip = context.tables.vips.find_v6(destination, p.protocol, p.destination_port);
    if (vip == nullptr) return false;
    p.flow_hash = core::hash_v6(context.tables.seed, ip + 8, ip + 24, ports_of(p), p.protocol);
    known_vip<KeyedV6>(p, *vip, context.worker);
    return true;
}

/// Not inlined: the loop stays small.
[[gnu::noinline]] void stray(core::Packet& p, const Context& context) noexcept {
    to_kernel(p, is_for_a_vip(p, context) ? api::Reason::kNoService : api::Reason::kNotOurs);
}

}  // namespace

void classify(core::Batch& batch, const Context& context) noexcept {
    batch.tcp().clear();
    batch.udp().clear();
    std::uint32_t i = 0;
    for (core::Packet& p : batch.all()) {
        const std::uint32_t index = i++;
        if (p.verdict != core::Verdict::kPending || (p.protocol != 6 && p.protocol != 17)) continue;
        const bool ours = p.v6 != 0 ? classify_v6(p, context) : classify_v4(p, context);
        if (!ours) {
            stray(p, context);
            continue;
        }
        batch.by_transport[p.protocol == 17 ? 1 : 0].add(index);
    }
}

}  // namespace detour::stages
