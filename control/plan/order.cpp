#include "control/plan/order.h"

#include <utility>

namespace detour::plan {

Made carry_out(const Order& order) {
    auto plan = make_plan(*order.config, *order.ids, *order.next_hops, order.generation);
    if (!plan) return {order.number, tl::unexpected(plan.error())};
    for (const auto* before : {order.published.get(), order.refused.get()}) {
        if (before != nullptr && same_content(*before, *plan)) return {order.number, nullptr};
    }
    return {order.number, std::make_shared<api::ForwardingPlan>(std::move(*plan))};
}

}  // namespace detour::plan
