#include "control/failover/passive.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

namespace detour::failover {

namespace {

using health::nanoseconds;
using Index = HandshakeHistory::Index;
using Moment = HandshakeHistory::Moment;

constexpr double kLostShare = 0.1;
/// Fewer SYNs at the other sites say nothing of a pool.
constexpr std::uint64_t kLeastElsewhere = 10;
/// Enough to tell that what is left without the worst completes as little.
constexpr double kLeastRest = 5;
/// So many prefixes fail for each that is well.
constexpr unsigned kFailingForEachWell = 3;
/// A client's own part of its handshake, beside twice the way to the site.
constexpr health::milliseconds kClientTime{50};

bool lost(double expected, double completed, double least) {
    return expected >= least && completed < kLostShare * expected;
}

struct Share {
    double expected = 0;
    double completed = 0;
    Share& operator+=(const Share& more) {
        expected += more.expected;
        completed += more.completed;
        return *this;
    }
    Share operator-(const Share& less) const {
        return {expected - less.expected, completed - less.completed};
    }
    [[nodiscard]] double missing() const { return expected - completed; }
};

/// Of a pool's SYNs to other sites the share that completed. Absent: too few to tell. `elsewhere.syns` are
/// those that have had the time: what is still on its way lowers no share.
std::optional<double> share_of(const Tally& elsewhere) {
    if (elsewhere.syns < kLeastElsewhere) return std::nullopt;
    // More may complete than knocked: a SYN that was lost elsewhere is repeated here, and what knocked before
    // these readings completes in them.
    const auto syns = static_cast<double>(elsewhere.syns);
    const double completed = std::min(syns, static_cast<double>(elsewhere.completed));
    // The least that chance allows (three standard deviations): in a flood of forged SYNs a few completions
    // elsewhere predict nothing of a larger site.
    const double least = completed - 3 * std::sqrt(completed * (1 - completed / syns));
    return std::max(0.0, least) / syns;
}

/// One site between two readings.
class Window {
  public:
    /// `known`: the last reading whose SYNs have had the time to complete.
    Window(const HandshakeHistory& history, Index site, const Moment& from, const Moment& known)
        : history_(history), site_(site), from_(from), known_(known), to_(history.back(0)) {}

    [[nodiscard]] Evidence judge(nanoseconds round_trip) {
        Evidence evidence;
        weigh_parts();
        evidence.over = to_.at - from_.at;
        evidence.expected = compared_.expected;
        evidence.completed = static_cast<std::uint64_t>(compared_.completed);
        if (!lost(compared_.expected, compared_.completed, kLeastExpected)) return evidence;
        const bool wide = weigh_prefixes(evidence.prefixes);
        if (!wide || !lost_without_worst()) return evidence;
        evidence.blind = forgets(round_trip);
        evidence.lost = !evidence.blind;
        evidence.held = evidence.lost && evidence.over >= nanoseconds(kSignalHold);
        return evidence;
    }

    /// The share that a part's pool has elsewhere.
    [[nodiscard]] std::optional<double> share_elsewhere(Index part) const {
        const Index pool = history_.part(part).pool;
        const Tally all = (to_.pools[pool] - from_.pools[pool]) - (to_.parts[part] - from_.parts[part]);
        const Tally had = (known_.pools[pool] - from_.pools[pool]) - (known_.parts[part] - from_.parts[part]);
        return share_of({had.syns, all.completed});
    }

  private:
    void weigh_parts() {
        const Index first = history_.first_part(site_);
        shares_.resize(history_.end_part(site_) - first);
        weighed_.resize(shares_.size());
        for (Index i = 0; i < shares_.size(); ++i) {
            shares_[i] = share_elsewhere(first + i);
            weighed_[i] = weigh(to_.parts[first + i] - from_.parts[first + i], shares_[i]);
            whole_ += weighed_[i];
            if (shares_[i]) compared_ += weighed_[i];
        }
    }

    /// A pool that can't be compared shows by what completes that the way back is there.
    [[nodiscard]] static Share weigh(const Tally& tally, const std::optional<double>& share) {
        const auto completed = static_cast<double>(tally.completed);
        return {share ? *share * static_cast<double>(tally.syns) : completed, completed};
    }

    /// True when enough prefixes fail: `failing` of them.
    [[nodiscard]] bool weigh_prefixes(unsigned& failing) const {
        const Tally all = to_.sites[site_] - from_.sites[site_];
        const double share = whole_.expected / static_cast<double>(all.syns);
        const PrefixCounts& began = from_.counts[site_].prefixes;
        unsigned well = 0;
        failing = 0;
        for (std::size_t i = 0; i < api::kPrefixBuckets; ++i) {
            const std::uint32_t syns = known_.counts[site_].prefixes.syns[i] - began.syns[i];
            const std::uint32_t completed = to_.counts[site_].prefixes.completed[i] - began.completed[i];
            if (syns == 0 && completed == 0) continue;
            const bool fails = completed < kLostShare * share * static_cast<double>(syns);
            ++(fails ? failing : well);
        }
        return failing >= kLeastPrefixes && failing >= kFailingForEachWell * well;
    }

    [[nodiscard]] bool lost_without_worst() const {
        const Index first = history_.first_part(site_);
        Share worst_pool;
        Share worst_backend;
        std::size_t pools = 0;
        std::size_t backends = 0;
        for (Index i = 0; i < weighed_.size(); ++i) {
            const Tally part = to_.parts[first + i] - from_.parts[first + i];
            if (part.syns == 0 && part.completed == 0) continue;
            if (pools++ == 0 || weighed_[i].missing() > worst_pool.missing()) worst_pool = weighed_[i];
            for (Index b = history_.part(first + i).first; b < history_.part(first + i).end; ++b) {
                const Tally tally = to_.backends[b] - from_.backends[b];
                if (tally.syns == 0 && tally.completed == 0) continue;
                const Share share = weigh(tally, shares_[i]);
                if (backends++ == 0 || share.missing() > worst_backend.missing()) worst_backend = share;
            }
        }
        if (backends > 1) {
            const Share left = whole_ - worst_backend;
            if (!lost(left.expected, left.completed, kLeastRest)) return false;
        }
        if (pools < 2) return true;
        const Share left = whole_ - worst_pool;
        return left.expected < kLeastRest || lost(left.expected, left.completed, kLeastRest);
    }

    /// Most of its SYNs gave way to others before their handshakes can have come.
    [[nodiscard]] bool forgets(nanoseconds round_trip) const {
        const std::uint64_t forgotten = to_.counts[site_].forgotten - from_.counts[site_].forgotten;
        const std::uint64_t age_ms = to_.counts[site_].forgotten_ms - from_.counts[site_].forgotten_ms;
        const Tally all = to_.sites[site_] - from_.sites[site_];
        if (2 * forgotten <= all.syns) return false;
        const auto needed = std::chrono::duration_cast<health::milliseconds>(2 * round_trip) + kClientTime;
        return age_ms < forgotten * static_cast<std::uint64_t>(needed.count());
    }

    const HandshakeHistory& history_;
    Index site_;
    const Moment& from_;
    const Moment& known_;
    const Moment& to_;
    std::vector<std::optional<double>> shares_;  ///< of the site's parts
    std::vector<Share> weighed_;
    Share whole_;
    Share compared_;  ///< of pools that have a share elsewhere
};

}  // namespace

std::string Evidence::to_string() const {
    return fmt::format("{} of {:.0f} expected handshakes complete in {} ms, from {} client prefixes",
                       completed, expected, std::chrono::duration_cast<health::milliseconds>(over).count(),
                       prefixes);
}

Evidence PassiveSignal::evidence(api::SiteId id, health::Monotonic since, nanoseconds round_trip) const {
    Evidence best;
    const auto site = history_.site(id);
    if (!site) return best;
    const Moment& to = history_.back(0);
    std::size_t known = 1;
    while (known < history_.steps() && to.at - history_.back(known).at < round_trip) ++known;
    for (std::size_t steps = known + 1; steps <= history_.steps(); ++steps) {
        // Each window costs a pass over the site's pools: the longer ones in larger steps.
        if (steps > 10 && steps % 5 != 0) continue;
        const Moment& from = history_.back(steps);
        if (from.at < since) break;
        const Tally all = to.sites[*site] - from.sites[*site];
        // No share is above 1: so much for a site in good health.
        if (!lost(all.syns, all.completed, kLeastExpected)) continue;
        const Evidence evidence = Window(history_, *site, from, history_.back(known)).judge(round_trip);
        best.blind = best.blind || evidence.blind;
        if (!evidence.lost) continue;
        best = evidence;
        if (best.held) break;
    }
    return best;
}

std::uint64_t PassiveSignal::completed(api::SiteId id) const {
    const auto site = history_.site(id);
    if (!site || history_.steps() == 0) return 0;
    return (history_.back(0).sites[*site] - history_.back(1).sites[*site]).completed;
}

double PassiveSignal::expected(api::SiteId id) const {
    const auto site = history_.site(id);
    if (!site || history_.steps() == 0) return 0;
    const Window whole(history_, *site, history_.back(history_.steps()), history_.back(0));
    double result = 0;
    for (Index part = history_.first_part(*site); part < history_.end_part(*site); ++part) {
        const Tally last = history_.back(0).parts[part] - history_.back(1).parts[part];
        if (last.syns > 0) result += whole.share_elsewhere(part).value_or(1.0) * last.syns;
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
