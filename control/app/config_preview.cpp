#include "control/app/config_preview.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "config/diff.h"
#include "control/plan/ids.h"
#include "control/plan/plan.h"
#include "control/plan/predict.h"

namespace detour::app {

namespace {

constexpr std::size_t kFlowsInAll = 400'000;
constexpr std::size_t kFlowsOfPool = 4'096;
constexpr double kWorthTelling = 0.001;

std::string describe(const config::Change& change) {
    if (change.before.empty()) return change.path + " = " + change.after + " is new";
    if (change.after.empty()) return change.path + " = " + change.before + " is gone";
    return change.path + " goes from " + change.before + " to " + change.after;
}

/// What is read at start alone.
bool needs_restart(const std::string& path) {
    for (const char* part : {"dataplane.ports", "dataplane.workers", "dataplane.socket",
                             "dataplane.state_dir", "dataplane.flows_per_worker", "control."}) {
        if (path.starts_with(part)) return true;
    }
    return false;
}

struct Place {
    std::string site;
    std::string backend;
    bool operator==(const Place&) const = default;
};

/// One plan with its predictor, answering in names.
class Side {
  public:
    static api::Result<Side> make(const api::ForwardingPlan& plan, const Snapshot& snapshot) {
        auto predictor = plan::Predictor::make(plan, snapshot.site_switches, snapshot.backend_switches);
        if (!predictor) return tl::unexpected(predictor.error());
        Side side(std::move(*predictor));
        for (const api::PlanSite& site : plan.sites) side.sites_[site.id] = site.name;
        for (const api::PlanPool& pool : plan.pools) {
            for (const api::PlanPoolSite& part : pool.sites) {
                for (const api::PlanBackend& backend : part.backends)
                    side.backends_[backend.id] = backend.address.to_string();
            }
        }
        return side;
    }
    [[nodiscard]] Place of(const plan::Flow& flow) const {
        const auto found = predictor_.new_flow(flow);
        Place place;
        if (!found) return place;
        if (found->site) place.site = sites_.at(*found->site);
        if (found->backend) place.backend = backends_.at(*found->backend);
        return place;
    }

  private:
    explicit Side(plan::Predictor predictor) : predictor_(std::move(predictor)) {}
    plan::Predictor predictor_;
    std::map<api::SiteId, std::string> sites_;
    std::map<api::BackendId, std::string> backends_;
};

plan::Flow random_flow(std::mt19937_64& random, const api::Vip& vip) {
    plan::Flow flow;
    flow.vip = vip;
    flow.client_port = api::Port{static_cast<std::uint16_t>(1024 + random() % 60'000)};
    const std::uint64_t bits = random();
    const auto byte = [bits](unsigned at) { return static_cast<std::uint8_t>(bits >> (8 * at)); };
    if (!vip.address.is_v6()) {
        flow.client = api::IpAddress::v4({byte(0), byte(1), byte(2), byte(3)});
    } else {
        std::array<std::uint8_t, 16> address{0x20, 0x01, 0x0d, 0xb8};
        for (unsigned i = 0; i < 8; ++i) address[8 + i] = byte(i);
        flow.client = api::IpAddress::v6(address);
    }
    return flow;
}

/// A VIP that both have; absent: the pool is new, or gone, or has other VIPs.
const api::Vip* common_vip(const config::Pool& pool, const std::set<api::Vip>& others) {
    for (const api::Vip& vip : pool.vips) {
        if (others.contains(vip)) return &vip;
    }
    return nullptr;
}

/// What happens to one pool, in all and by site.
struct PoolChange {
    control::PoolDiff whole;
    std::map<std::string, control::PoolSiteDiff> sites;
};

/// Those of backends that are not `left` are lost.
void count_flows(const PreviewInput& input, const std::set<api::IpAddress>& left, PoolChange& change) {
    change.whole.flows_lost = 0;
    for (const BackendStatus& backend : input.snapshot.backends) {
        if (backend.pool != change.whole.pool) continue;
        const auto found = input.flows.find(backend.id);
        const std::uint64_t flows = found == input.flows.end() ? 0 : found->second;
        const std::uint64_t lost = left.contains(backend.address) ? 0 : flows;
        control::PoolSiteDiff& site = change.sites[backend.site];
        site.flows = site.flows.value_or(0) + flows;
        site.flows_lost = site.flows_lost.value_or(0) + lost;
        *change.whole.flows_lost += lost;
    }
}

/// Places the same random flows on both sides.
void compare(const PreviewInput& input, const api::Vip& vip, const std::pair<const Side&, const Side&>& sides,
             PoolChange& change, std::vector<control::Move>& moves) {
    control::PoolDiff& diff = change.whole;
    std::mt19937_64 random(1);  // the same flows each time: two looks at one change agree
    const std::size_t count = std::clamp<std::size_t>(
        kFlowsInAll / std::max<std::size_t>(1, input.now.pools.size()), 256, kFlowsOfPool);
    const double each = 1 / static_cast<double>(count);
    std::map<std::pair<std::string, std::string>, std::size_t> moved;
    std::size_t reshuffled = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const plan::Flow flow = random_flow(random, vip);
        const Place before = sides.first.of(flow);
        const Place after = sides.second.of(flow);
        if (!before.site.empty()) change.sites[before.site].before += each;
        if (!after.site.empty()) change.sites[after.site].after += each;
        if (before.site != after.site)
            ++moved[{before.site, after.site}];
        else if (before.backend != after.backend)
            ++reshuffled;
    }
    for (const auto& [ends, flows] : moved) {
        const double share = static_cast<double>(flows) * each;
        diff.moved += share;
        if (share >= kWorthTelling) moves.push_back({diff.pool, ends.first, ends.second, share});
    }
    diff.reshuffled = static_cast<double>(reshuffled) * each;
}

/// Of a pool that something happens to, the sites where something does.
void tell(PoolChange change, control::ConfigDiff& diff) {
    const control::PoolDiff& whole = change.whole;
    if (whole.moved == 0 && whole.reshuffled == 0 && whole.flows_lost.value_or(0) == 0) return;
    for (auto& [name, site] : change.sites) {
        if (std::abs(site.before - site.after) < kWorthTelling && site.flows_lost.value_or(0) == 0) continue;
        site.pool = whole.pool;
        site.site = name;
        diff.sites.push_back(std::move(site));
    }
    diff.pools.push_back(std::move(change.whole));
}

/// A weight that the configuration has changed gives way.
bool stays(const WeightStatus& status, const config::Config& next) {
    return status.weight.configured == failover::weights_mark(next, status.weight.target);
}

api::Result<api::ForwardingPlan> plan_of(const PreviewInput& input) {
    plan::Ids ids;
    ids.adopt(*input.snapshot.plan);
    const api::Generation generation{input.snapshot.generation.value() + 1};
    std::vector<failover::WeightOverride> weights;
    for (const WeightStatus& status : input.snapshot.weights) {
        if (stays(status, input.next)) weights.push_back(status.weight);
    }
    const config::Config effective = failover::with_weights(input.next, weights);
    if (auto assigned = ids.assign(effective, generation, api::Generation{0}); !assigned)
        return tl::unexpected(assigned.error());
    return plan::make_plan(effective, ids, {}, generation);
}

}  // namespace

std::vector<std::string> describe_changes(const config::Config& now, const config::Config& next) {
    std::vector<std::string> result;
    for (const auto& change : config::diff(now, next)) {
        result.push_back(describe(change));
        if (needs_restart(change.path)) result.back() += " (at the next restart)";
    }
    return result;
}

std::vector<std::string> overruled_weights(const Snapshot& snapshot, const config::Config& next) {
    std::vector<std::string> result;
    for (const WeightStatus& status : snapshot.weights) {
        if (stays(status, next)) continue;
        result.push_back("the weight " + std::to_string(status.weight.weight) + " of " + status.target +
                         (status.weight.by.empty() ? "" : ", set by " + status.weight.by + ",") +
                         " ends: the configuration has another one");
    }
    return result;
}

api::Result<control::ConfigDiff> preview(const PreviewInput& input) {
    if (!input.snapshot.plan) {
        return api::fail(api::ErrorCode::kUnavailable, "comparing configurations",
                         "there is no plan yet to compare with");
    }
    control::ConfigDiff diff;
    diff.changes = describe_changes(input.now, input.next);
    diff.changed = !diff.changes.empty();
    if (!diff.changed) return diff;
    diff.warnings = overruled_weights(input.snapshot, input.next);
    const auto next = plan_of(input);
    if (!next) return tl::unexpected(next.error());
    const auto before = Side::make(*input.snapshot.plan, input.snapshot);
    if (!before) return tl::unexpected(before.error());
    const auto after = Side::make(*next, input.snapshot);
    if (!after) return tl::unexpected(after.error());
    std::map<api::Vip, const config::Pool*> next_pools;
    std::set<api::Vip> vips;
    for (const config::Pool& pool : input.next.pools) {
        for (const api::Vip& vip : pool.vips) {
            vips.insert(vip);
            next_pools[vip] = &pool;
        }
    }
    for (const config::Pool& pool : input.now.pools) {
        const api::Vip* vip = common_vip(pool, vips);
        PoolChange one;
        one.whole.pool = pool.name;
        std::set<api::IpAddress> left;
        compare(input, vip == nullptr ? pool.vips.front() : *vip, {*before, *after}, one, diff.moves);
        if (vip == nullptr) {
            one.whole.moved = 1;
            diff.warnings.push_back("pool " + pool.name + " is gone: its VIPs are no longer served");
        } else {
            for (const config::Backend& backend : next_pools.at(*vip)->backends) left.insert(backend.address);
        }
        if (!input.flows.empty()) count_flows(input, left, one);
        tell(std::move(one), diff);
    }
    return diff;
}

}  // namespace detour::app
