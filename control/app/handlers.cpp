#include "control/app/handlers.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/app/api_view.h"
#include "control/app/event_text.h"
#include "control/app/forecast.h"

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

std::string name_of_site(const Snapshot& snapshot, api::SiteId id) {
    const auto found = std::ranges::find(snapshot.sites, id, &SiteStatus::id);
    return found == snapshot.sites.end() ? std::to_string(id.value()) : found->name;
}

control::FlowPlacement place(const Snapshot& snapshot, const plan::Predictor& predictor,
                             const control::FlowQuery& flow) {
    control::FlowPlacement out;
    const auto found = predictor.new_flow({flow.source, flow.source_port, flow.vip, flow.cid});
    if (!found) {
        out.reason = found.error().what;
        return out;
    }
    out.reason = !found->site      ? "no_site"
                 : !found->backend ? "no_backend"
                 : found->by_cid   ? "forwarded_cid"
                                   : "forwarded_new";
    if (found->site) out.site = name_of_site(snapshot, *found->site);
    if (!found->backend) return out;
    const auto backend = std::ranges::find(snapshot.backends, *found->backend, &BackendStatus::id);
    if (backend != snapshot.backends.end()) out.backend = backend->address.to_string();
    return out;
}

}  // namespace

template <class View>
auto ApiHandlers::view(View make) {
    const Snapshot snapshot = service_.snapshot();
    return make(ViewInput{snapshot, service_.config(), service_.figures(), service_.counters(),
                          service_.options(), service_.next_hops(), service_.switches_pending(),
                          service_.prober().shed(), service_.log().last(), service_.log().not_written(),
                          service_.bfd().counters()});
}

control::Version ApiHandlers::version() {
    return view(view_version);
}
control::Status ApiHandlers::status() {
    return view(view_status);
}
std::vector<control::SiteStatus> ApiHandlers::sites() {
    return view(view_sites);
}
std::vector<control::PoolStatus> ApiHandlers::pools() {
    return view(view_pools);
}
std::vector<control::BackendStatus> ApiHandlers::backends() {
    return view(view_backends);
}
control::ConfigInfo ApiHandlers::config() {
    return view(view_config);
}
control::MetricsInput ApiHandlers::metrics() {
    return view(view_metrics);
}

control::EventPage ApiHandlers::events(std::optional<std::uint64_t> since, std::size_t limit) {
    return service_.log().page(since, limit);
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
    const auto result = co_await service_.drain(std::move(asked));
    if (!result) co_return Reply(tl::unexpect, to_api_error(result.error()));

    control::DrainReply reply;
    for (auto& drain : view(view_drains)) {
        // The engine may write a target another way than the operator did: then the newest drain is ours.
        if (drain.target == request.target || reply.drain.since < drain.since) reply.drain = std::move(drain);
        if (reply.drain.target == request.target) break;
    }
    reply.drain.acknowledged = !result->not_switched;
    reply.moves = moves(result->before, result->after);
    reply.switch_us = result->switch_us;
    reply.not_done = missing_of(*result, service_.config().pop.name);
    reply.effect = fmt::format("{} takes no new flows, established ones stay", request.target);
    if (!result->warnings.empty()) reply.effect += "; " + joined(result->warnings);
    co_return reply;
}

control::Task<control::UndrainReply> ApiHandlers::undrain(control::UndrainRequest request) {
    using Reply = control::Outcome<control::UndrainReply>;
    const auto result = co_await service_.undrain(request.target, request.by);
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

control::Task<control::ReloadReply> ApiHandlers::reload() {
    return service_.reload();
}

api::Result<void> ApiHandlers::update_predictor(const Snapshot& snapshot) {
    if (!snapshot.plan)
        return api::fail(api::ErrorCode::kUnavailable, "tracing flows", "there is no plan yet");
    if (!predictor_ || predicted_ != snapshot.plan->generation) {
        auto made = plan::Predictor::make(*snapshot.plan, snapshot.site_switches, snapshot.backend_switches);
        if (!made) return tl::unexpected(made.error());
        predictor_.emplace(std::move(*made));
        predicted_ = snapshot.plan->generation;
        return {};
    }
    predictor_->use(snapshot.site_switches, snapshot.backend_switches);
    return {};
}

control::Outcome<std::vector<control::FlowPlacement>> ApiHandlers::trace(
    std::span<const control::FlowQuery> flows) {
    const Snapshot snapshot = service_.snapshot();
    if (auto ready = update_predictor(snapshot); !ready) return tl::unexpected<ApiError>(ready.error());
    std::vector<control::FlowPlacement> placements;
    placements.reserve(flows.size());
    for (const auto& flow : flows) placements.push_back(place(snapshot, *predictor_, flow));
    return placements;
}

control::Outcome<control::PlanFailReply> ApiHandlers::plan_fail(std::string_view domain) {
    const auto& config = service_.config();
    const auto target = failover::parse_target(domain, config);
    if (!target) return tl::unexpected<ApiError>(target.error());
    std::set<std::string> failing;
    for (const auto& site : config.sites) {
        const bool named = target->kind == failover::TargetKind::kSite && site.key == target->site;
        const bool within =
            target->kind == failover::TargetKind::kDomain && failover::in_domain(site, target->domain);
        if (named || within) failing.insert(site.name);
    }
    if (failing.empty()) {
        return tl::unexpected<ApiError>(ApiError(api::ErrorCode::kInvalidArgument, "predicting a failure",
                                                 std::string(domain) + " is neither a site nor a domain"));
    }
    auto reply = forecast(service_.snapshot(), config, failing);
    reply.domain = domain;
    return reply;
}

}  // namespace detour::app
