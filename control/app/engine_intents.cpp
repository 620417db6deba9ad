// Drains: rails, two-step commit, expiry.
#include <algorithm>
#include <string>

#include "control/app/engine_impl.h"

namespace detour::app {

using api::ErrorCode;
using failover::Drain;
using failover::Phase;
using failover::TargetKind;

namespace {

constexpr const char* kDraining = "draining";

std::string joined(const std::vector<std::string>& parts) {
    std::string text;
    for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
    return text;
}

bool covers_site(const failover::Target& target, const SiteState& site, const config::Config& config) {
    if (target.kind == TargetKind::kSite) return target.site == site.key;
    if (target.kind != TargetKind::kDomain) return false;
    const config::Site* described = config.find_site(site.name);
    return described != nullptr && failover::in_domain(*described, target.domain);
}

}  // namespace

Engine::Impl::Coverage Engine::Impl::coverage(const std::vector<Drain>& drains) const {
    Coverage result;
    result.sites.resize(fleet_.sites.size());
    result.last_resort.resize(fleet_.sites.size(), true);
    result.parts.resize(fleet_.parts.size());
    result.targets.resize(fleet_.targets.size());
    for (const Drain& drain : drains) {
        for (Index i = 0; i < fleet_.sites.size(); ++i) {
            if (!covers_site(drain.target, fleet_.sites[i], config_)) continue;
            result.sites[i] = true;
            result.last_resort[i] = result.last_resort[i] && drain.last_resort;
        }
        for (Index i = 0; i < fleet_.parts.size() && drain.target.kind == TargetKind::kPoolSite; ++i) {
            const Part& part = fleet_.parts[i];
            if (fleet_.sites[part.site].key == drain.target.site &&
                fleet_.pools[part.pool].name == drain.target.pool) {
                result.parts[i] = true;
            }
        }
        for (Index i = 0; i < fleet_.targets.size() && drain.target.kind == TargetKind::kBackend; ++i) {
            if (fleet_.targets[i].address == drain.target.address) result.targets[i] = true;
        }
    }
    for (std::size_t i = 0; i < result.sites.size(); ++i) {
        result.last_resort[i] = result.last_resort[i] && result.sites[i];
    }
    return result;
}

bool Engine::Impl::takes_under(const Part& part, const Coverage& coverage) const {
    const auto index = static_cast<std::size_t>(&part - fleet_.parts.data());
    const auto open = [](const failover::Admission& admission) {
        return admission.phase() == Phase::kLive || admission.phase() == Phase::kRamping;
    };
    if (coverage.sites[part.site] || coverage.parts[index] || part.weight == 0) return false;
    if (!open(part.admission) || !open(fleet_.sites[part.site].admission)) return false;
    return std::any_of(part.targets.begin(), part.targets.end(), [&](Index i) {
        const auto& target = fleet_.targets[i];
        return target.weight > 0 && !coverage.targets[i] && target.state.state() != health::State::kDown;
    });
}

/// Pools that would have fewer sites than now and fewer than min_sites, in words.
std::vector<std::string> Engine::Impl::below_min_sites(const Coverage& after) const {
    const Coverage now = coverage(drains_);
    std::vector<std::string> broken;
    for (const PoolState& pool : fleet_.pools) {
        const auto under = [&](const Coverage& coverage) {
            return std::count_if(pool.parts.begin(), pool.parts.end(),
                                 [&](Index i) { return takes_under(fleet_.parts[i], coverage); });
        };
        const auto left = under(after);
        if (left >= under(now) || left >= static_cast<std::int64_t>(pool.min_sites)) continue;
        broken.push_back("pool " + pool.name + " would be left with " + std::to_string(left) +
                         " admitted sites, below its min_sites = " + std::to_string(pool.min_sites));
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

api::Result<Engine::Prepared> Engine::Impl::prepare_drain(const failover::DrainRequest& request, Now now) {
    begin(now);
    if (pending_)
        return api::fail(ErrorCode::kUnavailable, kDraining, "another drain or undrain is being written");
    if (request.duration < std::chrono::seconds{1} || request.duration > failover::kLongestDrain) {
        return api::fail(
            ErrorCode::kInvalidArgument, kDraining,
            "duration " + std::to_string(request.duration.count()) + " ms is not between 1 s and 366 days");
    }
    const auto target = failover::parse_target(request.target, config_);
    if (!target) return tl::unexpected(target.error());

    Drain drain{*target,       request.reason,     request.by, now.wall, now.wall + request.duration,
                request.force, request.last_resort};
    Pending pending;
    pending.drains = drains_;
    std::erase_if(pending.drains, [&](const Drain& other) { return other.target == drain.target; });
    pending.drains.push_back(drain);

    Prepared result;
    result.warnings = below_min_sites(coverage(pending.drains));
    if (!result.warnings.empty() && !request.force) {
        return api::fail(ErrorCode::kRefused, std::string(kDraining) + " " + request.target,
                         joined(result.warnings) + " (rail min_sites; --force overrides it)");
    }
    const std::vector<std::string> no_room = beyond_capacity(coverage(pending.drains));
    if (!no_room.empty() && !request.force) {
        return api::fail(ErrorCode::kRefused, std::string(kDraining) + " " + request.target,
                         joined(no_room) + " (rail capacity; --force overrides it)");
    }
    result.warnings.insert(result.warnings.end(), no_room.begin(), no_room.end());
    for (const Index site : sites_of(*target)) result.sites.push_back(fleet_.sites[site].name);
    Event value;
    value.kind = EventKind::kDrain;
    value.to = target->to_string(config_);
    if (result.sites.size() == 1) value.site = result.sites.front();
    value.reason = request.reason.empty() ? "no reason given" : request.reason;
    if (!request.by.empty()) value.reason += ", by " + request.by;
    pending.events.push_back(value);
    result.intents = encode(StoredIntents{pending.drains});
    pending_ = std::move(pending);
    return result;
}

api::Result<Engine::Prepared> Engine::Impl::prepare_undrain(const std::string& text, const std::string& by) {
    if (pending_) {
        return api::fail(ErrorCode::kUnavailable, "undraining", "another drain or undrain is being written");
    }
    Pending pending;
    pending.drains = drains_;
    const auto target = failover::parse_target(text, config_);
    // What was removed from the config can still be undrained by the name that the list of drains shows.
    const auto same = [&](const Drain& drain) {
        return (target && drain.target == *target) || drain.target.to_string(config_) == text;
    };
    const auto removed = std::erase_if(pending.drains, same);
    if (!target && removed == 0) return tl::unexpected(target.error());

    Prepared result;
    std::string covered_by;
    const std::vector<Index> sites = target ? sites_of(*target) : std::vector<Index>{};
    const Coverage after = coverage(pending.drains);
    const bool whole = target && (target->kind == TargetKind::kSite || target->kind == TargetKind::kDomain);
    for (const Index index : sites) {
        const SiteState& site = fleet_.sites[index];
        result.sites.push_back(site.name);
        if (!whole || after.sites[index]) continue;
        const bool back =
            site.admission.phase() == Phase::kHeld || (site.admission.trickles() && removed == 0);
        if (back) pending.released.push_back(site.key);
    }
    for (const Drain& drain : pending.drains) {
        for (const Index index : sites) {
            if (!covers_site(drain.target, fleet_.sites[index], config_)) continue;
            covered_by = "; it is covered by the drain of " + drain.target.to_string(config_);
        }
    }
    if (removed == 0 && pending.released.empty()) {
        return api::fail(ErrorCode::kNotFound, "undraining " + text,
                         "it is neither drained nor held" + covered_by);
    }
    Event value;
    value.kind = EventKind::kUndrain;
    value.to = text;
    if (result.sites.size() == 1) value.site = result.sites.front();
    value.reason = by;
    pending.events.push_back(value);
    if (!covered_by.empty()) result.warnings.push_back("still drained" + covered_by);
    result.intents = encode(StoredIntents{pending.drains});
    pending_ = std::move(pending);
    return result;
}

Actions Engine::Impl::commit(Now now) {
    begin(now);
    if (!pending_) return finish();
    Pending pending = std::move(*pending_);
    pending_.reset();
    drains_ = std::move(pending.drains);
    for (Event& value : pending.events) {
        value.at = now;
        out_.events.push_back(std::move(value));
    }
    apply_drains(failover::DrainEnd::kOperator);
    for (SiteState& site : fleet_.sites) {
        const auto& released = pending.released;
        if (std::find(released.begin(), released.end(), site.key) == released.end()) continue;
        site.admission.release(now, rules(site));
        site.touched = true;
        mark(site);
    }
    return finish();
}

/// Brings what the drains cover into the admissions and flags.
void Engine::Impl::apply_drains(failover::DrainEnd end) {
    const Coverage now = coverage(drains_);
    for (Index i = 0; i < fleet_.sites.size(); ++i) {
        SiteState& site = fleet_.sites[i];
        if (site.last_resort != now.last_resort[i]) site.dirty = true;
        site.last_resort = now.last_resort[i];
        if (site.admission.drained() == now.sites[i]) continue;
        if (now.sites[i]) {
            site.admission.drain();
        } else {
            site.admission.undrain(now_, rules(site), end);
            site.touched = true;
        }
        mark(site);
    }
    for (Index i = 0; i < fleet_.parts.size(); ++i) {
        Part& part = fleet_.parts[i];
        if (part.admission.drained() == now.parts[i]) continue;
        if (now.parts[i])
            part.admission.drain();
        else
            part.admission.undrain(now_, part_rules(), end);
        busy_parts_.insert(i);
        mark_part(i);
    }
    for (Index i = 0; i < fleet_.targets.size(); ++i) {
        auto& target = fleet_.targets[i];
        if (target.drained == now.targets[i]) continue;
        target.drained = now.targets[i];
        mark_part(target.part);
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

void Engine::Impl::expire_drains() {
    if (pending_) return;
    std::vector<Drain> over;
    for (const Drain& drain : drains_) {
        if (may_expire(drain)) over.push_back(drain);
    }
    if (over.empty()) return;
    std::erase_if(drains_, [&](const Drain& drain) {
        return std::find(over.begin(), over.end(), drain) != over.end();
    });
    apply_drains(failover::DrainEnd::kExpired);
    for (const Drain& drain : over) {
        event(EventKind::kDrainExpired, drain.reason).to = drain.target.to_string(config_);
        for (const Index index : sites_of(drain.target)) {
            const SiteState& site = fleet_.sites[index];
            const Phase phase = site.admission.phase();
            if (site.admission.drained() || (phase != Phase::kDark && phase != Phase::kHeld)) continue;
            event(EventKind::kAlarm, site,
                  "its drain is over, but it was dark meanwhile: it stays out until undrained");
        }
    }
    out_.intents = encode(StoredIntents{drains_});
}

/// A pool that got another name keeps its drains.
void Engine::Impl::rename_pools_in_drains(const config::Config& next, const plan::Ids& next_ids) {
    bool changed = false;
    for (Drain& drain : drains_) {
        if (drain.target.kind != TargetKind::kPoolSite || next.find_pool(drain.target.pool) != nullptr)
            continue;
        const config::Pool* old = config_.find_pool(drain.target.pool);
        if (old == nullptr) continue;
        const api::PoolId id = ids_.pool(old->name);
        for (const auto& [name, next_id] : next_ids.pool_names) {
            if (next_id != id) continue;
            drain.target.pool = name;
            changed = true;
        }
    }
    if (changed && !pending_) out_.intents = encode(StoredIntents{drains_});
}

}  // namespace detour::app
