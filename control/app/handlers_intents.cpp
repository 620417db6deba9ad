// The API's handlers of what operators ask for: drains, holds, weights.
#include <fmt/format.h>

#include <algorithm>

#include "control/app/api_view.h"
#include "control/app/event_text.h"
#include "control/app/forecast.h"
#include "control/app/handlers.h"

namespace detour::app {

namespace {

using control::ApiError;

/// The engine names rail and override in its sentence; programs get them apart.
ApiError to_api_error(const api::Error& error) {
    ApiError out(error);
    if (error.code == api::ErrorCode::kRefused && error.what.find("min_sites") != std::string::npos) {
        out.rail = "min_sites";
        out.override_by = "--force";
    }
    if (error.code == api::ErrorCode::kRefused && error.what.find("rail capacity") != std::string::npos) {
        out.rail = "capacity";
        out.override_by = "--force";
    }
    return out;
}

std::string joined(const std::vector<std::string>& words) {
    std::string out;
    for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
    return out;
}

std::vector<control::Missing> missing_of(const IntentResult& result, const std::string& pop) {
    if (!result.not_switched) return {};
    return {{pop, fmt::format("it is on disk, but the fast path has not acknowledged it: {}",
                              result.not_switched->what)}};
}

std::string effect_of(const control::DrainRequest& request) {
    const std::uint32_t percent = request.percent.value_or(100);
    if (percent < 100) {
        return fmt::format("{} takes {} % of its new flows, established ones stay", request.target,
                           100 - percent);
    }
    if (!request.deadline_s)
        return fmt::format("{} takes no new flows, established ones stay", request.target);
    if (*request.deadline_s == 0) {
        return fmt::format("{} takes no new flows, established ones are reset now", request.target);
    }
    return fmt::format("{} takes no new flows, established ones are reset in {} s", request.target,
                       *request.deadline_s);
}

}  // namespace

template <class View>
auto ApiHandlers::view(View make) {
    const Snapshot snapshot = service_.snapshot();
    return make(view_input(snapshot));
}

control::Task<control::DrainReply> ApiHandlers::drain(control::DrainRequest request) {
    using Reply = control::Outcome<control::DrainReply>;
    failover::DrainRequest asked;
    asked.target = request.target;
    // Every override expires: without a time it is the default, and the reply names the end.
    if (request.for_s) asked.duration = std::chrono::seconds(*request.for_s);
    asked.reason = request.reason;
    asked.by = request.by;
    asked.force = request.force;
    asked.last_resort = request.last_resort;
    if (request.percent) asked.percent = *request.percent;
    if (request.deadline_s) asked.deadline = std::chrono::seconds(*request.deadline_s);
    asked.here = request.here;
    failover::IntentRequest intent = std::move(asked);
    const auto result = co_await service_.intend(std::move(intent));
    if (!result) co_return Reply(tl::unexpect, to_api_error(result.error()));

    control::DrainReply reply;
    // The engine may write a target another way than the operator did: the newest drain is ours.
    for (auto& drain : view(view_drains)) {
        if (drain.target == request.target || reply.drain.since < drain.since) reply.drain = std::move(drain);
        if (reply.drain.target == request.target) break;
    }
    reply.drain.acknowledged = !result->not_switched;
    reply.moves = moves(result->before, result->after);
    reply.switch_us = result->switch_us;
    reply.not_done = missing_of(*result, service_.config().pop.name);
    reply.effect = effect_of(request);
    if (!result->warnings.empty()) reply.effect += "; " + joined(result->warnings);
    co_return reply;
}

control::Task<control::UndrainReply> ApiHandlers::undrain(control::UndrainRequest request) {
    using Reply = control::Outcome<control::UndrainReply>;
    // Named: GCC 12 destroys a temporary in a co_await expression twice.
    failover::IntentRequest asked = failover::UndrainRequest{request.target, request.by};
    const auto result = co_await service_.intend(std::move(asked));
    if (!result) co_return Reply(tl::unexpect, to_api_error(result.error()));
    control::UndrainReply reply;
    reply.target = request.target;
    reply.effect = fmt::format("{} takes new flows again", request.target);
    for (const auto& site : result->after.sites) {
        if (std::ranges::find(result->sites, site.name) == result->sites.end()) continue;
        if (site.ramp_end && (!reply.full_at || *reply.full_at < to_api(*site.ramp_end))) {
            reply.full_at = to_api(*site.ramp_end);
        }
        if (site.verdict == failover::Verdict::kDark)
            reply.effect += fmt::format("; {} stays dark", site.name);
    }
    reply.not_done = missing_of(*result, service_.config().pop.name);
    co_return reply;
}

control::Task<control::IntentReply> ApiHandlers::hold(control::HoldRequest request) {
    failover::HoldRequest asked;
    if (request.for_s) asked.duration = std::chrono::seconds(*request.for_s);
    asked.reason = request.reason;
    asked.by = request.by;
    asked.here = request.here;
    failover::IntentRequest intent = std::move(asked);
    std::string effect = "automation stands still: no site goes dark or comes back unasked";
    co_return co_await simple_intent(std::move(intent), std::move(effect));
}

control::Task<control::IntentReply> ApiHandlers::release(control::ReleaseRequest request) {
    failover::IntentRequest intent = failover::ReleaseRequest{request.by};
    std::string effect = "automation goes on";
    co_return co_await simple_intent(std::move(intent), std::move(effect));
}

control::Task<control::IntentReply> ApiHandlers::weight(control::WeightRequest request) {
    failover::WeightRequest asked;
    asked.target = request.target;
    asked.weight = request.weight;
    if (request.for_s) asked.duration = std::chrono::seconds(*request.for_s);
    asked.reason = request.reason;
    asked.by = request.by;
    asked.force = request.force;
    asked.here = request.here;
    std::string effect = request.weight ? fmt::format("{} has weight {}", request.target, *request.weight)
                                        : fmt::format("{} is weighted as configured", request.target);
    failover::IntentRequest intent = std::move(asked);
    co_return co_await simple_intent(std::move(intent), std::move(effect));
}

control::Task<control::IntentReply> ApiHandlers::simple_intent(failover::IntentRequest request,
                                                               std::string effect) {
    using Reply = control::Outcome<control::IntentReply>;
    const auto target = [&]() -> std::string {
        const auto* weight = std::get_if<failover::WeightRequest>(&request);
        return weight == nullptr ? std::string() : weight->target;
    }();
    const bool holds = std::holds_alternative<failover::HoldRequest>(request);
    const auto result = co_await service_.intend(std::move(request));
    if (!result) co_return Reply(tl::unexpect, to_api_error(result.error()));
    control::IntentReply reply;
    reply.effect = std::move(effect);
    if (!result->warnings.empty()) reply.effect += "; " + joined(result->warnings);
    if (holds && result->after.hold) reply.expires = to_api(result->after.hold->until);
    for (const auto& weight : result->after.weights) {
        if (!target.empty() && weight.target == target) reply.expires = to_api(weight.weight.until);
    }
    reply.not_done = missing_of(*result, service_.config().pop.name);
    co_return reply;
}

}  // namespace detour::app
