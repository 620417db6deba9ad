// Random switches, the same in the fast path and in the model: dark, drained, ramping, stranded and dead at
// random.
#pragma once

#include <cstdint>
#include <random>

#include "dataplane/api/plan.h"
#include "dataplane/core/host_state.h"
#include "tests/support/model.h"

namespace detour::support {

[[nodiscard]] inline core::SwitchValue random_switch(std::mt19937_64& random) {
    const auto admit = [&] {
        switch (random() % 3) {
            case 0:
                return api::kAdmitNone;
            case 1:
                return api::kAdmitAll;
            default:
                return api::Admit{static_cast<std::uint16_t>(random())};
        }
    };
    return {admit(), admit(), random() % 4 != 0};
}

/// Sets the same in the fast path and in the model's switches.
[[nodiscard]] inline model::Switches throw_switches(std::mt19937_64& random, const api::ForwardingPlan& plan,
                                                    core::HostState& host) {
    model::Switches switches;
    for (const api::PlanSite& site : plan.sites) {
        switches.sites[site.id] = random_switch(random);
        host.set_site(site.id, switches.sites[site.id]);
    }
    for (const api::PlanPool& pool : plan.pools) {
        for (const api::PlanPoolSite& site : pool.sites) {
            const core::SwitchValue value = random() % 4 == 0 ? random_switch(random) : core::SwitchValue{};
            switches.pools[{pool.id, site.site}] = value;
            host.set_pool_site(pool.id, site.site, value);
            for (const api::PlanBackend& backend : site.backends) {
                const core::BackendValue up{.up = random() % 3 != 0, .keep = random() % 4 != 0};
                switches.backends[backend.id] = up;
                host.set_backend(backend.id, up);
            }
        }
    }
    return switches;
}

}  // namespace detour::support
