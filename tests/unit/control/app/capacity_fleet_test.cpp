// Twenty independent hosts, each with an engine of its own and a share of every site: a site fails and comes
// back in steps, and at every step the sum at each survivor stays within its capacity.
#include <deque>
#include <map>
#include <memory>
#include <random>

#include "control/plan/predict.h"
#include "dataplane/core/token_bucket.h"
#include "tests/unit/control/app/world.h"

using namespace detour;
using namespace detour::test;
using failover::Verdict;

namespace {

constexpr unsigned kHosts = 20;
constexpr nanoseconds kStep = 100ms;
/// A bucket lets a tenth of a second's worth through in one go (core/token_bucket.h).
constexpr double kBurst = 1.1;

struct PoolLoad {
    std::string name;
    double flows = 0;  ///< a second, of the whole fleet
};
/// The order of the pools in the config, and of their priorities.
const std::vector<PoolLoad> kLoads{{"pool0", 5000}, {"pool1", 4000}, {"pool2", 3000}};
const std::map<std::string, double> kCapacity{{"pangyo", 10'000}, {"anyang", 5'000}, {"chuncheon", 3'000}};

config::Config fleet_config() {
    config::Config config = sample_config({.pools = 3, .backends = 8});
    for (config::Site& site : config.sites)
        site.capacity.new_flows = static_cast<std::uint64_t>(kCapacity.at(site.name));
    config.sites[2].tier = config::SiteTier::kHot;
    for (std::size_t i = 0; i < config.pools.size(); ++i) {
        config.pools[i].priority = static_cast<std::uint32_t>(i + 1);
        config.pools[i].health.interval = config::milliseconds{1000};
    }
    config.failover.ramp = config::milliseconds{5'000};
    return config;
}

/// One host: engine, and the fast path's own choice and buckets.
class Host {
  public:
    Host(const config::Config& config, double share, double traffic, std::uint64_t seed)
        : world_(with_share(config, share)), traffic_(traffic), random_(seed) {
        for (const PoolLoad& load : kLoads) world_.offered[load.name] = load.flows * traffic;
        world_.boot();
        world_.run(5s);
    }
    World& world() { return world_; }

    /// Flows of one step: forwarded, by site.
    std::map<std::string, double> step() {
        world_.run(kStep);
        const plan::Predictor& predictor = this->predictor();
        std::map<std::string, double> forwarded;
        for (std::size_t p = 0; p < kLoads.size(); ++p) {  // a site's tokens go by priority
            owed_[p] += kLoads[p].flows * traffic_ * std::chrono::duration<double>(kStep).count();
            for (; owed_[p] >= 1; owed_[p] -= 1) {
                ++asked_[p];
                const std::string site = place(predictor, p);
                if (site.empty() || !take(site)) continue;
                ++served_[p];
                forwarded[site] += 1;
            }
        }
        return forwarded;
    }
    void forget() { asked_ = served_ = {}; }
    [[nodiscard]] double asked(std::size_t pool) const { return asked_[pool]; }
    [[nodiscard]] double served(std::size_t pool) const { return served_[pool]; }

  private:
    static config::Config with_share(config::Config config, double share) {
        config.pop.share = share;
        return config;
    }
    /// The fast path's tables under its switches; built anew with each plan alone.
    const plan::Predictor& predictor() {
        const api::Generation generation = world_.fast.plan->generation;
        if (!predictor_ || predicted_ != generation)
            predictor_.emplace(plan::Predictor::make(*world_.fast.plan, {}, {}).value());
        predicted_ = generation;
        predictor_->use(world_.fast.site_switches(), world_.fast.backend_switches());
        return *predictor_;
    }
    std::string place(const plan::Predictor& predictor, std::size_t pool) {
        const auto word = static_cast<std::uint32_t>(random_());
        const auto client =
            api::IpAddress::v4({10, static_cast<std::uint8_t>(word >> 16U),
                                static_cast<std::uint8_t>(word >> 8U), static_cast<std::uint8_t>(word)});
        const plan::Flow flow{client, api::Port{static_cast<std::uint16_t>(1024 + random_() % 60'000)},
                              world_.config().pools[pool].vips[0]};
        const auto found = predictor.new_flow(flow);
        if (!found || !found->site) return {};
        for (const api::PlanSite& site : world_.fast.plan->sites) {
            if (site.id == *found->site) return site.name;
        }
        return {};
    }
    bool take(const std::string& name) {
        const auto known = sites_.find(name);
        const api::SiteId id = known != sites_.end() ? known->second : (sites_[name] = world_.site(name).id);
        const auto limit = world_.fast.limits.find(id);
        if (limit == world_.fast.limits.end() || !limit->second.per_second) return true;
        core::TokenBucket& bucket = buckets_[name];
        bucket.set_rate(*limit->second.per_second);
        return bucket.take(static_cast<std::uint64_t>(world_.time().count()));
    }

    World world_;
    double traffic_;
    std::optional<plan::Predictor> predictor_;
    api::Generation predicted_;
    std::mt19937_64 random_;
    std::array<double, 3> owed_{}, asked_{}, served_{};
    std::map<std::string, core::TokenBucket> buckets_;
    std::map<std::string, api::SiteId> sites_;
};

class Region {
  public:
    explicit Region(std::uint64_t seed) {
        std::mt19937_64 random(seed);
        std::vector<double> shares(kHosts), traffic(kHosts);
        const auto fill = [&](std::vector<double>& parts) {
            double sum = 0;
            for (double& part : parts) sum += part = 80.0 + static_cast<double>(random() % 40);
            for (double& part : parts) part /= sum;
        };
        fill(shares);
        fill(traffic);  // a host's traffic is not its share
        for (unsigned i = 0; i < kHosts; ++i)
            hosts_.push_back(std::make_unique<Host>(fleet_config(), shares[i], traffic[i], random()));
    }

    void run(nanoseconds duration) {
        for (nanoseconds passed{0}; passed < duration; passed += kStep) {
            std::map<std::string, double> now;
            for (auto& host : hosts_) {
                for (const auto& [site, flows] : host->step()) now[site] += flows;
            }
            window_.push_back(std::move(now));
            if (window_.size() > 10) window_.pop_front();
            check();
        }
    }
    template <class F>
    void each(F f) {
        for (auto& host : hosts_) f(*host);
    }
    /// Of what the fleet's clients asked of one pool since forget().
    [[nodiscard]] double served(std::size_t pool) const {
        double asked = 0, served = 0;
        for (const auto& host : hosts_) {
            asked += host->asked(pool);
            served += host->served(pool);
        }
        return asked == 0 ? 1 : served / asked;
    }

  private:
    void check() {
        std::map<std::string, double> planned, limits;
        for (auto& host : hosts_) {
            for (const app::SiteStatus& status : host->world().engine().snapshot(host->world().now()).sites) {
                planned[status.name] += status.load.new_flows;
                limits[status.name] += host->world().fast.limits.at(status.id).per_second.value();
            }
        }
        for (const auto& [site, capacity] : kCapacity) {
            double arrived = 0;
            for (const auto& step : window_) {
                const auto found = step.find(site);
                if (found != step.end()) arrived += found->second;
            }
            CAPTURE(site);
            CHECK(planned[site] <= capacity * 1.000001);
            CHECK(limits[site] <= capacity + kHosts);  // one flow of rounding for each host
            if (window_.size() == 10) CHECK(arrived <= capacity * kBurst + kHosts);
        }
    }

    std::vector<std::unique_ptr<Host>> hosts_;
    std::deque<std::map<std::string, double>> window_;
};

}  // namespace

TEST_CASE(
    "twenty hosts, shares that add up to one: no survivor of a site's failure gets more than its capacity") {
    const std::uint64_t seed = std::random_device{}();
    MESSAGE("seed " << seed);
    Region region(seed);
    region.run(1s);
    region.each([](Host& host) { host.forget(); });
    region.run(1s);
    CHECK(region.served(0) > 0.99);
    CHECK(region.served(2) > 0.8);  // not every host's traffic fits its share

    // 12,000 flows a second, and 8,000 that the survivors can take.
    region.each([](Host& host) { host.world().behave("pangyo", Cause::kTimeout); });
    region.run(5s);
    region.each([](Host& host) { host.forget(); });
    region.run(5s);
    CHECK(region.served(0) > 0.95);  // of the most important pool, but for the noise of buckets
    CHECK(region.served(1) > 0.4);
    CHECK(region.served(2) < 0.4);

    region.each([](Host& host) {  // three servers of eight come back
        for (const config::Pool& pool : host.world().config().pools) {
            for (std::size_t i = 0; i < 3; ++i) host.world().behaviour[pool.backends[i].address] = Cause::kOk;
        }
    });
    region.run(12s);
    region.each([](Host& host) { host.forget(); });
    region.run(2s);
    CHECK(region.served(0) > 0.95);
    CHECK(region.served(2) > 0.3);

    region.each([](Host& host) { host.world().behave("pangyo", Cause::kOk); });
    region.run(15s);
    region.each([](Host& host) { host.forget(); });
    region.run(2s);
    CHECK(region.served(0) > 0.99);
    CHECK(region.served(1) > 0.95);
    CHECK(region.served(2) > 0.8);
}
