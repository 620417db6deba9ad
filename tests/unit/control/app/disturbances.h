// A random fleet, and what befalls it: faults of backends, sites, ways back and BFD, what operators ask for,
// reloads, restarts.
//
// Everything comes from one seed. BFD sessions are told what the world is like, a detection time late, and
// some lie.
#pragma once

#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/control/app/world.h"

namespace detour::test {

class Disturbances {
  public:
    explicit Disturbances(std::uint64_t seed) : random_(seed), world_(make_config()) {
        offer();
        if (below(4) == 0) {
            for (const config::Site& site : world_.config().sites)
                world_.clients[site.name] = {3.0 + below(10), 1};
        }
        world_.boot();
        if (below(2) == 0) world_.making = std::chrono::milliseconds(below(600));
    }

    World& world() { return world_; }
    [[nodiscard]] unsigned below(unsigned limit) { return static_cast<unsigned>(random_() % limit); }

    /// What the pools offer, and what their data layer says.
    void offer() {
        for (const config::Pool& pool : world_.config().pools) world_.offered[pool.name] = below(600);
        world_.primaries.clear();
        if (below(4) > 0) world_.primaries.insert(any_site());
        if (below(8) == 0) world_.primaries.insert(any_site());
        world_.mute.clear();
        if (below(6) == 0) world_.mute.insert(any_site());
    }

    /// One more thing goes wrong, or well again.
    void disturb() {
        switch (below(5)) {
            case 0:
            case 1:
                return disturb_site();
            case 2:
                return disturb_path();
            case 3:
                return ask();
            default:
                return change();
        }
    }

    /// Time passes; BFD sessions say what they see.
    void run(nanoseconds duration) {
        if (!has_bfd()) return world_.run(duration);
        while (duration > 0ns) {
            const nanoseconds step = std::min<nanoseconds>(duration, kDetection);
            world_.run(step);
            duration -= step;
            report_bfd();
        }
    }

    /// All that was wrong is well again, and nobody asks for anything any more.
    void stop() {
        world_.behaviour.clear();
        world_.thinks.clear();
        world_.mute.clear();
        liars_.clear();
        for (auto& [site, clients] : world_.clients) clients.complete = 1;
        for (const config::Pool& pool : world_.config().pools) world_.offered[pool.name] = 0;
        world_.primaries = {world_.config().sites[0].name};
        if (world_.engine().intents().hold) (void)world_.intend(failover::ReleaseRequest{"somebody"});
        const app::Snapshot seen = world_.engine().snapshot(world_.now());
        for (const app::WeightStatus& weight : seen.weights) {
            failover::WeightRequest request;
            request.target = weight.target;
            (void)world_.intend(request);
        }
        for (const app::DrainStatus& drain : seen.drains) {
            // A whole site's may go on, and has to end well by itself.
            if (drain.drain.target.kind != failover::TargetKind::kSite) (void)world_.undrain(drain.target);
        }
    }

  private:
    static constexpr nanoseconds kDetection = 150ms;

    config::Config make_config() {
        Shape shape;
        shape.sites.clear();
        const unsigned sites = 2 + below(3);
        static const char* kNames[] = {"pangyo", "anyang", "chuncheon", "gasan"};
        for (unsigned i = 0; i < sites; ++i) shape.sites.emplace_back(kNames[i]);
        shape.pools = 1 + below(3);
        shape.backends = 1 + below(3);
        config::Config config = sample_config(shape);
        config.failover.auto_return_within = 30s;
        config.failover.max_dark_sites = below(3);
        config.failover.flap_hold = below(3) == 0 ? 0ms : 500ms;
        config.failover.flap_hold_most = 8s;
        config.failover.flap_forget = 20s;
        config.pop.share = 0.25;
        for (config::Site& site : config.sites) {
            site.tier = static_cast<config::SiteTier>(below(4) == 0 ? below(4) : 0);
            if (below(2) == 0) site.capacity.new_flows = 400 + below(4000);
            if (below(3) == 0) site.domain = {"kr", "campus"};
        }
        if (below(3) == 0) add_bfd(config);
        for (config::Pool& pool : config.pools) {
            pool.min_sites = below(3);
            pool.priority = 1 + below(3);
        }
        if (config.pools.size() > 1 && below(2) == 0) {
            config.pools[1].depends_on = {config.pools[0].name};
            config.pools[1].follow = below(2) == 0;
        }
        if (below(3) == 0) write_once(config.pools.back());
        return config;
    }

    void add_bfd(config::Config& config) {
        std::uint8_t number = 1;
        for (config::Site& site : config.sites) {
            const unsigned sessions = below(3);
            for (unsigned i = 0; i < sessions; ++i) {
                config::BfdPeer peer;
                peer.address = api::IpAddress::v4({10, number, 255, static_cast<std::uint8_t>(1 + i)});
                site.bfd.push_back(peer);
            }
            ++number;
        }
    }
    [[nodiscard]] bool has_bfd() const {
        return std::ranges::any_of(world_.config().sites, [](const auto& site) { return !site.bfd.empty(); });
    }

    /// What has lasted for a detection time by now, unless the session lies. One that never came up is not
    /// down.
    void report_bfd() {
        for (const config::Site& site : world_.config().sites) {
            for (std::size_t i = 0; i < site.bfd.size(); ++i) {
                const std::pair<std::string, std::size_t> session{site.name, i};
                const bool up = reachable(site.name) != liars_.contains(session);
                const auto told = told_.find(session);
                if (told == told_.end() ? !up : told->second == up) continue;
                told_[session] = up;
                world_.bfd(site.name, i, up ? failover::BfdPath::kUp : failover::BfdPath::kDown);
            }
        }
    }
    [[nodiscard]] bool reachable(const std::string& site) const {
        for (const config::Pool& pool : world_.config().pools) {
            for (const config::Backend& backend : pool.backends) {
                if (backend.site != site) continue;
                const auto found = world_.behaviour.find(backend.address);
                if (found == world_.behaviour.end() || found->second != Cause::kTimeout) return true;
            }
        }
        return false;
    }

    [[nodiscard]] const std::string& any_site() {
        return world_.config().sites[below(static_cast<unsigned>(world_.config().sites.size()))].name;
    }
    [[nodiscard]] const config::Pool& any_pool() {
        return world_.config().pools[below(static_cast<unsigned>(world_.config().pools.size()))];
    }
    [[nodiscard]] const config::Backend& any_backend() {
        const config::Pool& pool = any_pool();
        return pool.backends[below(static_cast<unsigned>(pool.backends.size()))];
    }
    /// A site, a pool in a site, a backend or a domain, as operators write it.
    [[nodiscard]] std::string any_target() {
        switch (below(4)) {
            case 0:
                return any_site();
            case 1:
                return any_pool().name + "@" + any_site();
            case 2:
                return any_backend().address.to_string();
            default:
                return below(4) == 0 ? "kr" : "kr/campus";
        }
    }
    [[nodiscard]] Cause any_fault() {
        static const Cause kFaults[] = {Cause::kTimeout, Cause::kTimeout, Cause::kRefused, Cause::kBadStatus};
        return kFaults[below(4)];
    }

    void disturb_site() {
        const std::string site = any_site();
        const Cause cause = below(2) == 0 ? any_fault() : Cause::kOk;
        if (below(4) > 0) return world_.behave(site, cause);
        for (const config::Backend& backend : any_pool().backends)  // one service there
            if (backend.site == site) world_.behaviour[backend.address] = cause;
    }

    /// Short of a whole site.
    void disturb_path() {
        switch (below(6)) {
            case 0:
            case 1:
                world_.behaviour[any_backend().address] = below(2) == 0 ? Cause::kOk : any_fault();
                break;
            case 2:
                world_.thinks[any_backend().address] = std::chrono::milliseconds(below(190));
                break;
            case 3: {
                const std::pair<std::string, std::size_t> session{any_site(), below(2)};
                if (liars_.erase(session) == 0) liars_.insert(session);
                break;
            }
            case 4:
                if (!world_.clients.empty()) world_.clients[any_site()].complete = below(3) == 0 ? 0.0 : 1.0;
                break;
            default:
                world_.acks[any_site()] = below(2) == 0;
        }
    }

    /// What operators ask for. A rail may refuse it.
    void ask() {
        switch (below(8)) {
            case 0:
            case 1:
                (void)world_.drain(any_site(), std::chrono::milliseconds(1000 + below(30'000)), below(3) == 0,
                                   below(4) == 0);
                break;
            case 2:
                (void)world_.drain(any_target(), std::chrono::milliseconds(1000 + below(30'000)),
                                   below(3) == 0);
                break;
            case 3: {
                failover::DrainRequest request{any_target(),  std::chrono::milliseconds(1000 + below(30'000)),
                                               "test",        "somebody",
                                               below(3) == 0, false};
                request.percent = 1 + below(99);
                (void)world_.intend(request);
                break;
            }
            case 4:
            case 5: {
                const auto drains = world_.engine().snapshot(world_.now()).drains;
                if (drains.empty())
                    (void)world_.undrain(any_site());
                else
                    (void)world_.undrain(drains[below(static_cast<unsigned>(drains.size()))].target);
                break;
            }
            case 6: {
                failover::WeightRequest request{any_target(),
                                                below(4) == 0 ? 0 : below(300),
                                                std::chrono::milliseconds(1000 + below(30'000)),
                                                "test",
                                                "somebody",
                                                below(3) == 0};
                (void)world_.intend(request);
                break;
            }
            default:
                if (world_.engine().intents().hold)
                    (void)world_.intend(failover::ReleaseRequest{"somebody"});
                else
                    (void)world_.intend(failover::HoldRequest{std::chrono::milliseconds(1000 + below(10'000)),
                                                              "test", "somebody"});
        }
    }

    /// Restarts of either process, and another configuration.
    void change() {
        told_.clear();
        switch (below(4)) {
            case 0:
                world_.restart_control();
                break;
            case 1:
                if (below(2) == 0) world_.blank_fast_path();
                break;
            default:
                reload();
        }
    }
    void reload() {
        config::Config config = world_.config();
        std::shuffle(config.pools.begin(), config.pools.end(), random_);
        config::Pool& pool = config.pools[0];
        pool.backends[0].weight = 1 + below(200);
        config.sites[0].capacity.new_flows = below(2) == 0 ? 0 : 400 + below(4000);
        if (below(3) == 0) {
            config::Backend backend = pool.backends[below(static_cast<unsigned>(pool.backends.size()))];
            backend.address = api::IpAddress::v4(
                {10, 250, static_cast<std::uint8_t>(added_ / 256), static_cast<std::uint8_t>(added_ % 256)});
            ++added_;
            pool.backends.push_back(backend);
        } else if (below(3) == 0) {
            const std::size_t gone = below(static_cast<unsigned>(pool.backends.size()));
            const std::string& site = pool.backends[gone].site;
            // A pool keeps the sites that it has.
            const auto there = std::ranges::count(pool.backends, site, &config::Backend::site);
            if (there > 1) pool.backends.erase(pool.backends.begin() + static_cast<std::ptrdiff_t>(gone));
        }
        world_.reload(config);
    }

    std::mt19937_64 random_;
    World world_;
    std::set<std::pair<std::string, std::size_t>> liars_;       ///< BFD sessions that say the opposite
    std::map<std::pair<std::string, std::size_t>, bool> told_;  ///< what they last said: up
    unsigned added_ = 0;
};

}  // namespace detour::test
