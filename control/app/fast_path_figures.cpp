#include "control/app/fast_path_figures.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "dataplane.pb.h"
#include "dataplane/api/limits.h"
#include "dataplane/api/wire.h"

namespace detour::app {

namespace {

constexpr std::uint64_t kWindowNs = 1'000'000'000;
constexpr std::size_t kMaxSamples = 64;

bool is_site(std::uint32_t id) {
    return id < api::kMaxSites;
}

/// `sites` are ascending. Of a row that is too short, what there is.
void read_prefixes(const wire::StatsReply& stats, std::vector<SiteSignal>& sites) {
    const auto copy = [](const auto& from, auto& to) {
        const auto count = std::min(static_cast<std::size_t>(from.size()), to.size());
        std::copy_n(from.begin(), count, to.begin());
    };
    for (const auto& row : stats.prefixes()) {
        if (!is_site(row.site())) continue;
        const api::SiteId id(static_cast<std::uint8_t>(row.site()));
        const auto found = std::ranges::lower_bound(sites, id, {}, &SiteSignal::site);
        if (found == sites.end() || found->site != id) continue;
        copy(row.syns(), found->count.prefixes.syns);
        copy(row.handshakes(), found->count.prefixes.completed);
    }
}

double rate(std::uint64_t before, std::uint64_t after, double seconds) {
    return after < before ? 0.0 : static_cast<double>(after - before) / seconds;
}

}  // namespace

api::Result<FastPathState> read_state(const wire::HelloReply& hello, const wire::StateReply& state) {
    FastPathState read;
    read.instance = hello.instance();
    if (state.has_plan() && state.plan().generation() != 0) {
        auto plan = api::decode(state.plan());
        if (!plan) return tl::unexpected(plan.error());
        read.generation = plan->generation;
        read.plan = std::move(*plan);
    }
    for (const auto& message : state.sites()) {
        auto value = api::decode(message);
        if (!value) return tl::unexpected(value.error());
        read.sites.push_back(*value);
    }
    for (const auto& message : state.backends()) {
        auto value = api::decode(message);
        if (!value) return tl::unexpected(value.error());
        read.backends.push_back(*value);
    }
    for (const auto& message : state.limits()) {
        auto value = api::decode(message);
        if (!value) return tl::unexpected(value.error());
        read.limits.push_back(*value);
    }
    return read;
}

std::map<api::SiteId, SiteTotals> site_totals(const wire::StatsReply& stats) {
    std::map<api::SiteId, SiteTotals> totals;
    for (const auto& worker : stats.workers()) {
        for (const auto& site : worker.sites()) {
            if (!is_site(site.site())) continue;
            auto& total = totals[api::SiteId(static_cast<std::uint8_t>(site.site()))];
            total.syns += site.syns();
            total.syns_repeated += site.syns_repeated();
            total.handshakes += site.handshakes();
            total.ack_advanced += site.ack_advanced();
            total.packets += site.packets();
            total.bytes += site.bytes();
            total.syns_forgotten += site.syns_forgotten();
            total.forgotten_ms += site.forgotten_ms();
        }
    }
    return totals;
}

Signals signals_of(const wire::StatsReply& stats) {
    Signals signals;
    for (const auto& [site, total] : site_totals(stats))
        signals.sites.push_back(
            {site, total.ack_advanced, {site, {}, total.syns_forgotten, total.forgotten_ms}});
    read_prefixes(stats, signals.sites);
    for (const auto& pool : stats.pools()) {
        if (pool.pool() >= api::kMaxPools) continue;
        const api::PoolId id(static_cast<std::uint16_t>(pool.pool()));
        signals.pools.push_back({id, pool.new_flows(), pool.bytes()});
    }
    for (const auto& backend : stats.backends()) {
        if (backend.backend() >= api::kMaxBackends) continue;
        signals.backends.push_back({api::BackendId(static_cast<std::uint16_t>(backend.backend())),
                                    backend.syns(), backend.handshakes()});
    }
    std::ranges::sort(signals.backends, {}, &BackendSignal::backend);
    if (stats.workers().empty()) return signals;
    std::uint64_t acknowledged = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t scanned = acknowledged;
    for (const auto& worker : stats.workers()) {
        acknowledged = std::min(acknowledged, worker.acknowledged());
        scanned = std::min(scanned, worker.scanned());
    }
    signals.acknowledged = api::Generation(acknowledged);
    signals.scanned = api::Generation(scanned);
    return signals;
}

FastPathFigures::FastPathFigures()
    : hello_(std::make_unique<wire::HelloReply>()), stats_(std::make_unique<wire::StatsReply>()) {}
FastPathFigures::~FastPathFigures() = default;

const wire::StatsReply& FastPathFigures::stats() const noexcept {
    return *stats_;
}

void FastPathFigures::on_up(const wire::HelloReply& hello) {
    if (hello.instance() != hello_->instance()) {
        samples_.clear();
        stats_->Clear();
    }
    *hello_ = hello;
    up_ = true;
    problem_.clear();
}

void FastPathFigures::on_down(const api::Error& why) {
    up_ = false;
    problem_ = why.to_string();
    samples_.clear();
}

void FastPathFigures::on_stats(wire::StatsReply stats) {
    *stats_ = std::move(stats);
    samples_.push_back({stats_->now_ns(), site_totals(*stats_)});
    // The oldest that is a second old or more stays, as the other end of the window.
    while (samples_.size() > 2 &&
           (samples_[1].at_ns + kWindowNs <= samples_.back().at_ns || samples_.size() > kMaxSamples)) {
        samples_.pop_front();
    }
}

std::optional<SiteRates> FastPathFigures::rates(api::SiteId site) const {
    if (samples_.size() < 2 || samples_.back().at_ns <= samples_.front().at_ns) return std::nullopt;
    const double seconds = static_cast<double>(samples_.back().at_ns - samples_.front().at_ns) / 1e9;
    const auto find = [&](const Sample& sample) {
        const auto found = sample.sites.find(site);
        return found == sample.sites.end() ? SiteTotals{} : found->second;
    };
    const SiteTotals before = find(samples_.front());
    const SiteTotals after = find(samples_.back());
    return SiteRates{rate(before.syns, after.syns, seconds), rate(before.packets, after.packets, seconds),
                     8 * rate(before.bytes, after.bytes, seconds)};
}

}  // namespace detour::app
