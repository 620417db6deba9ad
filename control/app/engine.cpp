#include "control/app/engine.h"

#include <algorithm>
#include <utility>

#include "control/app/engine_impl.h"

namespace detour::app {

using failover::Phase;
using health::Monotonic;
using health::State;

Engine::Engine(config::Config config, StoredState state, StoredIntents intents, Now now)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(state), std::move(intents), now)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

Actions Engine::start(Now now) {
    return impl_->start(now);
}
Actions Engine::adopt(const FastPathState& state, Now now) {
    return impl_->adopt(state, now);
}
Actions Engine::on_disconnected(Now now) {
    return impl_->on_disconnected(now);
}
Actions Engine::on_plan_made(plan::Made made, Now now) {
    return impl_->on_plan_made(std::move(made), now);
}
Actions Engine::on_plan_applied(api::Generation generation, Now now) {
    return impl_->on_plan_applied(generation, now);
}
Actions Engine::on_plan_refused(api::Generation generation, const api::Error& error, Now now) {
    return impl_->on_plan_refused(generation, error, now);
}
Actions Engine::on_probe(std::uint64_t serial, const health::Outcome& outcome, Now now) {
    return impl_->on_probe(serial, outcome, now);
}
Actions Engine::on_signals(const Signals& signals, Now now) {
    return impl_->on_signals(signals, now);
}
Actions Engine::on_bfd(const BfdReport& report, Now now) {
    return impl_->on_bfd(report, now);
}
Actions Engine::on_next_hops(const plan::NextHops& next_hops, Now now) {
    return impl_->on_next_hops(next_hops, now);
}
Actions Engine::on_tick(Now now) {
    return impl_->on_tick(now);
}
api::Result<Actions> Engine::reload(config::Config config, Now now) {
    return impl_->reload(std::move(config), now);
}
api::Result<Engine::Prepared> Engine::prepare(const failover::IntentRequest& request, Now now) {
    return impl_->prepare(request, now);
}
Actions Engine::commit(Now now) {
    return impl_->commit(now);
}
void Engine::abort() {
    impl_->abort();
}
bool Engine::plan_ordered() const {
    return impl_->plan_ordered();
}
api::Generation Engine::generation() const {
    return impl_->generation();
}
std::unordered_map<api::BackendId, std::string> Engine::sites_of_backends() const {
    return impl_->sites_of_backends();
}
Needs Engine::needs() const {
    return impl_->needs();
}
Snapshot Engine::snapshot(Now now) const {
    return impl_->snapshot(now);
}
const config::Config& Engine::config() const {
    return impl_->config();
}
const failover::Intents& Engine::intents() const {
    return impl_->intents();
}

Engine::Impl::Impl(config::Config config, StoredState state, StoredIntents intents, Now now)
    : config_(std::move(config)), generation_(state.generation), intents_(std::move(intents)) {
    begin(now);
    const api::Generation next{generation_.value() + 1};
    plan::Ids ids = std::move(state.ids);
    if (!ids.assign(config_, next, api::Generation{0})) {
        // Every id is taken by something long gone. Nothing runs on them here yet: a fast path that does is
        // adopted.
        ids = {};
        if (!ids.assign(config_, next, api::Generation{0})) ids = {};
    }
    ids_ = std::make_shared<const plan::Ids>(std::move(ids));
    (void)drop_old_weights();
    rebuild();
    for (SiteState& site : fleet_.sites) {
        site.since = now.wall;
        if (const auto flaps = state.flaps.find(site.key); flaps != state.flaps.end())
            site.flaps = flaps->second;
        const auto saved = state.sites.find(site.key);
        if (saved == state.sites.end()) continue;
        site.admission.restore(saved->second, rules(site), now);
        site.saved = saved->second;
        site.reported = saved->second.phase;
        site.reported_stranded = saved->second.stranded;
    }
    state_dirty_ = true;
}

Actions Engine::Impl::start(Now now) {
    begin(now);
    started_ = true;
    schedule_all();
    schedule_ready();
    return finish();
}

void Engine::Impl::begin(Now now) {
    now_ = now;
    // events may wait in out_ since the constructor or prepare_*; nothing else does.
}

Event& Engine::Impl::event(EventKind kind, const std::string& reason) {
    Event value;
    value.at = now_;
    value.kind = kind;
    value.reason = reason;
    out_.events.push_back(std::move(value));
    return out_.events.back();
}

Event& Engine::Impl::event(EventKind kind, const SiteState& site, const std::string& reason) {
    Event& value = event(kind, reason);
    value.site = site.name;
    return value;
}

Event& Engine::Impl::event(EventKind kind, const Target& target, const std::string& reason) {
    Event& value = event(kind, fleet_.sites[target.site], reason);
    value.pool = fleet_.pools[target.pool].name;
    value.backend = target.address.to_string();
    return value;
}

Actions Engine::Impl::finish(Deferring deferring) {
    settle();
    const bool later = urgent_ && deferring == Deferring::kAllowed;
    out_.sites = board_.take_sites();
    out_.backends = board_.take_backends();
    if (!later) {
        order_plan();
        save_if_changed();
    }
    out_.next_wakeup = next_wakeup();
    return std::exchange(out_, {});
}

void Engine::Impl::rebuild() {
    const Fleet old = std::exchange(fleet_, {});
    effective_ = std::make_shared<const config::Config>(failover::with_weights(config_, intents_.weights));
    fleet_ = make_fleet(*effective_, *ids_, old);
    passive_.forget();  // an id may be another backend's now
    for (auto it = in_flight_.begin(); it != in_flight_.end();) {
        it->second.target = fleet_.carried[it->second.target];
        it = it->second.target == kGone ? in_flight_.erase(it) : std::next(it);
    }
    for (auto it = asked_.begin(); it != asked_.end();) {
        it->second.target = fleet_.carried[it->second.target];
        it = it->second.target == kGone ? asked_.erase(it) : std::next(it);
    }
    order_pools();
    tiers_.clear();
    for (const config::Site& site : config_.sites) tiers_.push_back(site.tier);
    allocated_to_.clear();
    busy_parts_.clear();
    dirty_parts_.clear();
    dirty_gates_.clear();
    dirty_targets_.clear();
    dirty_pools_.clear();
    deferred_pools_.clear();
    for (Index i = 0; i < fleet_.parts.size(); ++i) {
        if (fleet_.parts[i].admission.phase() != Phase::kLive) busy_parts_.insert(i);
    }
    strands_.clear();
    by_id_.clear();
    for (Index i = 0; i < fleet_.targets.size(); ++i) {
        const Target& target = fleet_.targets[i];
        by_id_.emplace(target.id, i);
        if (target.state.state() == State::kDown && !target.stranded) {
            strands_.set(i, now_.monotonic + config_.failover.strand_after);
        }
    }
    apply_drains(failover::DrainEnd::kOperator);
    if (started_) {
        schedule_all();
        schedule_ready();
    }
    plan_wanted_ = true;
    order_outdated_ = order_under_way_;
    state_dirty_ = true;
}

Actions Engine::Impl::adopt(const FastPathState& state, Now now) {
    begin(now);
    scanned_ = acknowledged_ = api::Generation{0};
    instance_ = state.instance;
    generation_ = std::max(generation_, state.generation);
    plan::Ids ids = *ids_;
    if (state.plan) ids.adopt(*state.plan);
    const auto assigned = ids.assign(config_, api::Generation{generation_.value() + 1}, api::Generation{0});
    if (!assigned) {
        board_.disconnect();
        event(EventKind::kAlarm, "the fast path is left as it is: " + assigned.error().to_string());
        return finish(Deferring::kNo);
    }
    ids_ = std::make_shared<const plan::Ids>(std::move(ids));
    rebuild();
    board_.adopt(state.sites, state.backends);
    adopt_limits(state.limits);
    allocated_to_.clear();
    if (!adopted_ && state.plan) adopt_phases(state);
    adopted_ = true;
    published_.reset();
    refused_.reset();
    applied_ = state.generation;
    if (state.plan) {
        auto plan = std::make_shared<api::ForwardingPlan>(*state.plan);
        plan::normalize(*plan);
        published_ = std::move(plan);
        for (const auto& [address, hop] : plan::next_hops_of(*published_))
            resolved_.try_emplace(address, hop);
    }
    if (hops_) hops_ = std::make_shared<const plan::NextHops>(with_resolved(*hops_));
    for (SiteState& site : fleet_.sites) {
        site.acks_known = false;
        mark(site);
    }
    passive_.forget();
    event(EventKind::kAdopted, "generation " + std::to_string(state.generation.value()));
    return finish(Deferring::kNo);
}

/// A restart is no event: what the fast path does now is what this process starts from.
void Engine::Impl::adopt_phases(const FastPathState& state) {
    for (SiteState& site : fleet_.sites) {
        if (site.touched) continue;
        site.admission.adopt(board_.in_force(site.id, std::nullopt), site.admission.record(), rules(site),
                             now_);
        site.reported = site.admission.phase();
        site.reported_stranded = site.admission.record().stranded;
    }
    adopt_targets(state);
    adopt_writers();
    for (PoolState& pool : fleet_.pools) pool.bounded = false;  // settled before what runs was known
    for (Part& part : fleet_.parts) count(fleet_, part);
    // Leaders first: what they do explains what their followers do.
    for (const Index pool : pool_order_) {
        for (const Index i : fleet_.pools[pool].parts) {
            bound_by_health(fleet_.pools[pool], i);
        }
        if (fleet_.pools[pool].follows) follow_others(fleet_.pools[pool]);
        for (const Index i : fleet_.pools[pool].parts) {
            Part& part = fleet_.parts[i];
            const failover::Gate gate = board_.in_force(fleet_.sites[part.site].id, fleet_.pools[pool].id);
            adopt_spill(part, gate);
            part.admission.adopt(unbounded(part, gate), std::nullopt, part_rules(), now_);
            if (part.admission.phase() != Phase::kLive) busy_parts_.insert(i);
        }
    }
}

void Engine::Impl::adopt_targets(const FastPathState& state) {
    std::map<api::BackendId, Index> by_id;
    for (Index i = 0; i < fleet_.targets.size(); ++i) by_id.emplace(fleet_.targets[i].id, i);
    for (const api::BackendSwitch& value : state.backends) {
        const auto found = by_id.find(value.backend);
        if (found == by_id.end()) continue;
        Target& target = fleet_.targets[found->second];
        if (target.state.state() != State::kUnknown) continue;
        if (!value.up && !target.drained) target.state.set(State::kDown);
        target.stranded = !value.keep && !target.let_go;
        target.judged = {value.up || target.drained, value.keep || target.let_go};
    }
    std::set<api::BackendId> known;
    for (const api::PlanPool& pool : state.plan->pools) {
        for (const api::PlanPoolSite& site : pool.sites) {
            for (const api::PlanBackend& backend : site.backends) known.insert(backend.id);
        }
    }
    for (Target& target : fleet_.targets) target.fresh = !known.contains(target.id);
}

Actions Engine::Impl::on_disconnected(Now now) {
    begin(now);
    if (board_.connected()) event(EventKind::kFastPathLost, "the control channel is closed");
    board_.disconnect();
    return finish();
}

Actions Engine::Impl::on_plan_applied(api::Generation generation, Now now) {
    begin(now);
    applied_ = std::max(applied_, generation);
    event(EventKind::kPlanApplied, "generation " + std::to_string(generation.value()));
    return finish();
}

Actions Engine::Impl::on_plan_refused(api::Generation generation, const api::Error& error, Now now) {
    begin(now);
    if (published_ && published_->generation == generation) refused_ = std::exchange(published_, nullptr);
    event(EventKind::kPlanRefused,
          "generation " + std::to_string(generation.value()) + ": " + error.to_string());
    return finish();
}

Actions Engine::Impl::on_next_hops(const plan::NextHops& next_hops, Now now) {
    begin(now);
    for (const auto& [address, hop] : next_hops) {
        if (hop.resolved) resolved_[address] = hop;
    }
    plan::NextHops after = with_resolved(next_hops);
    if (!hops_ || *hops_ != after) plan_wanted_ = true;
    hops_ = std::make_shared<const plan::NextHops>(std::move(after));
    return finish();
}

/// An old neighbour address may still be right; none at all never is.
plan::NextHops Engine::Impl::with_resolved(plan::NextHops next_hops) const {
    for (auto& [address, hop] : next_hops) {
        const auto known = resolved_.find(address);
        if (!hop.resolved && known != resolved_.end() && known->second.port == hop.port) hop = known->second;
    }
    return next_hops;
}

api::Result<Actions> Engine::Impl::reload(config::Config config, Now now) {
    begin(now);
    plan::Ids ids = *ids_;
    const auto assigned = ids.assign(config, api::Generation{generation_.value() + 1}, scanned_);
    if (!assigned) return tl::unexpected(assigned.error());
    rename_pools_in_drains(config, ids);
    config_ = std::move(config);
    ids_ = std::make_shared<const plan::Ids>(std::move(ids));
    if (!pending_) (void)drop_old_weights();
    rebuild();
    for (SiteState& site : fleet_.sites) {
        mark(site);
        update_bfd(site);
    }
    event(EventKind::kReload, std::to_string(config_.sites.size()) + " sites, " +
                                  std::to_string(config_.pools.size()) + " pools, " +
                                  std::to_string(fleet_.targets.size()) + " backends");
    return finish();
}

Actions Engine::Impl::on_tick(Now now) {
    begin(now);
    expire_overrides();
    expire_drains();
    tick_admissions();
    for (SiteState& site : fleet_.sites) {
        tick_bfd(site);
        if (site.burst) check_burst(site);
    }
    tick_strands();
    forget_lost();
    forget_asked();
    if (started_) {
        send_due();
        ask_ready();
    }
    return finish();
}

/// One at a time: next hops that change faster than plans are made still get their plans.
void Engine::Impl::order_plan() {
    if (!plan_wanted_ || order_under_way_ || !board_.connected() || !hops_) return;
    plan_wanted_ = false;
    order_under_way_ = true;
    order_outdated_ = false;
    const api::Generation next{generation_.value() + 1};
    out_.order = plan::Order{++order_number_, effective_, ids_, hops_, next, published_, refused_};
}

Actions Engine::Impl::on_plan_made(plan::Made made, Now now) {
    begin(now);
    if (!order_under_way_ || made.number != order_number_) return finish();
    order_under_way_ = false;
    if (order_outdated_ || !board_.connected()) {
        plan_wanted_ = true;
    } else if (!made.plan) {
        event(EventKind::kAlarm, "no plan: " + made.plan.error().to_string());
    } else if (*made.plan != nullptr) {
        send(std::move(*made.plan));
    }
    return finish();
}

void Engine::Impl::send(std::shared_ptr<api::ForwardingPlan> plan) {
    for (api::PlanSite& site : plan->sites) site.verdict = board_.sequence(site.id);
    generation_ = plan->generation;
    state_dirty_ = true;
    published_ = std::move(plan);
    event(EventKind::kPlan, "generation " + std::to_string(generation_.value()));
    out_.plan = published_;
}

void Engine::Impl::save_if_changed() {
    for (const SiteState& site : fleet_.sites) state_dirty_ |= site.saved != site.admission.record();
    if (!state_dirty_) return;
    state_dirty_ = false;
    StateToWrite state{generation_, ids_, {}, {}};
    for (SiteState& site : fleet_.sites) {
        site.saved = site.admission.record();
        state.sites[site.key] = site.saved;
        if (site.flaps.noted() > 0) state.flaps[site.key] = site.flaps;
    }
    out_.state = std::move(state);
}

Monotonic Engine::Impl::next_wakeup() const {
    if (urgent_) return now_.monotonic;
    Monotonic next =
        std::min(started_ ? std::min(due_.next(), ready_due_.next()) : health::kNever, strands_.next());
    for (const SiteState& site : fleet_.sites) {
        next = std::min(next, site.admission.next(rules(site), now_));
        if (site.burst) next = std::min(next, site.burst_end);
        next = std::min(next, site.bfd_watch.next());
    }
    for (const Index index : busy_parts_) {
        next = std::min(next, fleet_.parts[index].admission.next(part_rules(), now_));
    }
    const health::nanoseconds intent = next_intent();
    if (intent != health::nanoseconds::max()) next = std::min(next, now_.monotonic + intent);
    return next;
}

}  // namespace detour::app
