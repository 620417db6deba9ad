// Random histories of faults, drains, reloads and restarts against rules that must hold at every moment.
#include <cstdlib>
#include <map>
#include <set>
#include <string>

#include "tests/unit/control/app/disturbances.h"

using namespace detour;
using namespace detour::test;
using failover::Phase;

namespace {

class History {
  public:
    explicit History(std::uint64_t seed) : faults_(seed), world_(faults_.world()) {}

    void run() {
        const unsigned steps = 8 + faults_.below(12);
        for (unsigned i = 0; i < steps; ++i) {
            faults_.disturb();
            if (faults_.below(3) == 0) faults_.offer();
            const unsigned slices = 1 + faults_.below(12);
            for (unsigned slice = 0; slice < slices; ++slice) {
                run_slice(nanoseconds(std::chrono::milliseconds(20 + faults_.below(900))));
                check_always();
            }
        }
        heal();
    }
    World& world() { return world_; }

  private:
    void run_slice(nanoseconds duration) {
        const std::size_t first_event = world_.events.size();
        const std::set<std::string> before = taking();
        const bool held = on_hold();
        faults_.run(duration);
        check_rails(first_event, before);
        if (held && on_hold()) check_hold(first_event);
    }
    [[nodiscard]] bool on_hold() { return world_.engine().intents().hold.has_value(); }

    /// Under a hold automation takes nothing away and brings nothing back.
    void check_hold(std::size_t first_event) {
        for (std::size_t i = first_event; i < world_.events.size(); ++i) {
            const Event& event = world_.events[i];
            const bool verdict = event.kind == EventKind::kVerdict && event.to == "dark";
            if (verdict) CHECK(event.from == "drained");  // a drain that ended shows what is below it
            CHECK(event.kind != EventKind::kRampStarted);
            CHECK(event.kind != EventKind::kStrand);
        }
    }

    /// Sites that take new flows of some pool.
    [[nodiscard]] std::set<std::string> taking() {
        std::set<std::string> sites;
        for (const config::Site& site : world_.config().sites)
            if (world_.gate(site.name).admit > api::kAdmitNone) sites.insert(site.name);
        return sites;
    }

    /// What automation took away for answering badly: never more sites at a time than max_dark_sites, and, by
    /// the rule that each verdict names, never one without which a pool has less than min_sites.
    void check_rails(std::size_t first_event, const std::set<std::string>& before) {
        std::set<std::string> taken;
        std::set<std::string> came = before;  // those that took flows at some moment
        for (std::size_t i = first_event; i < world_.events.size(); ++i) {
            const Event& event = world_.events[i];
            if (event.kind == EventKind::kSwitch && event.to != "0") came.insert(event.site);
            // One that an operator had drained was his to take; its drain's end takes nothing away.
            if (event.kind != EventKind::kVerdict || event.to != "dark" || event.from == "drained") continue;
            const bool badly = event.rule.find("counts for max_dark_sites") != std::string::npos ||
                               event.rule.find("passive signal") != std::string::npos;
            if (badly) taken.insert(event.site);
        }
        const auto kept = app::decode_state(world_.state_file).value();
        const auto away = std::ranges::count_if(kept.sites, [](const auto& site) {
            return site.second.phase == Phase::kDark && site.second.bad_answers;
        });
        CHECK(static_cast<std::uint32_t>(away) <= world_.config().failover.max_dark_sites);
        const app::Snapshot seen = world_.engine().snapshot(world_.now());
        for (const std::string& site : taken) {
            CAPTURE(site);
            // Others may have gone meanwhile, for being silent or drained.
            std::set<std::string> others = taking();
            others.insert(came.begin(), came.end());
            others.erase(site);
            for (const app::PoolStatus& pool : seen.pools) {
                CAPTURE(pool.name);
                const bool here = std::any_of(pool.sites.begin(), pool.sites.end(), [&](const auto& part) {
                    return part.site == site && part.up + part.down + part.unknown > 0 && part.weight > 0;
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
            const api::Admit most = site.trickle ? failover::kRampFloor : failover::kLastResort;
            if (out && another && gate.admit > most) {
                FAIL_CHECK("takes new flows while another site may");
            }
            if (!gate.keep) CHECK(site.phase == Phase::kDark);
            check_room(site);
        }
        for (const app::PoolStatus& pool : seen.pools) check_pool(pool, seen);
        // Automation never takes the last site away.
        bool any_live = false;
        for (const app::SiteStatus& site : seen.sites) {
            any_live |=
                site.phase != Phase::kDark || site.trickle || site.verdict == failover::Verdict::kDrained;
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
        if (on_hold()) return;  // nobody gives room out anew
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
            const bool good = site->verdict == failover::Verdict::kHealthy && part.down == 0 &&
                              part.weight > 0 && serves(seen, pool.name, part.site);
            if (good && part.verdict == failover::Verdict::kHealthy) ++fit;
        }
        if (pool.single_writer) {
            CHECK(takes.size() <= 1);
            for (const std::string& site : takes) CHECK(site == pool.writer);
        } else if (fit > 0 && !on_hold()) {
            CHECK_FALSE(takes.empty());  // a healthy site is never shut to a pool that has no other
        }
    }

    /// A backend of the pool there is up, not drained and has a weight.
    [[nodiscard]] static bool serves(const app::Snapshot& seen, const std::string& pool,
                                     const std::string& site) {
        return std::ranges::any_of(seen.backends, [&](const app::BackendStatus& backend) {
            return backend.pool == pool && backend.site == site && backend.state == health::State::kUp &&
                   !backend.drained && backend.weight > 0;
        });
    }

    /// Faults stop: everything comes back, or is held until an operator says so.
    void heal() {
        faults_.stop();
        faults_.run(60s);
        check_always();
        for (const config::Site& site : world_.config().sites) {
            const app::SiteStatus status = world_.site(site.name);
            CAPTURE(site.name);
            CAPTURE(failover::to_string(status.verdict));
            const bool whole = status.gate == Gate{};
            CHECK((whole || status.held || status.verdict == failover::Verdict::kDrained));
            if (!whole) (void)world_.undrain(site.name);
        }
        faults_.run(15s);
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

    Disturbances faults_;
    World& world_;
};

/// An event's kind; of a site that goes dark, by which rule.
std::string what(const Event& event) {
    if (event.kind != EventKind::kVerdict || event.to != "dark")
        return std::string(app::to_string(event.kind));
    if (event.rule.starts_with("BFD")) return "dark-bfd";
    if (event.rule.starts_with("passive")) return "dark-clients";
    return event.rule.find("max_dark_sites") != std::string::npos ? "dark-badly" : "dark-silent";
}

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
    std::map<std::string, unsigned> met;
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        CAPTURE(seed);
        History history(seed);
        history.run();
        for (const Event& event : history.world().events) ++met[what(event)];
        if (one != nullptr) MESSAGE(history.world().log());
    }
    std::string all;
    for (const auto& [kind, times] : met) all += " " + kind + " " + std::to_string(times);
    MESSAGE("met:" << all);
    if (count < 1000) return;
    // It has seen what it is there for.
    for (const char* kind :
         {"bfd", "hold", "release", "weight", "drain", "undrain", "drain_expired", "strand", "pool_verdict",
          "writer", "dark-silent", "dark-badly", "dark-bfd", "dark-clients"}) {
        CAPTURE(kind);
        CHECK(met[kind] > 10);
    }
}
