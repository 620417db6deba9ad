// A world around one engine: backends that answer, refuse or are silent, a fast path that checks what it is
// told, a disk, and a clock that only moves when the test says so.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/app/engine.h"
#include "control/app/switchboard.h"
#include "tests/unit/control/sample_config.h"

namespace detour::test {

using namespace std::chrono_literals;
using app::Actions;
using app::Engine;
using app::Event;
using app::EventKind;
using failover::Gate;
using health::Cause;
using health::Monotonic;
using health::nanoseconds;

/// What the fast path holds. Every rule of the control channel is checked as it is used.
struct FakeFastPath {
    std::uint64_t instance = 1;
    std::optional<api::ForwardingPlan> plan;
    std::map<std::pair<api::SiteId, std::optional<api::PoolId>>, api::SiteSwitch> sites;
    std::map<api::BackendId, api::BackendSwitch> backends;
    [[nodiscard]] std::vector<api::SiteSwitch> site_switches() const { return values(sites); }
    [[nodiscard]] std::vector<api::BackendSwitch> backend_switches() const { return values(backends); }
    template <class K, class V>
    [[nodiscard]] static std::vector<V> values(const std::map<K, V>& map) {
        std::vector<V> result;
        for (const auto& [key, value] : map) result.push_back(value);
        return result;
    }
    std::map<api::SiteId, api::FlowLimit> limits;
    int site_stores = 0, backend_stores = 0, plans = 0;

    void take(const Actions& actions) {
        for (const api::SiteSwitch& value : actions.sites) {
            auto& before = sites[{value.site, value.pool}];
            CHECK(value.sequence > before.sequence);
            before = value;
            ++site_stores;
        }
        for (const api::BackendSwitch& value : actions.backends) {
            auto& before = backends[value.backend];
            CHECK(value.sequence > before.sequence);
            before = value;
            ++backend_stores;
        }
        for (const api::FlowLimit& value : actions.limits) {
            REQUIRE(value.site.has_value());
            api::FlowLimit& before = limits[*value.site];
            CHECK(value.sequence > before.sequence);
            before = value;
        }
        if (!actions.plan) return;
        CHECK_FALSE(actions.plan->pools.empty());
        if (plan) CHECK(actions.plan->generation > plan->generation);
        for (const api::PlanSite& site : actions.plan->sites) {
            const auto known = sites.find({site.id, std::nullopt});
            if (known != sites.end()) CHECK(site.verdict >= known->second.sequence);
        }
        plan = *actions.plan;
        ++plans;
    }
    [[nodiscard]] app::FastPathState state() const {
        app::FastPathState result;
        result.instance = instance;
        result.plan = plan;
        if (plan) result.generation = plan->generation;
        for (const auto& [target, value] : sites) result.sites.push_back(value);
        for (const auto& [id, value] : backends) result.backends.push_back(value);
        for (const auto& [id, value] : limits) result.limits.push_back(value);
        return result;
    }
    [[nodiscard]] Gate gate(api::SiteId site, std::optional<api::PoolId> pool = std::nullopt) const {
        const auto found = sites.find({site, pool});
        if (found == sites.end()) return {};
        return {found->second.admit, found->second.admit_mid, found->second.keep, found->second.end_flows};
    }
    [[nodiscard]] app::BackendFlags flags(api::BackendId id) const {
        const auto found = backends.find(id);
        if (found == backends.end()) return {};
        return {found->second.up, found->second.keep, found->second.end_flows};
    }
};

/// Processor time of this thread: other work on the machine does not count.
inline double thread_ms() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

class World {
  public:
    explicit World(config::Config config, nanoseconds start = 1000s)
        : config_(std::move(config)), time_(start) {
        make_engine();
    }

    [[nodiscard]] health::Now now() const { return {{time_}, {time_ + wall_offset_}}; }
    [[nodiscard]] nanoseconds time() const { return time_; }
    [[nodiscard]] const config::Config& config() const { return config_; }
    Engine& engine() { return *engine_; }
    FakeFastPath fast;
    std::vector<Event> events;
    /// Processor time of the engine's calls since this was set, which costs two system calls each: the last
    /// one, the last one that switched a site, the longest, all of them.
    bool measures = false;
    double spent_ms = 0;
    double last_call_ms = 0, switching_call_ms = 0, longest_call_ms = 0;
    double reading_ms = 0;  ///< the longest one that took the fast path's counters
    std::string state_file, intents_file;

    /// Backends' behaviour by address; the default answers.
    std::map<api::IpAddress, Cause> behaviour;
    /// ACKs of pinned flows advance at these sites.
    std::map<std::string, bool> acks;
    bool signals = true;
    nanoseconds making{0};  ///< what a plan takes
    /// New flows a second that each pool offers, by name.
    std::map<std::string, double> offered;
    std::map<std::string, double> offered_gbps;  ///< from the clients
    /// Sites whose data says that it is primary, for `ready` probes (those of path "/primary").
    std::set<std::string> primaries;
    /// Sites whose `ready` probes are not answered.
    std::set<std::string> mute;
    nanoseconds round_trip = 1ms;                  ///< to every backend, and up to 3 ms
    std::map<api::IpAddress, nanoseconds> thinks;  ///< what a backend takes beyond it
    /// What the fast path counts of each backend of a site, in 100 ms; absent: nothing.
    struct Clients {
        double syns = 10;
        double complete = 1;  ///< share of them
    };
    std::map<std::string, Clients> clients;

    void behave(const std::string& site, Cause cause) {
        for (const config::Pool& pool : config_.pools) {
            for (const config::Backend& backend : pool.backends) {
                if (backend.site == site) behaviour[backend.address] = cause;
            }
        }
    }

    /// Connects the fast path and lets everything come up.
    void boot() {
        perform(engine_->start(now()));
        perform(engine_->on_next_hops(hops(), now()));
        connect();
        run(3s);
        events.clear();
        fast.site_stores = fast.backend_stores = fast.plans = 0;
    }
    void connect() {
        connected_ = true;
        perform(engine_->adopt(fast.state(), now()));
    }
    void disconnect() {
        connected_ = false;
        perform(engine_->on_disconnected(now()));
    }
    /// Kill -9 of the control process and a new one that reads the disk.
    void restart_control() {
        pending_.clear();
        orders_.clear();
        connected_ = false;
        make_engine();
        perform(engine_->start(now()));
        perform(engine_->on_next_hops(hops(), now()));
        connect();
    }
    /// A fast path that lost its disk.
    void blank_fast_path() {
        disconnect();
        const std::uint64_t instance = fast.instance + 1;
        fast = {};
        fast.instance = instance;
        connect();
    }
    void reload(config::Config config) {
        auto actions = engine_->reload(config, now());
        REQUIRE_MESSAGE(actions.has_value(), (actions ? "" : actions.error().to_string()));
        config_ = std::move(config);
        perform(*actions);
        perform(engine_->on_next_hops(hops(), now()));
    }

    void run(nanoseconds duration) { run_until(time_ + duration); }
    void run_until(nanoseconds end) {
        while (true) {
            const nanoseconds next = std::min({next_event(), end});
            time_ = std::max(time_, next);
            if (next_event() > time_) return;
            step();
        }
    }
    /// Runs until the site's host-wide gate satisfies `predicate`; the time it took. Fails after `limit`.
    template <class Predicate>
    nanoseconds run_until_gate(const std::string& site, Predicate predicate, nanoseconds limit) {
        const nanoseconds start = time_;
        while (!predicate(gate(site))) {
            REQUIRE_MESSAGE(time_ - start < limit, site << ": the gate never came to what was expected");
            run(1ms);
        }
        return time_ - start;
    }

    /// Does what the shell does: switches and plan to the fast path, probes out, files to disk.
    void perform(const Actions& actions) {
        const bool asked = !actions.sites.empty() || !actions.backends.empty() || actions.plan != nullptr ||
                           actions.order.has_value();
        if (!connected_) CHECK_FALSE(asked);
        fast.take(actions);
        for (const Event& event : actions.events) events.push_back(event);
        if (actions.state) state_file = encode(*actions.state);
        if (actions.intents) intents_file = *actions.intents;
        for (const health::ProbeRequest& probe : actions.probes) launch(probe);
        wakeup_ = actions.next_wakeup;
        if (actions.order) make(*actions.order);
        if (actions.plan) perform(engine_->on_plan_applied(actions.plan->generation, now()));
    }

    void bfd(const std::string& site, std::size_t session, failover::BfdPath path) {
        const config::Site* described = config_.find_site(site);
        REQUIRE(described != nullptr);
        perform(engine_->on_bfd({described->key, described->bfd.at(session), path, "test"}, now()));
    }

    api::Result<void> drain(const std::string& target, std::chrono::milliseconds duration = 4h,
                            bool force = false, bool last_resort = false) {
        failover::DrainRequest request{target, duration, "test", "somebody", force, last_resort};
        return intend(request);
    }
    api::Result<void> undrain(const std::string& target) {
        return intend(failover::UndrainRequest{target, "somebody"});
    }
    api::Result<void> intend(const failover::IntentRequest& request) {
        auto prepared = engine_->prepare(request, now());
        if (!prepared) return tl::unexpected(prepared.error());
        intents_file = prepared->intents;
        perform(engine_->commit(now()));
        return {};
    }

    [[nodiscard]] app::SiteStatus site(const std::string& name) const {
        for (const app::SiteStatus& site : engine_->snapshot(now()).sites) {
            if (site.name == name) return site;
        }
        FAIL("no site " << name);
        return {};
    }
    [[nodiscard]] app::PoolStatus pool(const std::string& name) const {
        for (const app::PoolStatus& pool : engine_->snapshot(now()).pools) {
            if (pool.name == name) return pool;
        }
        FAIL("no pool " << name);
        return {};
    }
    [[nodiscard]] failover::Verdict verdict(const std::string& name) const { return site(name).verdict; }
    [[nodiscard]] Gate gate(const std::string& name) const { return fast.gate(site_id(name)); }
    [[nodiscard]] Gate gate(const std::string& name, const std::string& pool) const {
        for (const app::PoolStatus& status : engine_->snapshot(now()).pools) {
            if (status.name == pool) return fast.gate(site_id(name), status.id);
        }
        FAIL("no pool " << pool);
        return {};
    }
    [[nodiscard]] app::BackendFlags flags(const api::IpAddress& address) const {
        for (const app::BackendStatus& status : engine_->snapshot(now()).backends) {
            if (status.address == address) return fast.flags(status.id);
        }
        FAIL("no backend " << address.to_string());
        return {};
    }
    [[nodiscard]] int count(EventKind kind) const {
        return static_cast<int>(std::count_if(events.begin(), events.end(),
                                              [&](const Event& event) { return event.kind == kind; }));
    }
    [[nodiscard]] std::string log() const {
        std::string text;
        for (const Event& event : events) {
            text +=
                std::to_string(
                    std::chrono::duration_cast<std::chrono::milliseconds>(event.at.monotonic.value).count()) +
                " " + std::string(app::to_string(event.kind)) + " " + event.site + " " + event.pool + " " +
                event.backend + " " + event.from + ">" + event.to + " " + event.reason + "\n";
        }
        return text;
    }
    [[nodiscard]] plan::NextHops hops() const {
        plan::NextHops result;
        for (const config::Pool& pool : config_.pools) {
            for (const config::Backend& backend : pool.backends) {
                result[backend.address] = {
                    api::EgressPort{0}, {{2, 0, 0, 0, 0, 1}}, {{2, 0, 0, 0, 0, 2}}, 1500, true};
            }
        }
        return result;
    }

  private:
    void make(const plan::Order& order) {
        plan::Made made = plan::carry_out(order);
        if (making == 0ns)
            perform(engine_->on_plan_made(std::move(made), now()));
        else
            orders_.emplace(time_ + making, std::move(made));
    }

    struct Answer {
        std::uint64_t serial;
        health::Outcome outcome;
    };

    void make_engine() {
        app::StoredState state;
        app::StoredIntents intents;
        if (!state_file.empty()) state = app::decode_state(state_file).value();
        if (!intents_file.empty()) intents = app::decode_intents(intents_file).value();
        engine_.emplace(config_, state, intents, now());
        wakeup_ = health::kNever;
        next_signals_ = time_ + 100ms;
    }
    [[nodiscard]] api::SiteId site_id(const std::string& name) const { return site(name).id; }
    [[nodiscard]] nanoseconds next_event() const {
        nanoseconds next = std::min(wakeup_.value, next_signals_);
        if (!pending_.empty()) next = std::min(next, pending_.begin()->first);
        if (!orders_.empty()) next = std::min(next, orders_.begin()->first);
        return next;
    }
    template <class F>
    Actions timed(F call) {
        if (!measures) return call();
        const double start = thread_ms();
        Actions actions = call();
        last_call_ms = thread_ms() - start;
        spent_ms += last_call_ms;
        if (!actions.sites.empty()) switching_call_ms = last_call_ms;
        longest_call_ms = std::max(longest_call_ms, last_call_ms);
        return actions;
    }
    void step() {
        if (!pending_.empty() && pending_.begin()->first <= time_) {
            const Answer answer = pending_.begin()->second;
            pending_.erase(pending_.begin());
            perform(timed([&] { return engine_->on_probe(answer.serial, answer.outcome, now()); }));
        } else if (!orders_.empty() && orders_.begin()->first <= time_) {
            plan::Made made = std::move(orders_.begin()->second);
            orders_.erase(orders_.begin());
            perform(timed([&] { return engine_->on_plan_made(std::move(made), now()); }));
        } else if (next_signals_ <= time_) {
            next_signals_ = time_ + 100ms;
            if (connected_ && signals) {
                const app::Signals read = read_signals();
                perform(timed([&] { return engine_->on_signals(read, now()); }));
                reading_ms = std::max(reading_ms, last_call_ms);
            }
        } else {
            const Monotonic before = wakeup_;
            perform(timed([&] { return engine_->on_tick(now()); }));
            ++ticks_;
            // No busy loop: what is left to do at once is done in a call or two.
            repeats_ = wakeup_ == before && wakeup_.value <= time_ ? repeats_ + 1 : 0;
            CHECK(repeats_ < 4);
        }
    }
    app::Signals read_signals() {
        app::Signals result;
        if (!fast.plan) return result;
        for (const api::PlanSite& site : fast.plan->sites) {
            if (acks[site.name]) ++ack_counts_[site.name];
            result.sites.push_back({site.id, ack_counts_[site.name], {site.id, {}, 0, 0}});
        }
        for (const api::PlanPool& pool : fast.plan->pools) {
            counts_[pool.name] += offered[pool.name] / 10;
            bytes_[pool.name] += offered_gbps[pool.name] * 1e9 / 8 / 10;
            result.pools.push_back({pool.id, static_cast<std::uint64_t>(counts_[pool.name]),
                                    static_cast<std::uint64_t>(bytes_[pool.name])});
        }
        if (!clients.empty()) count_clients(result);
        result.acknowledged = result.scanned = fast.plan->generation;
        return result;
    }
    void count_clients(app::Signals& result) {
        const app::Snapshot seen = engine_->snapshot(now());
        std::map<std::string, api::SiteId> ids;
        for (const app::SiteStatus& site : seen.sites) ids.emplace(site.name, site.id);
        std::map<api::SiteId, std::pair<double, double>> sums;
        for (const app::BackendStatus& backend : seen.backends) {
            const api::SiteId id = ids.at(backend.site);
            const auto at = clients.find(backend.site);
            auto& [syns, handshakes] = handshakes_[backend.id];
            if (at != clients.end()) {
                // Of what the site's switch lets through.
                const double share = static_cast<double>(fast.gate(id).admit.value()) / 65535;
                syns += share * at->second.syns;
                handshakes += share * at->second.syns * at->second.complete;
            }
            result.backends.push_back(
                {backend.id, static_cast<std::uint64_t>(syns), static_cast<std::uint64_t>(handshakes)});
            sums[id].first += syns;
            sums[id].second += handshakes;
        }
        std::ranges::sort(result.backends, {}, &app::BackendSignal::backend);
        for (app::SiteSignal& site : result.sites) {
            const auto& [syns, handshakes] = sums[site.site];
            spread(syns, site.count.prefixes.syns);
            spread(handshakes, site.count.prefixes.completed);
        }
    }
    /// Over all client prefixes, one after the other.
    static void spread(double sum, std::array<std::uint32_t, api::kPrefixBuckets>& buckets) {
        const auto whole = static_cast<std::uint64_t>(sum);
        for (std::size_t i = 0; i < buckets.size(); ++i) {
            const bool more = i * 29 % buckets.size() < whole % buckets.size();
            buckets[i] = static_cast<std::uint32_t>(whole / buckets.size() + (more ? 1 : 0));
        }
    }
    void launch(const health::ProbeRequest& probe) {
        const auto found = behaviour.find(probe.address);
        Cause cause = found == behaviour.end() ? Cause::kOk : found->second;
        if (probe.health->path == "/primary") cause = ready_answer(probe.address, cause);
        const auto thought = thinks.find(probe.address);
        const nanoseconds wire = round_trip + nanoseconds(probe.serial * 7919 % 3'000'000) +
                                 (thought == thinks.end() ? 0ns : thought->second);
        const nanoseconds wait = cause == Cause::kTimeout ? nanoseconds(probe.health->timeout) : wire;
        pending_.emplace(time_ + wait, Answer{probe.serial, {cause, 0, cause == Cause::kOk ? wire : 0ns}});
    }

    [[nodiscard]] Cause ready_answer(const api::IpAddress& address, Cause health) const {
        for (const config::Pool& pool : config_.pools) {
            for (const config::Backend& backend : pool.backends) {
                if (backend.address != address) continue;
                if (health == Cause::kTimeout || mute.contains(backend.site)) return Cause::kTimeout;
                return primaries.contains(backend.site) ? Cause::kOk : Cause::kBadStatus;
            }
        }
        return Cause::kTimeout;
    }

    config::Config config_;
    nanoseconds time_;
    nanoseconds wall_offset_ = 1'700'000'000s;
    std::optional<Engine> engine_;
    std::multimap<nanoseconds, Answer> pending_;
    std::multimap<nanoseconds, plan::Made> orders_;
    std::map<std::string, std::uint64_t> ack_counts_;
    std::map<std::string, double> counts_, bytes_;
    std::map<api::BackendId, std::pair<double, double>> handshakes_;
    Monotonic wakeup_ = health::kNever;
    nanoseconds next_signals_{0};
    bool connected_ = false;
    int ticks_ = 0;
    int repeats_ = 0;
};

}  // namespace detour::test
