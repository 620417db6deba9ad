// Which sites of a lower tier are needed, for their activation.
#include <algorithm>

#include "control/app/engine_impl.h"

namespace detour::app {
namespace {

constexpr std::chrono::seconds kNoRoomFor{10};

}  // namespace

Engine::Impl::Better Engine::Impl::better_than(const Part& part) const {
    Better better;
    const auto tier = [&](Index site) { return config_.sites[site].tier; };
    for (const Index index : fleet_.pools[part.pool].parts) {
        const Part& other = fleet_.parts[index];
        if (tier(other.site) >= tier(part.site)) continue;
        better.any = true;
        better.takes |= takes(fleet_, other);
    }
    return better;
}

/// Better sites take new flows of all its pools.
bool Engine::Impl::stands_by(const SiteState& site) const {
    return std::ranges::all_of(site.parts, [&](Index index) {
        const Part& part = fleet_.parts[index];
        return part.weight == 0 || better_than(part).takes;
    });
}

/// A pool of it has better sites, and none of them takes new flows, or they have had no room for all for a
/// while: power is lost for days, a burst of flows is over in seconds.
Needs Engine::Impl::needs() const {
    Needs needs;
    needs.fail_static = fail_static_;
    for (Index i = 0; i < fleet_.sites.size(); ++i) {
        const SiteState& site = fleet_.sites[i];
        if (!config_.sites[i].activation.configured() || site.admission.drained()) continue;
        const auto lacks_better = [&](Index index) {
            const Part& part = fleet_.parts[index];
            const Better better = better_than(part);
            const auto& sheds_since = fleet_.pools[part.pool].sheds_since;
            const bool no_room = sheds_since && now_.monotonic - *sheds_since >= kNoRoomFor;
            return part.weight > 0 && better.any && (!better.takes || no_room);
        };
        if (std::ranges::any_of(site.parts, lacks_better)) needs.sites.push_back(site.name);
    }
    return needs;
}

}  // namespace detour::app
