// Probes through the tunnel: which of the pool's VIPs one asks, and how that is told.
#include "control/app/engine_impl.h"

namespace detour::app {

std::optional<health::ProbeTunnel> Engine::Impl::tunnel_of(const Target& target) const {
    const PoolState& pool = fleet_.pools[target.pool];
    if (pool.tunnel_vips.empty()) return std::nullopt;
    health::ProbeTunnel tunnel;
    tunnel.vip = pool.tunnel_vips[target.vip_turn % pool.tunnel_vips.size()];
    tunnel.encap = pool.encap;
    const auto hop = resolved_.find(target.address);
    if (hop != resolved_.end()) tunnel.mtu = hop->second.mtu;
    return tunnel;
}

/// A miss says which VIP did not answer: after one, it is that VIP's turn again.
std::string Engine::Impl::told(const Target& target, const health::Outcome& outcome) const {
    const std::string text = outcome.to_string();
    const auto tunnel = tunnel_of(target);
    if (!tunnel || outcome.cause == health::Cause::kOk) return text;
    return text + " (through the tunnel, from " + tunnel->vip.to_string() + ")";
}

}  // namespace detour::app
