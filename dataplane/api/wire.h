// Plan and switches as protobuf messages, and back.
//
// Decoding is where bytes from outside become a plan, so it checks everything: bounds of limits.h, ids that
// repeat, references that lead nowhere, weights, addresses, an empty plan. What passes here never fails
// later. Pure functions, any thread.
#pragma once

#include "dataplane/api/plan.h"
#include "dataplane/api/result.h"

namespace detour::wire {
class Plan;
class SiteSwitch;
class BackendSwitch;
class FlowLimit;
class Failure;
}  // namespace detour::wire

namespace detour::api {

/// `message` is cleared first.
void encode(const ForwardingPlan& plan, wire::Plan& message);
void encode(const SiteSwitch& value, wire::SiteSwitch& message);
void encode(const BackendSwitch& value, wire::BackendSwitch& message);
void encode(const FlowLimit& value, wire::FlowLimit& message);
void encode(const Error& error, wire::Failure& message);

/// Error kInvalidArgument with the offending field, kLimit for a bound, kRefused for a plan without a pool.
[[nodiscard]] Result<ForwardingPlan> decode(const wire::Plan& message);
[[nodiscard]] Result<SiteSwitch> decode(const wire::SiteSwitch& message);
[[nodiscard]] Result<BackendSwitch> decode(const wire::BackendSwitch& message);
[[nodiscard]] Result<FlowLimit> decode(const wire::FlowLimit& message);
[[nodiscard]] Error decode(const wire::Failure& message);

/// The checks of decode() on a plan that was not on the wire (the planner calls it before it publishes).
[[nodiscard]] Result<void> check(const ForwardingPlan& plan);

}  // namespace detour::api
