// Drains: rails, two-step commit, expiry. What else operators ask for is in engine_overrides.cpp.
#include <algorithm>
#include <string>

#include "control/app/engine_impl.h"
#include "control/failover/shares.h"

namespace detour::app {

using api::ErrorCode;
using failover::Drain;
using failover::Phase;
using failover::TargetKind;

namespace {

constexpr const char* kDraining = "draining";

bool covers_site(const failover::Target& target, const SiteState& site, const config::Config& config) {
    if (target.kind == TargetKind::kSite) return target.site == site.key;
    if (target.kind != TargetKind::kDomain) return false;
    const config::Site* described = config.find_site(site.name);
    return described != nullptr && failover::in_domain(*described, target.domain);
}

}  // namespace

void Engine::Impl::Cover::add(const Drain& drain, health::WallTime now) {
    left = std::min(left, drain.left());
    lets_go |= drain.percent == 100 && drain.lets_go(now);
}

Engine::Impl::Coverage Engine::Impl::coverage(const std::vector<Drain>& drains) const {
    Coverage result;
    result.sites.resize(fleet_.sites.size());
    result.last_resort.resize(fleet_.sites.size(), true);
    result.parts.resize(fleet_.parts.size());
    result.targets.resize(fleet_.targets.size());
    for (const Drain& drain : drains) {
        for (Index i = 0; i < fleet_.sites.size(); ++i) {
            if (!covers_site(drain.target, fleet_.sites[i], config_)) continue;
            result.sites[i].add(drain, now_.wall);
            result.last_resort[i] = result.last_resort[i] && drain.last_resort;
        }
        for (Index i = 0; i < fleet_.parts.size() && drain.target.kind == TargetKind::kPoolSite; ++i) {
            const Part& part = fleet_.parts[i];
            if (fleet_.sites[part.site].key == drain.target.site &&
                fleet_.pools[part.pool].name == drain.target.pool) {
                result.parts[i].add(drain, now_.wall);
            }
        }
        for (Index i = 0; i < fleet_.targets.size() && drain.target.kind == TargetKind::kBackend; ++i) {
            if (fleet_.targets[i].address == drain.target.address) result.targets[i].add(drain, now_.wall);
        }
    }
    for (std::size_t i = 0; i < result.sites.size(); ++i) {
        result.last_resort[i] = result.last_resort[i] && result.sites[i].drained();
    }
    return result;
}

bool Engine::Impl::takes_under(const Part& part, const Coverage& coverage) const {
    const auto index = static_cast<std::size_t>(&part - fleet_.parts.data());
    const auto open = [](const failover::Admission& admission) {
        return admission.phase() == Phase::kLive || admission.phase() == Phase::kRamping;
    };
    if (coverage.sites[part.site].drained() || coverage.parts[index].drained() || part.weight == 0)
        return false;
    if (!open(part.admission) || !open(fleet_.sites[part.site].admission)) return false;
    return std::any_of(part.targets.begin(), part.targets.end(), [&](Index i) {
        const auto& target = fleet_.targets[i];
        return target.weight > 0 && !coverage.targets[i].drained() &&
               target.state.state() != health::State::kDown;
    });
}

/// How much of the part's flows come to its site by now, ramps alone.
double Engine::Impl::ramped(const Part& part) const {
    return std::min(failover::part_of(part.admission.ramped()),
                    failover::part_of(fleet_.sites[part.site].admission.ramped()));
}

std::vector<failover::RailSite> Engine::Impl::rail_sites(const PoolState& pool, const Coverage& now,
                                                         const Coverage& after) const {
    std::vector<failover::RailSite> sites;
    for (const Index index : pool.parts) {
        const Part& part = fleet_.parts[index];
        const double whole = ramped(part);
        sites.push_back({fleet_.sites[part.site].name, takes_under(part, now) ? whole : 0,
                         takes_under(part, after) ? whole : 0});
    }
    return sites;
}

/// Pools that would have fewer sites than now and fewer than min_sites, in words.
std::vector<std::string> Engine::Impl::below_min_sites(const Coverage& after) const {
    const Coverage now = coverage(intents_.drains);
    std::vector<std::string> broken;
    for (const PoolState& pool : fleet_.pools) {
        auto words = failover::below_min_sites(pool.name, rail_sites(pool, now, after), pool.min_sites);
        if (!words.empty()) broken.push_back(std::move(words));
    }
    return broken;
}

std::vector<Index> Engine::Impl::sites_of(const failover::Target& target) const {
    std::vector<Index> result;
    for (Index i = 0; i < fleet_.sites.size(); ++i) {
        const SiteState& site = fleet_.sites[i];
        const bool part_of = target.kind == TargetKind::kPoolSite && target.site == site.key;
        const bool holds = target.kind == TargetKind::kBackend &&
                           std::any_of(site.targets.begin(), site.targets.end(),
                                       [&](Index t) { return fleet_.targets[t].address == target.address; });
        if (part_of || holds || covers_site(target, site, config_)) result.push_back(i);
    }
    return result;
}

api::Result<Engine::Prepared> Engine::Impl::prepare(const failover::IntentRequest& request, Now now) {
    begin(now);
    if (pending_) {
        return api::fail(ErrorCode::kUnavailable, "carrying out the request",
                         "another request is being written to disk, try again");
    }
    return std::visit([this](const auto& asked) { return prepare_one(asked); }, request);
}

/// From here on only the disk can still say no.
api::Result<Engine::Prepared> Engine::Impl::prepared(Pending pending, Prepared result,
                                                     const std::string& by) {
    if (pending.intents.size() > failover::kMaxIntents) {
        return api::fail(ErrorCode::kLimit, "keeping the request",
                         std::to_string(failover::kMaxIntents) + " drains and weights are in force already");
    }
    report_changes(intents_, pending.intents, by, pending.events);
    result.intents = encode(pending.intents);
    pending_ = std::move(pending);
    return result;
}

api::Result<void> Engine::Impl::check_drain(const failover::DrainRequest& request,
                                            const failover::Target& target) const {
    const auto invalid = [](const std::string& what) {
        return api::fail(ErrorCode::kInvalidArgument, kDraining, what);
    };
    if (auto checked = check_duration(request.duration, kDraining); !checked) return checked;
    if (request.percent < 1 || request.percent > 100) {
        return invalid(std::to_string(request.percent) + " % is not from 1 to 100");
    }
    if (request.percent < 100 && target.kind == TargetKind::kBackend) {
        return invalid("a backend is drained whole; give it another weight instead (lbctl weight)");
    }
    if (!request.deadline) return {};
    if (request.percent < 100) {
        return invalid("established flows are reset when a drain takes 100 %, not a part of the new flows");
    }
    if (request.deadline->count() < 0 || *request.deadline > request.duration) {
        return invalid("the deadline for established flows is not within the drain's time");
    }
    return {};
}

api::Result<Engine::Prepared> Engine::Impl::prepare_one(const failover::DrainRequest& request) {
    const auto target = failover::parse_target(request.target, config_);
    if (!target) return tl::unexpected(target.error());
    if (auto checked = check_drain(request, *target); !checked) return tl::unexpected(checked.error());
    Drain drain;
    drain.target = *target;
    drain.reason = request.reason;
    drain.by = request.by;
    drain.since = now_.wall;
    drain.until = now_.wall + request.duration;
    drain.forced = request.force;
    drain.last_resort = request.last_resort;
    drain.percent = request.percent;
    if (request.deadline) drain.deadline = now_.wall + *request.deadline;
    drain.here = request.here;
    drain.stamp = failover::next_stamp(intents_, config_.pop.name, now_.wall);
    Pending pending;
    pending.intents = intents_;
    failover::put(pending.intents, drain);

    Prepared result;
    result.warnings = below_min_sites(coverage(pending.intents.drains));
    if (!result.warnings.empty() && !request.force) {
        return api::fail(ErrorCode::kRefused, std::string(kDraining) + " " + request.target,
                         joined(result.warnings) + " (rail min_sites; --force overrides it)");
    }
    const std::vector<std::string> no_room = beyond_capacity(coverage(pending.intents.drains));
    if (!no_room.empty() && !request.force) {
        return api::fail(ErrorCode::kRefused, std::string(kDraining) + " " + request.target,
                         joined(no_room) + " (rail capacity; --force overrides it)");
    }
    result.warnings.insert(result.warnings.end(), no_room.begin(), no_room.end());
    for (const Index site : sites_of(*target)) result.sites.push_back(fleet_.sites[site].name);
    return prepared(std::move(pending), std::move(result), request.by);
}

api::Result<Engine::Prepared> Engine::Impl::prepare_one(const failover::UndrainRequest& request) {
    const std::string& text = request.target;
    Pending pending;
    pending.intents = intents_;
    const auto target = failover::parse_target(text, config_);
    // What was removed from the config can still be undrained by the name that the list of drains shows.
    const auto same = [&](const Drain& drain) {
        return (target && drain.target == *target) || drain.target.to_string(config_) == text;
    };
    bool removed = false;
    const failover::Stamp stamp = failover::next_stamp(intents_, config_.pop.name, now_.wall);
    for (const Drain& drain : intents_.drains) {
        if (same(drain)) removed |= failover::take_back(pending.intents, failover::key_of(drain), stamp);
    }
    if (!target && !removed) return tl::unexpected(target.error());

    Prepared result;
    std::string covered_by;
    const std::vector<Index> sites = target ? sites_of(*target) : std::vector<Index>{};
    const Coverage after = coverage(pending.intents.drains);
    const bool whole = target && (target->kind == TargetKind::kSite || target->kind == TargetKind::kDomain);
    for (const Index index : sites) {
        const SiteState& site = fleet_.sites[index];
        result.sites.push_back(site.name);
        if (!whole || after.sites[index].drained()) continue;
        const bool back = site.admission.phase() == Phase::kHeld || (site.admission.trickles() && !removed);
        if (back) pending.released.push_back(site.key);
    }
    for (const Drain& drain : pending.intents.drains) {
        for (const Index index : sites) {
            if (!covers_site(drain.target, fleet_.sites[index], config_)) continue;
            covered_by = "; it is covered by the drain of " + drain.target.to_string(config_);
        }
    }
    if (!removed && pending.released.empty()) {
        return api::fail(ErrorCode::kNotFound, "undraining " + text,
                         "it is neither drained nor held" + covered_by);
    }
    if (!removed) {
        Event value;
        value.kind = EventKind::kUndrain;
        value.to = text;
        if (result.sites.size() == 1) value.site = result.sites.front();
        value.reason = request.by;
        pending.events.push_back(value);
    }
    if (!covered_by.empty()) result.warnings.push_back("still drained" + covered_by);
    return prepared(std::move(pending), std::move(result), request.by);
}

Actions Engine::Impl::commit(Now now) {
    begin(now);
    if (!pending_) return finish();
    Pending pending = std::move(*pending_);
    pending_.reset();
    for (Event& value : pending.events) {
        value.at = now;
        out_.events.push_back(std::move(value));
    }
    take_intents(std::move(pending.intents), failover::DrainEnd::kOperator);
    for (SiteState& site : fleet_.sites) {
        const auto& released = pending.released;
        if (std::find(released.begin(), released.end(), site.key) == released.end()) continue;
        site.admission.release(now, rules(site));
        site.touched = true;
        mark(site);
    }
    return finish();
}

/// True when something changed.
bool Engine::Impl::apply_cover(failover::Admission& admission, const Cover& cover,
                               const failover::AdmissionRules& rules, failover::DrainEnd end) {
    const bool same =
        admission.limit() == cover.left && admission.has_let_go() == (cover.lets_go && cover.drained());
    if (same) return false;
    if (cover.left > admission.limit() || admission.has_let_go()) admission.undrain(now_, rules, end);
    if (cover.left < api::kAdmitAll) admission.drain(cover.left);
    if (cover.lets_go) admission.let_go();
    return true;
}

/// Brings what the drains cover into the admissions and flags.
void Engine::Impl::apply_drains(failover::DrainEnd end) {
    drains_applied_ = now_.wall;
    const Coverage now = coverage(intents_.drains);
    for (Index i = 0; i < fleet_.sites.size(); ++i) {
        SiteState& site = fleet_.sites[i];
        if (site.last_resort != now.last_resort[i]) site.dirty = true;
        site.last_resort = now.last_resort[i];
        const bool before = site.admission.has_let_go();
        const api::Admit limit = site.admission.limit();
        if (!apply_cover(site.admission, now.sites[i], rules(site), end)) continue;
        if (now.sites[i].left > limit) site.touched = true;
        if (site.admission.has_let_go() && !before) {
            event(EventKind::kStrand, site, "the deadline of its drain has come");
        }
        mark(site);
    }
    for (Index i = 0; i < fleet_.parts.size(); ++i) {
        Part& part = fleet_.parts[i];
        if (!apply_cover(part.admission, now.parts[i], part_rules(), end)) continue;
        busy_parts_.insert(i);
        mark_part(i);
    }
    for (Index i = 0; i < fleet_.targets.size(); ++i) {
        auto& target = fleet_.targets[i];
        const Cover& cover = now.targets[i];
        if (target.drained == cover.drained() && target.let_go == cover.lets_go) continue;
        target.drained = cover.drained();
        target.let_go = cover.lets_go;
        mark_target(i);
    }
}

/// Not before it is known whether the sites answer: a drain that ends must not let in what is dark.
bool Engine::Impl::may_expire(const Drain& drain) const {
    if (drain.until > now_.wall) return false;
    const std::vector<Index> sites = sites_of(drain.target);
    return std::all_of(sites.begin(), sites.end(), [&](Index index) {
        const SiteState& site = fleet_.sites[index];
        const Totals seen = totals(fleet_, site);
        return seen.all() == 0 || seen.up > 0 || site.admission.phase() == Phase::kDark ||
               site.admission.phase() == Phase::kHeld;
    });
}

/// Not under a hold either: then nothing moves unasked.
void Engine::Impl::expire_drains() {
    if (pending_ || intents_.hold) return;
    std::vector<Drain> over;
    for (const Drain& drain : intents_.drains) {
        if (may_expire(drain)) over.push_back(drain);
    }
    if (over.empty()) return;
    std::erase_if(intents_.drains, [&](const Drain& drain) {
        return std::find(over.begin(), over.end(), drain) != over.end();
    });
    apply_drains(failover::DrainEnd::kExpired);
    for (const Drain& drain : over) {
        event(EventKind::kDrainExpired, drain.reason).to = drain.target.to_string(config_);
        for (const Index index : sites_of(drain.target)) {
            const SiteState& site = fleet_.sites[index];
            const Phase phase = site.admission.phase();
            if (site.admission.limited() || (phase != Phase::kDark && phase != Phase::kHeld)) continue;
            event(EventKind::kAlarm, site,
                  "its drain is over, but it was dark meanwhile: it stays out until undrained");
        }
    }
    out_.intents = encode(intents_);
}

/// A pool that got another name keeps its drains.
void Engine::Impl::rename_pools_in_drains(const config::Config& next, const plan::Ids& next_ids) {
    bool changed = false;
    for (Drain& drain : intents_.drains) {
        if (drain.target.kind != TargetKind::kPoolSite || next.find_pool(drain.target.pool) != nullptr)
            continue;
        const config::Pool* old = config_.find_pool(drain.target.pool);
        if (old == nullptr) continue;
        const api::PoolId id = ids_->pool(old->name);
        for (const auto& [name, next_id] : next_ids.pool_names) {
            if (next_id != id) continue;
            drain.target.pool = name;
            changed = true;
        }
    }
    if (changed && !pending_) out_.intents = encode(intents_);
}

}  // namespace detour::app
