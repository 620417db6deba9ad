#include "control/failover/healthy.h"

#include <algorithm>

namespace detour::failover {

double healthy_share(const Healthy& at, double overprovisioning) noexcept {
    if (!at.others_take || at.whole == 0) return 1;
    const double part = static_cast<double>(at.healthy) / static_cast<double>(at.whole);
    return std::min(1.0, part * overprovisioning);
}

std::string_view to_string(Panic panic) noexcept {
    switch (panic) {
        case Panic::kNone:
            return "none";
        case Panic::kAnswering:
            return "answering";
        case Panic::kAll:
            return "all";
    }
    return "unknown";
}

Panic panic(const PanicView& view, double threshold) noexcept {
    if (view.others_take || view.backends == 0) return Panic::kNone;
    if (view.healthy == 0) return view.answering_badly > 0 ? Panic::kAnswering : Panic::kAll;
    return view.healthy < threshold * view.backends ? Panic::kAnswering : Panic::kNone;
}

}  // namespace detour::failover
