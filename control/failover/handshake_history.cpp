#include "control/failover/handshake_history.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

namespace detour::failover {

namespace {

constexpr std::size_t kMaxMoments = 31;
constexpr std::chrono::seconds kLongest{3};
constexpr HandshakeHistory::Index kNone = ~HandshakeHistory::Index{0};

Tally tally_of(const HandshakeCount& count) {
    return {static_cast<std::uint32_t>(count.syns), static_cast<std::uint32_t>(count.completed)};
}

SiteCount count_of(const HandshakeReading& reading, api::SiteId site) {
    const auto found = std::ranges::find(reading.sites, site, &SiteCount::site);
    return found == reading.sites.end() ? SiteCount{site, {}, 0, 0} : *found;
}

}  // namespace

void HandshakeHistory::forget() {
    moments_.clear();
    last_ = {};
}

std::optional<HandshakeHistory::Index> HandshakeHistory::site(api::SiteId id) const noexcept {
    const auto found = std::ranges::find(sites_, id);
    if (moments_.empty() || found == sites_.end()) return std::nullopt;
    return static_cast<Index>(found - sites_.begin());
}

void HandshakeHistory::add(HandshakeReading reading, health::Monotonic now) {
    if (!moments_.empty() && now <= moments_.back().at) return;
    const Change change = moments_.empty() ? Change::kFell : compare(reading);
    if (change == Change::kFell) forget();
    if (change != Change::kNone) lay_out(reading);
    while (!moments_.empty() &&
           (moments_.size() >= kMaxMoments || now - moments_.front().at > health::nanoseconds(kLongest))) {
        spare_ = std::move(moments_.front());
        moments_.pop_front();
    }
    fill(spare_, reading, now);
    moments_.push_back(std::move(spare_));
    spare_ = {};
    last_ = std::move(reading);
}

/// Both are in ascending order: one pass.
HandshakeHistory::Change HandshakeHistory::compare(const HandshakeReading& reading) const noexcept {
    bool same = reading.backends.size() == last_.backends.size();
    auto old = last_.backends.begin();
    for (const HandshakeCount& count : reading.backends) {
        while (old != last_.backends.end() && old->backend < count.backend) ++old;
        if (old == last_.backends.end() || old->backend != count.backend) {
            same = false;
            continue;
        }
        if (count.syns < old->syns || count.completed < old->completed) return Change::kFell;
        same = same && old->pool == count.pool && old->site == count.site;
        ++old;
    }
    return same ? Change::kNone : Change::kBackends;
}

void HandshakeHistory::lay_out(const HandshakeReading& reading) {
    std::vector<Index> order(reading.backends.size());
    std::iota(order.begin(), order.end(), 0U);
    std::ranges::sort(order, {}, [&](Index i) {
        const HandshakeCount& count = reading.backends[i];
        return std::tuple{count.site, count.pool, count.backend};
    });
    const std::vector<Index> before = std::exchange(slots_, std::vector<Index>(order.size()));
    for (Index slot = 0; slot < order.size(); ++slot) slots_[order[slot]] = slot;
    const std::vector<api::SiteId> sites_before = std::exchange(sites_, {});
    make_parts(reading, order);
    if (moments_.empty()) return;
    carry_over(reading, before);
    for (Moment& moment : moments_) {
        std::vector<SiteCount> counts;
        for (const api::SiteId site : sites_) {
            const auto found = std::ranges::find(sites_before, site);
            counts.push_back(found == sites_before.end()
                                 ? count_of(reading, site)
                                 : moment.counts[static_cast<std::size_t>(found - sites_before.begin())]);
        }
        moment.counts = std::move(counts);
        sum_up(moment);
    }
}

void HandshakeHistory::make_parts(const HandshakeReading& reading, const std::vector<Index>& order) {
    std::map<api::PoolId, Index> pools;
    parts_.clear();
    first_part_.clear();
    for (Index slot = 0; slot < order.size(); ++slot) {
        const HandshakeCount& count = reading.backends[order[slot]];
        const Index pool = pools.emplace(count.pool, static_cast<Index>(pools.size())).first->second;
        const bool new_site = sites_.empty() || sites_.back() != count.site;
        if (new_site) {
            sites_.push_back(count.site);
            first_part_.push_back(static_cast<Index>(parts_.size()));
        }
        if (new_site || parts_.back().pool != pool)
            parts_.push_back({pool, static_cast<Index>(sites_.size() - 1), slot, slot});
        parts_.back().end = slot + 1;
    }
    first_part_.push_back(static_cast<Index>(parts_.size()));
    pools_ = pools.size();
}

/// A backend that is new begins at what it has counted by now.
void HandshakeHistory::carry_over(const HandshakeReading& reading, const std::vector<Index>& before) {
    std::vector<Index> from(reading.backends.size(), kNone);  // by new slot
    std::size_t old = 0;
    for (std::size_t i = 0; i < reading.backends.size(); ++i) {
        const HandshakeCount& count = reading.backends[i];
        while (old < last_.backends.size() && last_.backends[old].backend < count.backend) ++old;
        if (old == last_.backends.size()) break;
        const HandshakeCount& known = last_.backends[old];
        if (known.backend == count.backend && known.pool == count.pool && known.site == count.site)
            from[slots_[i]] = before[old];
    }
    for (Moment& moment : moments_) {
        std::vector<Tally> backends(reading.backends.size());
        for (std::size_t i = 0; i < reading.backends.size(); ++i) {
            const Index slot = slots_[i];
            backends[slot] =
                from[slot] == kNone ? tally_of(reading.backends[i]) : moment.backends[from[slot]];
        }
        moment.backends = std::move(backends);
    }
}

void HandshakeHistory::fill(Moment& moment, const HandshakeReading& reading, health::Monotonic now) const {
    moment.at = now;
    moment.backends.resize(reading.backends.size());
    for (std::size_t i = 0; i < reading.backends.size(); ++i)
        moment.backends[slots_[i]] = tally_of(reading.backends[i]);
    moment.counts.clear();
    for (const api::SiteId site : sites_) moment.counts.push_back(count_of(reading, site));
    sum_up(moment);
}

void HandshakeHistory::sum_up(Moment& moment) const {
    moment.parts.assign(parts_.size(), {});
    moment.pools.assign(pools_, {});
    moment.sites.assign(sites_.size(), {});
    for (std::size_t i = 0; i < parts_.size(); ++i) {
        const Part& part = parts_[i];
        for (Index slot = part.first; slot < part.end; ++slot) moment.parts[i] += moment.backends[slot];
        moment.pools[part.pool] += moment.parts[i];
        moment.sites[part.site] += moment.parts[i];
    }
}

}  // namespace detour::failover
