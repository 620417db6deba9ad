// Which sites of a lower tier are needed, for their activation.
#include <algorithm>

#include "control/app/engine_impl.h"

namespace detour::app {

/// A pool of it has better sites, and none of them takes new flows.
Needs Engine::Impl::needs() const {
    Needs needs;
    needs.fail_static = fail_static_;
    const auto tier = [&](Index site) { return config_.sites[site].tier; };
    for (Index i = 0; i < fleet_.sites.size(); ++i) {
        const SiteState& site = fleet_.sites[i];
        if (!config_.sites[i].activation.configured() || site.admission.drained()) continue;
        const auto lacks_better = [&](Index index) {
            std::size_t better = 0;
            for (const Index other : fleet_.pools[fleet_.parts[index].pool].parts) {
                const Part& part = fleet_.parts[other];
                if (tier(part.site) >= tier(i)) continue;
                if (takes(fleet_, part)) return false;
                ++better;
            }
            return better > 0 && fleet_.parts[index].weight > 0;
        };
        if (std::ranges::any_of(site.parts, lacks_better)) needs.sites.push_back(site.name);
    }
    return needs;
}

}  // namespace detour::app
