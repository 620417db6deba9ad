#include "control/failover/follow.h"

#include <algorithm>

namespace detour::failover {

Follow follow(std::span<const FollowPart> parts) {
    Follow result;
    bool any = false;
    bool any_before = false;
    for (const FollowPart& part : parts) {
        const double most = part.needs.value_or(1.0);
        result.admit.push_back(most);
        any = any || (most > 0 && part.admit > 0);
        any_before = any_before || part.admit > 0;
    }
    if (any || !any_before) return result;
    result.dropped = true;
    std::fill(result.admit.begin(), result.admit.end(), 1.0);
    return result;
}

}  // namespace detour::failover
