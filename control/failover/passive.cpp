#include "control/failover/passive.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>

namespace detour::failover {

namespace {

using health::nanoseconds;

constexpr double kLostShare = 0.1;
/// Fewer SYNs at the other sites say nothing of a pool.
constexpr std::uint64_t kLeastElsewhere = 10;
/// Enough to tell that what is left without the worst completes as little.
constexpr double kLeastRest = 5;
constexpr std::size_t kMaxSteps = 30;
constexpr std::chrono::seconds kLongest{3};
/// Readings of 0.1 s in which a handshake completes, or not.
constexpr std::size_t kCompletesWithin = 2;

bool lost(double expected, double completed, double least) {
    return expected >= least && completed < kLostShare * expected;
}

}  // namespace

std::string Evidence::to_string() const {
    return fmt::format("{} of {:.0f} expected handshakes complete in {} ms, from {} client prefixes",
                       completed, expected, std::chrono::duration_cast<health::milliseconds>(over).count(),
                       prefixes);
}

void PassiveSignal::forget() {
    steps_.clear();
    last_ = {};
    known_ = false;
}

/// Nothing when a counter fell. Both are in ascending order: one pass.
std::optional<PassiveSignal::Step> PassiveSignal::difference(const HandshakeReading& before,
                                                             const HandshakeReading& now) {
    Step step;
    step.prefixes = now.prefixes;
    auto old = before.backends.begin();
    for (HandshakeCount count : now.backends) {
        while (old != before.backends.end() && old->backend < count.backend) ++old;
        if (old != before.backends.end() && old->backend == count.backend) {
            if (count.syns < old->syns || count.completed < old->completed) return std::nullopt;
            count.syns -= old->syns;
            count.completed -= old->completed;
        }
        if (count.syns == 0 && count.completed == 0) continue;
        const Tally more{count.syns, count.completed};
        step.parts[{count.pool, count.site}] += more;
        step.sites[count.site] += more;
        step.backends.push_back(count);
    }
    return step;
}

void PassiveSignal::read(HandshakeReading reading, health::Monotonic now) {
    if (known_ && now <= last_at_) return;
    auto step = known_ ? difference(last_, reading) : std::nullopt;
    if (!step) {
        forget();
    } else {
        step->begin = last_at_;
        step->end = now;
        steps_.push_back(std::move(*step));
    }
    while (!steps_.empty() &&
           (steps_.size() > kMaxSteps || now - steps_.front().begin > nanoseconds(kLongest)))
        steps_.pop_front();
    last_ = std::move(reading);
    last_at_ = now;
    known_ = true;
}

/// Of each pool: the share of its SYNs to other sites that completed. Absent: too few to tell.
std::map<api::PoolId, double> PassiveSignal::ratios(std::size_t steps, api::SiteId except) const {
    std::map<api::PoolId, Tally> elsewhere;
    for (std::size_t i = steps_.size() - steps; i < steps_.size(); ++i) {
        for (const auto& [part, tally] : steps_[i].parts) {
            if (part.second != except) elsewhere[part.first] += tally;
        }
    }
    std::map<api::PoolId, double> result;
    for (const auto& [pool, tally] : elsewhere) {
        if (tally.syns < kLeastElsewhere) continue;
        // More may complete than knocked: a SYN that was lost elsewhere is repeated here.
        const auto syns = static_cast<double>(tally.syns);
        const double completed = std::min(syns, static_cast<double>(tally.completed));
        // The least that chance allows (three standard deviations): in a flood of forged SYNs a few
        // completions elsewhere predict nothing of a larger site.
        const double least = completed - 3 * std::sqrt(completed * (1 - completed / syns));
        result[pool] = std::max(0.0, least) / syns;
    }
    return result;
}

bool PassiveSignal::without_worst(std::size_t steps, api::SiteId site,
                                  const std::map<api::PoolId, double>& ratios) const {
    std::map<api::BackendId, Share> backends;
    std::map<api::PoolId, Share> pools;
    Share whole;
    for (std::size_t i = steps_.size() - steps; i < steps_.size(); ++i) {
        for (const HandshakeCount& count : steps_[i].backends) {
            if (count.site != site) continue;
            const auto ratio = ratios.find(count.pool);
            const auto done = static_cast<double>(count.completed);
            // A pool that can't be compared shows by what completes that the way back is there.
            const Share more{ratio == ratios.end() ? done : ratio->second * static_cast<double>(count.syns),
                             done};
            for (Share* share : {&backends[count.backend], &pools[count.pool], &whole}) {
                share->expected += more.expected;
                share->completed += more.completed;
            }
        }
    }
    const auto rest = [&](const auto& shares) {
        const auto worst = std::ranges::max_element(
            shares, {}, [](const auto& item) { return item.second.expected - item.second.completed; });
        return Share{whole.expected - worst->second.expected, whole.completed - worst->second.completed};
    };
    if (backends.size() > 1) {
        const Share left = rest(backends);
        if (!lost(left.expected, left.completed, kLeastRest)) return false;
    }
    if (pools.size() < 2) return true;
    const Share left = rest(pools);
    return left.expected < kLeastRest || lost(left.expected, left.completed, kLeastRest);
}

PrefixSets PassiveSignal::prefixes_of(std::size_t step, api::SiteId site) const {
    const auto found = steps_[step].prefixes.find(site);
    return found == steps_[step].prefixes.end() ? PrefixSets{} : found->second;
}

/// Prefixes that knocked and of which nothing completed, then or soon after. The last reading's are too young
/// to tell.
std::uint64_t PassiveSignal::failing(std::size_t steps, api::SiteId site) const {
    std::uint64_t failing = 0;
    for (std::size_t i = steps_.size() - steps; i + 1 < steps_.size(); ++i) {
        std::uint64_t complete = 0;
        for (std::size_t j = i; j < std::min(i + 1 + kCompletesWithin, steps_.size()); ++j)
            complete |= prefixes_of(j, site).completed;
        failing |= prefixes_of(i, site).knocked & ~complete;
    }
    return failing;
}

Evidence PassiveSignal::over_last(std::size_t steps, api::SiteId site) const {
    Evidence evidence;
    const auto share = ratios(steps, site);
    for (std::size_t i = steps_.size() - steps; i < steps_.size(); ++i) {
        for (const auto& [part, tally] : steps_[i].parts) {
            const auto ratio = share.find(part.first);
            if (part.second != site || ratio == share.end()) continue;
            evidence.expected += ratio->second * static_cast<double>(tally.syns);
            evidence.completed += tally.completed;
        }
    }
    const std::uint64_t complete = prefixes_of(steps_.size() - 1, site).completed;
    evidence.prefixes = static_cast<unsigned>(std::popcount(failing(steps, site)));
    evidence.over = steps_.back().end - steps_[steps_.size() - steps].begin;
    evidence.lost = lost(evidence.expected, static_cast<double>(evidence.completed), kLeastExpected) &&
                    evidence.prefixes >= kLeastPrefixes &&
                    evidence.prefixes >= static_cast<unsigned>(std::popcount(complete)) &&
                    without_worst(steps, site, share);
    evidence.held = evidence.lost && evidence.over >= nanoseconds(kSignalHold);
    return evidence;
}

Evidence PassiveSignal::evidence(api::SiteId site, health::Monotonic since) const {
    Evidence best;
    Tally total;
    for (std::size_t steps = 1; steps <= steps_.size(); ++steps) {
        if (steps_[steps_.size() - steps].begin < since) break;
        // Each window costs a pass over what it holds: the longer ones in larger steps.
        const bool looked_at = steps <= 10 || steps % 5 == 0;
        const auto& sites = steps_[steps_.size() - steps].sites;
        if (const auto found = sites.find(site); found != sites.end()) total += found->second;
        // No ratio is above 1: so much for a site in good health.
        if (!looked_at ||
            !lost(static_cast<double>(total.syns), static_cast<double>(total.completed), kLeastExpected))
            continue;
        const Evidence evidence = over_last(steps, site);
        if (!evidence.lost) continue;
        best = evidence;
        if (best.held) break;
    }
    return best;
}

std::uint64_t PassiveSignal::completed(api::SiteId site) const {
    if (steps_.empty()) return 0;
    const auto found = steps_.back().sites.find(site);
    return found == steps_.back().sites.end() ? 0 : found->second.completed;
}

double PassiveSignal::expected(api::SiteId site) const {
    if (steps_.empty()) return 0;
    const auto share = ratios(steps_.size(), site);
    double result = 0;
    for (const auto& [part, tally] : steps_.back().parts) {
        if (part.second != site) continue;
        const auto ratio = share.find(part.first);
        result += (ratio == share.end() ? 1.0 : ratio->second) * static_cast<double>(tally.syns);
    }
    return result;
}

void TrickleWatch::add(double expected, std::uint64_t completed) {
    if (completed_ == 0 && completed == 0) return;  // not yet: what failed before says nothing of now
    expected_ += expected;
    completed_ += completed;
    // Too few of too many: it completes by chance. Begin anew.
    if (expected_ >= 10 && static_cast<double>(completed_) < expected_ / 2) *this = {};
}

bool TrickleWatch::well() const noexcept {
    return completed_ >= kEnough && 2 * static_cast<double>(completed_) >= expected_;
}

}  // namespace detour::failover
