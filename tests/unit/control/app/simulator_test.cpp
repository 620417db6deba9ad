// Random histories of faults, drains, reloads and restarts against rules that must hold at every moment.
#include <cstdlib>
#include <random>
#include <set>

#include "tests/unit/control/app/world.h"

using namespace detour;
using namespace detour::test;
using failover::Phase;

namespace {

class History {
  public:
    explicit History(std::uint64_t seed) : random_(seed), world_(make_config()) {
        offer();
        world_.boot();
        if (below(2) == 0) world_.making = std::chrono::milliseconds(below(600));
    }

    void run() {
        const unsigned steps = 8 + below(12);
        for (unsigned i = 0; i < steps; ++i) {
            disturb();
            if (below(3) == 0) offer();
            const unsigned slices = 1 + below(12);
            for (unsigned slice = 0; slice < slices; ++slice) {
                run_slice(nanoseconds(std::chrono::milliseconds(20 + below(900))));
                check_always();
            }
        }
        heal();
    }
    World& world() { return world_; }

  private:
    unsigned below(unsigned limit) { return static_cast<unsigned>(random_() % limit); }

    config::Config make_config() {
        Shape shape;
        shape.sites.clear();
        const unsigned sites = 2 + below(3);
        static const char* kNames[] = {"pangyo", "anyang", "chuncheon", "gasan"};
        for (unsigned i = 0; i < sites; ++i) shape.sites.emplace_back(kNames[i]);
        shape.pools = 1 + below(3);
        shape.backends = 1 + below(3);
        config::Config config = sample_config(shape);
        config.failover.auto_return_within = 60s;
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

    /// What the pools offer, and what their data layer says.
    void offer() {
        for (const config::Pool& pool : world_.config().pools) world_.offered[pool.name] = below(600);
        world_.primaries.clear();
        if (below(4) > 0) world_.primaries.insert(any_site());
        if (below(8) == 0) world_.primaries.insert(any_site());
        world_.mute.clear();
        if (below(6) == 0) world_.mute.insert(any_site());
    }

    [[nodiscard]] const std::string& any_site() {
        return world_.config().sites[below(static_cast<unsigned>(world_.config().sites.size()))].name;
    }

    void disturb() {
        static const Cause kFaults[] = {Cause::kTimeout, Cause::kTimeout, Cause::kRefused, Cause::kBadStatus};
        switch (below(12)) {
            case 0:
            case 1:
            case 2:
                world_.behave(any_site(), kFaults[below(4)]);
                break;
            case 3:
            case 4:
            case 5:
                world_.behave(any_site(), Cause::kOk);
                break;
            case 6: {
                const auto& pool =
                    world_.config().pools[below(static_cast<unsigned>(world_.config().pools.size()))];
                const auto& backend = pool.backends[below(static_cast<unsigned>(pool.backends.size()))];
                world_.behaviour[backend.address] = below(2) == 0 ? Cause::kOk : kFaults[below(4)];
                break;
            }
            case 7:
                (void)world_.drain(any_site(), std::chrono::milliseconds(1000 + below(60'000)), below(3) == 0,
                                   below(4) == 0);
                break;
            case 8:
                (void)world_.undrain(any_site());
                break;
            case 9:
                world_.restart_control();
                break;
            case 10:
                if (below(2) == 0)
                    world_.blank_fast_path();
                else
                    world_.acks[any_site()] = below(2) == 0;
                break;
            default: {
                config::Config config = world_.config();
                std::shuffle(config.pools.begin(), config.pools.end(), random_);
                config.pools[0].backends[0].weight = 1 + below(200);
                config.sites[0].capacity.new_flows = below(2) == 0 ? 0 : 400 + below(4000);
                world_.reload(config);
            }
        }
    }

    void run_slice(nanoseconds duration) {
        const std::size_t first_event = world_.events.size();
        const std::set<std::string> before = taking();
        world_.run(duration);
        check_rails(first_event, before);
    }

    /// Sites that take new flows of some pool.
    [[nodiscard]] std::set<std::string> taking() {
        std::set<std::string> sites;
        for (const config::Site& site : world_.config().sites)
            if (world_.gate(site.name).admit > api::kAdmitNone) sites.insert(site.name);
        return sites;
    }

    /// What automation took away for answering badly, by the rule that each verdict names: never more sites
    /// at a time than max_dark_sites, and never one without which a pool has less than min_sites.
    void check_rails(std::size_t first_event, const std::set<std::string>& before) {
        const app::Snapshot seen = world_.engine().snapshot(world_.now());
        std::set<std::string> taken;
        std::set<std::string> came = before;  // those that took flows at some moment
        for (std::size_t i = first_event; i < world_.events.size(); ++i) {
            const Event& event = world_.events[i];
            if (event.kind == EventKind::kSwitch && event.to != "0") came.insert(event.site);
            if (event.kind != EventKind::kVerdict) continue;
            if (event.to != "dark") {
                badly_.erase(event.site);
            } else if (event.rule.find("counts for max_dark_sites") != std::string::npos) {
                badly_.insert(event.site);
                // One that an operator had drained was his to take; its drain's end takes nothing away.
                if (event.from != "drained") taken.insert(event.site);
            }
        }
        for (const app::SiteStatus& site : seen.sites)
            if (site.phase != Phase::kDark) badly_.erase(site.name);
        CHECK(badly_.size() <= world_.config().failover.max_dark_sites);
        for (const std::string& site : taken) {
            CAPTURE(site);
            // Others may have gone meanwhile, for being silent or drained.
            std::set<std::string> others = taking();
            others.insert(came.begin(), came.end());
            others.erase(site);
            for (const app::PoolStatus& pool : seen.pools) {
                CAPTURE(pool.name);
                const bool here = std::any_of(pool.sites.begin(), pool.sites.end(), [&](const auto& part) {
                    return part.site == site && part.up + part.down + part.unknown > 0;
                });
                if (here && !pool.single_writer) CHECK(others.size() >= pool.min_sites);
            }
        }
    }

    void check_always() {
        const app::Snapshot seen = world_.engine().snapshot(world_.now());
        const bool has_plan = world_.fast.plan.has_value();
        CHECK((has_plan || world_.engine().plan_ordered()));
        bool another = false;
        for (const app::SiteStatus& site : seen.sites) {
            const bool takes = site.phase == Phase::kLive || site.phase == Phase::kRamping;
            another |= takes && site.verdict != failover::Verdict::kDrained;
        }
        for (const app::SiteStatus& site : seen.sites) {
            CAPTURE(site.name);
            CAPTURE(failover::to_string(site.verdict));
            const Gate gate = world_.fast.gate(site.id);
            CHECK(gate == site.gate);  // the fast path has what the engine says
            const bool out = site.verdict == failover::Verdict::kDrained || site.phase == Phase::kDark;
            if (out && another && gate.admit > failover::kLastResort) {
                FAIL_CHECK("takes new flows while another site may");
            }
            if (!gate.keep) CHECK(site.phase == Phase::kDark);
            check_room(site);
        }
        for (const app::PoolStatus& pool : seen.pools) check_pool(pool, seen);
        // Automation never takes the last site away.
        bool any_live = false;
        for (const app::SiteStatus& site : seen.sites) {
            any_live |= site.phase != Phase::kDark || site.verdict == failover::Verdict::kDrained;
        }
        CHECK(any_live);
        for (const app::PoolStatus& pool : seen.pools) {
            for (const app::PoolSiteStatus& part : pool.sites) {
                const auto id = std::find_if(seen.sites.begin(), seen.sites.end(), [&](const auto& site) {
                                    return site.name == part.site;
                                })->id;
                CHECK(world_.fast.gate(id, pool.id) == part.gate);
            }
        }
    }

    /// The limits are those of the capacity, and what is planned keeps within them.
    void check_room(const app::SiteStatus& site) {
        const config::Site& described = *world_.config().find_site(site.name);
        const auto limit = world_.fast.limits.find(site.id);
        const double most = static_cast<double>(described.capacity.new_flows) * world_.config().pop.share;
        if (described.capacity.new_flows == 0) return;
        if (site.budget.new_flows == 0) return;  // a capacity that came with a reload just now
        CHECK(site.load.new_flows <= site.budget.new_flows * 1.000001);
        CHECK(site.budget.new_flows <= most * 1.000001);
        REQUIRE(limit != world_.fast.limits.end());
        REQUIRE(limit->second.per_second.has_value());
        CHECK(*limit->second.per_second <= most + 1);
    }

    void check_pool(const app::PoolStatus& pool, const app::Snapshot& seen) {
        CAPTURE(pool.name);
        std::vector<std::string> takes;
        std::size_t fit = 0;
        for (const app::PoolSiteStatus& part : pool.sites) {
            const auto site = std::find_if(seen.sites.begin(), seen.sites.end(),
                                           [&](const auto& value) { return value.name == part.site; });
            const bool open = world_.fast.gate(site->id, pool.id).admit > api::kAdmitNone &&
                              world_.fast.gate(site->id).admit > api::kAdmitNone;
            if (open) takes.push_back(part.site);
            const bool good = site->verdict == failover::Verdict::kHealthy && part.up > 0 && part.down == 0;
            if (good && part.verdict == failover::Verdict::kHealthy) ++fit;
        }
        if (pool.single_writer) {
            CHECK(takes.size() <= 1);
            for (const std::string& site : takes) CHECK(site == pool.writer);
        } else if (fit > 0) {
            CHECK_FALSE(takes.empty());  // a healthy site is never shut to a pool that has no other
        }
    }

    /// Faults stop: everything comes back, or is held until an operator says so.
    void heal() {
        for (const config::Site& site : world_.config().sites) world_.behave(site.name, Cause::kOk);
        for (const config::Pool& pool : world_.config().pools) world_.offered[pool.name] = 0;
        world_.mute.clear();
        world_.primaries = {world_.config().sites[0].name};
        world_.run(100s);
        check_always();
        for (const config::Site& site : world_.config().sites) {
            const app::SiteStatus status = world_.site(site.name);
            CAPTURE(site.name);
            CAPTURE(failover::to_string(status.verdict));
            const bool whole = status.gate == Gate{};
            CHECK((whole || status.held || status.verdict == failover::Verdict::kDrained));
            if (!whole) (void)world_.undrain(site.name);
        }
        world_.run(15s);
        for (const app::SiteStatus& site : world_.engine().snapshot(world_.now()).sites) {
            CAPTURE(site.name);
            CHECK(site.verdict == failover::Verdict::kHealthy);
            CHECK(world_.fast.gate(site.id) == Gate{});
        }
        for (const app::BackendStatus& backend : world_.engine().snapshot(world_.now()).backends) {
            CHECK(world_.fast.flags(backend.id) == app::BackendFlags{true, true});
        }
        for (const app::PoolStatus& pool : world_.engine().snapshot(world_.now()).pools) {
            for (const app::PoolSiteStatus& part : pool.sites) {
                const bool here = !pool.single_writer || part.site == *world_.primaries.begin();
                CHECK((part.effective == Gate{}) == here);
            }
        }
    }

    std::mt19937_64 random_;
    World world_;
    std::set<std::string> badly_;  ///< dark for answering badly
};

}  // namespace

TEST_CASE("random histories keep every rule, and everything recovers or is held for an operator") {
    // DETOUR_SIM_SEED repeats one history, DETOUR_SIM_COUNT sets how many are run.
    const char* one = std::getenv("DETOUR_SIM_SEED");
    const char* many = std::getenv("DETOUR_SIM_COUNT");
    const std::uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 20'260'501;
    const std::uint64_t count = one != nullptr    ? 1
                                : many != nullptr ? std::strtoull(many, nullptr, 10)
                                                  : 10'000;
    MESSAGE("seeds " << first << " … " << first + count - 1);
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        CAPTURE(seed);
        History history(seed);
        history.run();
        if (one != nullptr) MESSAGE(history.world().log());
    }
}
