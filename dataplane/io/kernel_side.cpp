#include "dataplane/io/kernel_side.h"

#include <utility>

namespace detour::io {

std::vector<api::Vip> vips_of(const api::ForwardingPlan& plan) {
    std::vector<api::Vip> vips;
    for (const api::PlanPool& pool : plan.pools) {
        for (const api::PlanVip& vip : pool.vips) vips.push_back(vip.vip);
    }
    return vips;
}

api::Result<KernelSide> KernelSide::take_over(std::span<const PortSpec> ports,
                                              std::span<const api::Vip> vips) {
    KernelSide side;
    for (const PortSpec& port : ports) {
        if (port.kind != PortKind::kInterface) continue;
        auto guard = bpf::take_over(port.name, vips);
        if (!guard) return tl::unexpected(guard.error());
        side.interfaces_.push_back({port.name, *std::move(guard), {}});
    }
    return side;
}

api::Result<void> KernelSide::find_steering() {
    for (Interface& interface : interfaces_) {
        auto steering = bpf::Steering::find(interface.name);
        if (!steering) return tl::unexpected(steering.error());
        interface.steering.clear();
        interface.steering.push_back(*std::move(steering));
    }
    return {};
}

api::Result<void> KernelSide::set_vips(std::span<const api::Vip> vips) {
    for (Interface& interface : interfaces_) {
        auto done = bpf::set_vips(interface.guard, interface.steering.front(), vips);
        if (!done) return done;
    }
    return {};
}

api::Result<void> KernelSide::release() {
    for (Interface& interface : interfaces_) {
        if (auto done = interface.guard.remove(); !done) return done;
    }
    return {};
}

}  // namespace detour::io
