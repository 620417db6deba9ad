// What operators ask for beside drains: a hold of automation, other weights, and what other PoPs' operators
// asked for.
#include <algorithm>
#include <string>

#include "control/app/engine_impl.h"

namespace detour::app {

using api::ErrorCode;
using failover::Drain;
using failover::Hold;
using failover::Intents;
using failover::WeightOverride;

namespace {

std::string said(const std::string& reason, const std::string& by) {
    const std::string text = reason.empty() ? "no reason given" : reason;
    return by.empty() ? text : text + ", by " + by;
}

template <class T>
const T* same_key(const std::vector<T>& values, const T& wanted) {
    const std::string key = failover::key_of(wanted);
    for (const T& value : values) {
        if (failover::key_of(value) == key) return &value;
    }
    return nullptr;
}

std::string drain_text(const Drain& drain) {
    std::string text = said(drain.reason, drain.by);
    if (drain.percent < 100) text += "; " + std::to_string(drain.percent) + " % of its new flows";
    if (drain.deadline && *drain.deadline <= drain.since) text += "; established flows are reset now";
    if (drain.here) text += "; in this PoP alone";
    return text;
}

}  // namespace

std::string Engine::Impl::joined(const std::vector<std::string>& parts) {
    std::string text;
    for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
    return text;
}

api::Result<void> Engine::Impl::check_duration(std::chrono::milliseconds duration, const char* doing) {
    if (duration >= std::chrono::seconds{1} && duration <= failover::kLongestDrain) return {};
    return api::fail(ErrorCode::kInvalidArgument, doing,
                     "duration " + std::to_string(duration.count()) + " ms is not between 1 s and 366 days");
}

/// One event for each intent that is new, other or gone. `by` is who took it back.
void Engine::Impl::report_changes(const Intents& before, const Intents& after, const std::string& by,
                                  std::vector<Event>& events) const {
    const auto add = [&](EventKind kind, const failover::Target* target, const std::string& reason) {
        Event& value = events.emplace_back();
        value.kind = kind;
        value.at = now_;
        value.reason = reason;
        if (target == nullptr) return;
        value.to = target->to_string(config_);
        const std::vector<Index> sites = sites_of(*target);
        if (sites.size() == 1) value.site = fleet_.sites[sites.front()].name;
    };
    for (const Drain& drain : after.drains) {
        const Drain* old = same_key(before.drains, drain);
        if (old == nullptr || *old != drain) add(EventKind::kDrain, &drain.target, drain_text(drain));
    }
    for (const Drain& drain : before.drains) {
        if (same_key(after.drains, drain) == nullptr) add(EventKind::kUndrain, &drain.target, by);
    }
    for (const WeightOverride& weight : after.weights) {
        const WeightOverride* old = same_key(before.weights, weight);
        if (old != nullptr && *old == weight) continue;
        add(EventKind::kWeight, &weight.target,
            "weight " + std::to_string(weight.weight) + ": " + said(weight.reason, weight.by));
    }
    for (const WeightOverride& weight : before.weights) {
        if (same_key(after.weights, weight) == nullptr)
            add(EventKind::kWeight, &weight.target, said("as configured again", by));
    }
    if (after.hold && after.hold != before.hold) {
        add(EventKind::kHold, nullptr, said(after.hold->reason, after.hold->by));
    }
    if (before.hold && !after.hold) add(EventKind::kRelease, nullptr, by);
}

/// Puts other intents in force; `end` says how the drains that are gone have ended.
void Engine::Impl::take_intents(Intents intents, failover::DrainEnd end) {
    const bool weights = intents.weights != intents_.weights;
    const bool released = intents_.hold && !intents.hold;
    const bool held = !intents_.hold && intents.hold;
    intents_ = std::move(intents);
    if (weights) {
        rebuild();
        for (SiteState& site : fleet_.sites) mark(site);
    } else {
        apply_drains(end);
    }
    if (held) {
        for (SiteState& site : fleet_.sites) site.dirty = true;
    }
    if (released) judge_all();
}

/// After a hold: what was seen meanwhile counts now.
void Engine::Impl::judge_all() {
    for (SiteState& site : fleet_.sites) {
        site.refused.clear();
        mark(site);
    }
    for (SiteState& site : fleet_.sites) judge(site);
}

api::Result<Engine::Prepared> Engine::Impl::prepare_one(const failover::HoldRequest& request) {
    if (auto checked = check_duration(request.duration, "holding"); !checked)
        return tl::unexpected(checked.error());
    Hold hold;
    hold.reason = request.reason;
    hold.by = request.by;
    hold.since = now_.wall;
    hold.until = now_.wall + request.duration;
    hold.here = request.here;
    hold.stamp = failover::next_stamp(intents_, config_.pop.name, now_.wall);
    Pending pending;
    pending.intents = intents_;
    failover::put(pending.intents, std::move(hold));
    return prepared(std::move(pending), {}, request.by);
}

api::Result<Engine::Prepared> Engine::Impl::prepare_one(const failover::ReleaseRequest& request) {
    if (!intents_.hold) return api::fail(ErrorCode::kNotFound, "releasing", "automation is not on hold");
    Pending pending;
    pending.intents = intents_;
    (void)failover::take_back(pending.intents, failover::key_of(*intents_.hold),
                              failover::next_stamp(intents_, config_.pop.name, now_.wall));
    return prepared(std::move(pending), {}, request.by);
}

api::Result<Engine::Prepared> Engine::Impl::prepare_one(const failover::WeightRequest& request) {
    constexpr const char* kWeighing = "setting a weight";
    const auto target = failover::parse_target(request.target, config_);
    if (!target) return tl::unexpected(target.error());
    WeightOverride value;
    value.target = *target;
    value.stamp = failover::next_stamp(intents_, config_.pop.name, now_.wall);
    Pending pending;
    pending.intents = intents_;
    Prepared result;
    for (const Index site : sites_of(*target)) result.sites.push_back(fleet_.sites[site].name);
    if (!request.weight) {
        if (!failover::take_back(pending.intents, failover::key_of(value), value.stamp)) {
            return api::fail(ErrorCode::kNotFound, kWeighing,
                             request.target + " has the weight of the configuration");
        }
        return prepared(std::move(pending), std::move(result), request.by);
    }
    if (auto checked = check_duration(request.duration, kWeighing); !checked)
        return tl::unexpected(checked.error());
    if (*request.weight > 65535) {
        return api::fail(ErrorCode::kInvalidArgument, kWeighing,
                         std::to_string(*request.weight) + " is not from 0 to 65535");
    }
    value.weight = *request.weight;
    value.reason = request.reason;
    value.by = request.by;
    value.since = now_.wall;
    value.until = now_.wall + request.duration;
    value.configured = failover::weights_mark(config_, *target);
    value.here = request.here;
    failover::put(pending.intents, value);
    if (value.weight == 0) {
        // Nothing new goes there: the same rail as for a drain.
        std::vector<Drain> drains = intents_.drains;
        drains.emplace_back().target = *target;
        result.warnings = below_min_sites(coverage(drains));
        if (!result.warnings.empty() && !request.force) {
            return api::fail(ErrorCode::kRefused, kWeighing,
                             joined(result.warnings) + " (rail min_sites; --force overrides it)");
        }
    }
    return prepared(std::move(pending), std::move(result), request.by);
}

/// Another PoP's drain is held to this PoP's rails: what its operator could see may be more than is left
/// here.
api::Result<Engine::Prepared> Engine::Impl::prepare_one(const failover::MergeRequest& request) {
    Pending pending;
    Prepared result;
    Intents theirs = request.theirs;
    std::erase_if(theirs.drains, [&](const Drain& drain) {
        Intents one;
        one.drains = {drain};
        const Intents with = failover::merge(intents_, one, now_.wall);
        const bool news = with.drains != intents_.drains;
        if (!news || drain.forced) return false;
        const auto broken = below_min_sites(coverage(with.drains));
        if (broken.empty()) return false;
        result.warnings.push_back(drain.target.to_string(config_) + ": " + joined(broken) +
                                  " (rail min_sites)");
        return true;
    });
    pending.intents = failover::merge(intents_, theirs, now_.wall);
    if (pending.intents.size() > failover::kMaxIntents) {
        return api::fail(ErrorCode::kLimit, "taking over intents of " + request.from,
                         "there would be more than " + std::to_string(failover::kMaxIntents));
    }
    result.changed = pending.intents != intents_;
    return prepared(std::move(pending), std::move(result), "PoP " + request.from);
}

/// Weights whose time is up, or that the configuration has changed since: the configuration wins.
bool Engine::Impl::drop_old_weights() {
    Intents after = intents_;
    std::erase_if(after.weights, [&](const WeightOverride& weight) {
        const bool over = weight.until <= now_.wall;
        const bool changed = weight.configured != failover::weights_mark(config_, weight.target);
        if (!over && !changed) return false;
        event(EventKind::kWeight, over ? "its time is up: as configured again"
                                       : "the configuration has another weight now, which counts")
            .to = weight.target.to_string(config_);
        return true;
    });
    if (after == intents_) return false;
    intents_ = std::move(after);
    out_.intents = encode(intents_);
    return true;
}

void Engine::Impl::expire_overrides() {
    if (pending_) return;
    if (drop_old_weights()) {
        rebuild();
        for (SiteState& site : fleet_.sites) mark(site);
    }
    if (intents_.hold && intents_.hold->until <= now_.wall) {
        event(EventKind::kRelease, "its time is up");
        intents_.hold.reset();
        out_.intents = encode(intents_);
        judge_all();
    }
    // Deadlines of drains: established flows are let go.
    const bool due = std::any_of(intents_.drains.begin(), intents_.drains.end(), [&](const Drain& drain) {
        return drain.lets_go(now_.wall) && !drain.lets_go(drains_applied_);
    });
    if (due) apply_drains(failover::DrainEnd::kExpired);
}

health::nanoseconds Engine::Impl::next_intent() const {
    // One that is over but waits for the probes' word, or for a hold's end, is looked at again each second.
    health::nanoseconds next = health::nanoseconds::max();
    const auto at = [&](health::WallTime time) {
        const health::nanoseconds left = time - now_.wall;
        next = std::min(next, left.count() > 0 ? left : health::nanoseconds(std::chrono::seconds{1}));
    };
    for (const Drain& drain : intents_.drains) {
        at(drain.until);
        if (drain.deadline && *drain.deadline > now_.wall) at(*drain.deadline);
    }
    for (const WeightOverride& weight : intents_.weights) at(weight.until);
    if (intents_.hold) at(intents_.hold->until);
    return next;
}

}  // namespace detour::app
