#include "control/app/handlers.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/app/api_view.h"
#include "control/app/event_text.h"
#include "control/app/forecast.h"

namespace detour::app {

namespace {

using control::ApiError;

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

ViewInput ApiHandlers::view_input(const Snapshot& snapshot) const {
    return {snapshot,
            service_.config(),
            service_.figures(),
            service_.counters(),
            service_.options(),
            service_.next_hops(),
            service_.switches_pending(),
            service_.prober().shed(),
            service_.log().last(),
            service_.log().not_written(),
            service_.incidents(),
            service_.bfd().counters(),
            service_.tunnel()};
}

template <class View>
auto ApiHandlers::view(View make) {
    const Snapshot snapshot = service_.snapshot();
    return make(view_input(snapshot));
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

std::vector<control::IncidentSummary> ApiHandlers::incidents() {
    return service_.incidents().list();
}

control::Outcome<control::Incident> ApiHandlers::incident(std::uint64_t number) {
    const control::Incident* found = service_.incidents().find(number);
    if (found != nullptr) return *found;
    return tl::unexpected(ApiError(api::ErrorCode::kNotFound, fmt::format("finding incident {}", number),
                                   "there is none of that number, or it is no longer kept"));
}

control::Task<control::ReloadReply> ApiHandlers::reload(control::ReloadRequest request) {
    std::optional<std::chrono::seconds> within;
    if (request.confirm_within_s) within.emplace(*request.confirm_within_s);
    return service_.reload(within);
}

control::Task<control::IntentReply> ApiHandlers::confirm_config() {
    return service_.confirm_config();
}

control::Task<control::ConfigDiff> ApiHandlers::diff_config(control::ConfigDiffRequest request) {
    return service_.diff_config(std::move(request.path));
}

/// Built beside the loop.
control::Task<void> ApiHandlers::update_predictor() {
    using Reply = control::Outcome<void>;
    const auto plan = service_.snapshot().plan;
    if (plan == nullptr)
        co_return Reply(tl::unexpect,
                        ApiError(api::ErrorCode::kUnavailable, "tracing flows", "there is no plan yet"));
    if (predictor_ && predicted_ == plan->generation) co_return Reply();
    const auto work = [&plan] { return std::optional(plan::Predictor::make(*plan, {}, {})); };
    auto made = co_await service_.beside(work);
    if (!*made) co_return Reply(tl::unexpect, ApiError(made->error()));
    predictor_.emplace(std::move(**made));
    predicted_ = plan->generation;
    co_return Reply();
}

control::Task<std::vector<control::FlowPlacement>> ApiHandlers::trace(
    std::span<const control::FlowQuery> flows) {
    using Reply = control::Outcome<std::vector<control::FlowPlacement>>;
    if (auto ready = co_await update_predictor(); !ready) co_return Reply(tl::unexpect, ready.error());
    const Snapshot snapshot = service_.snapshot();
    predictor_->use(snapshot.site_switches, snapshot.backend_switches);
    std::vector<control::FlowPlacement> placements;
    placements.reserve(flows.size());
    for (const auto& flow : flows) placements.push_back(place(snapshot, *predictor_, flow));
    co_return placements;
}

/// Worked out beside the loop: an operator asks this while a site is failing.
control::Task<control::PlanFailReply> ApiHandlers::plan_fail(std::string domain) {
    using Reply = control::Outcome<control::PlanFailReply>;
    const config::Config config = service_.config();
    const auto target = failover::parse_target(domain, config);
    if (!target) co_return Reply(tl::unexpect, ApiError(target.error()));
    std::set<std::string> failing;
    for (const auto& site : config.sites) {
        const bool named = target->kind == failover::TargetKind::kSite && site.key == target->site;
        const bool within =
            target->kind == failover::TargetKind::kDomain && failover::in_domain(site, target->domain);
        if (named || within) failing.insert(site.name);
    }
    if (failing.empty()) {
        co_return Reply(tl::unexpect, ApiError(api::ErrorCode::kInvalidArgument, "predicting a failure",
                                               domain + " is neither a site nor a domain"));
    }
    const Snapshot snapshot = service_.snapshot();
    const auto work = [&] { return forecast(snapshot, config, failing); };
    auto reply = co_await service_.beside(work);
    reply.domain = domain;
    co_return reply;
}

}  // namespace detour::app
