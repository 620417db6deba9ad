// A forwarding plan as a piece of work: all that it depends on, so that any thread can make it while the one
// that ordered it goes on.
//
// With 10,000 backends a plan takes tens of milliseconds, more than a probe's answer may wait. What an order
// holds is shared and never changes. Pure, any thread.
#pragma once

#include <memory>

#include "control/plan/plan.h"

namespace detour::plan {

struct Order {
    std::uint64_t number = 0;  ///< the answer says it again
    std::shared_ptr<const config::Config> config;
    std::shared_ptr<const Ids> ids;  ///< assigned from `config`
    std::shared_ptr<const NextHops> next_hops;
    api::Generation generation;
    /// Plans that must not come again: the one in force and the last that was refused. Null: none.
    std::shared_ptr<const api::ForwardingPlan> published, refused;
};

struct Made {
    std::uint64_t number = 0;
    /// Null: its content is that of one that must not come again. Errors: those of make_plan().
    api::Result<std::shared_ptr<api::ForwardingPlan>> plan;
};

[[nodiscard]] Made carry_out(const Order& order);

}  // namespace detour::plan
