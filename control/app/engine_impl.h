// The engine's inside. Each public call: begin(), change state, finish(), which settles what follows and
// collects the actions. Private to control/app/engine*.cpp:
//   engine.cpp          inputs, adoption, plan, collecting actions
//   engine_probes.cpp   what to probe when, results, bursts
//   engine_activation.cpp which sites of a lower tier are needed
//   engine_tunnel.cpp   which VIP a tunnel probe goes to
//   engine_signals.cpp  what is heard beside probes: BFD, the fast path's counters
//   engine_verdicts.cpp sites and pools going dark and coming back, rails, fail static
//   engine_intents.cpp  drains
//   engine_shares.cpp   what bounds a pool in a site beside its own admission
//   engine_ready.cpp    asking whether a site's data is primary
//   engine_capacity.cpp offered flows, budgets, spill and limits
//   engine_overrides.cpp hold, weights, other PoPs' intents
//   engine_snapshot.cpp what the API shows
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/app/engine.h"
#include "control/app/fleet.h"
#include "control/app/switchboard.h"
#include "control/failover/rails.h"
#include "control/health/due_queue.h"

namespace detour::app {

/// In place of a rail: why a site stays.
inline constexpr const char* kOnHold = "automation is on hold";

class Engine::Impl {
  public:
    Impl(config::Config config, StoredState state, StoredIntents intents, Now now);

    Actions start(Now now);
    Actions adopt(const FastPathState& state, Now now);
    Actions on_disconnected(Now now);
    Actions on_plan_made(plan::Made made, Now now);
    Actions on_plan_applied(api::Generation generation, Now now);
    Actions on_plan_refused(api::Generation generation, const api::Error& error, Now now);
    Actions on_probe(std::uint64_t serial, const health::Outcome& outcome, Now now);
    Actions on_signals(const Signals& signals, Now now);
    Actions on_bfd(const BfdReport& report, Now now);
    Actions on_next_hops(const plan::NextHops& next_hops, Now now);
    Actions on_tick(Now now);
    api::Result<Actions> reload(config::Config config, Now now);
    api::Result<Prepared> prepare(const failover::IntentRequest& request, Now now);
    Actions commit(Now now);
    void abort() { pending_.reset(); }
    [[nodiscard]] bool plan_ordered() const { return order_under_way_; }
    [[nodiscard]] api::Generation generation() const { return generation_; }
    [[nodiscard]] std::unordered_map<api::BackendId, std::string> sites_of_backends() const;
    [[nodiscard]] Needs needs() const;
    [[nodiscard]] Snapshot snapshot(Now now) const;
    [[nodiscard]] const config::Config& config() const { return config_; }
    [[nodiscard]] const failover::Intents& intents() const { return intents_; }

  private:
    // engine.cpp
    void begin(Now now);
    enum class Deferring : std::uint8_t { kAllowed, kNo };
    /// `kNo`: with the plan, also when a site's switch leaves (the fast path has none yet).
    Actions finish(Deferring deferring = Deferring::kAllowed);
    void rebuild();
    void adopt_phases(const FastPathState& state);
    void adopt_targets(const FastPathState& state);
    [[nodiscard]] plan::NextHops with_resolved(plan::NextHops next_hops) const;
    void order_plan();
    void send(std::shared_ptr<api::ForwardingPlan> plan);
    void save_if_changed();
    [[nodiscard]] health::Monotonic next_wakeup() const;
    Event& event(EventKind kind, const std::string& reason);
    Event& event(EventKind kind, const SiteState& site, const std::string& reason);
    Event& event(EventKind kind, const Target& target, const std::string& reason);

    // engine_probes.cpp
    void schedule_all();
    void send_due();
    void send(Index index, health::Monotonic due);
    void forget_lost();
    [[nodiscard]] std::optional<health::ProbeTunnel> tunnel_of(const Target& target) const;
    [[nodiscard]] std::string told(const Target& target, const health::Outcome& outcome) const;
    [[nodiscard]] bool fast(const Target& target) const;
    void back_to_grid(Index index);
    void record(Target& target, const health::Outcome& outcome, health::Monotonic sent);
    void warn_of_certificate(Target& target, const health::Outcome& outcome);
    void on_changed(Index index, health::State before);
    void start_burst(SiteState& site, const std::string& reason);
    void check_burst(SiteState& site);
    void end_burst(SiteState& site);
    void ask_at_once(const SiteState& site);

    // engine_signals.cpp
    void read_acks(const Signals& signals);
    void read_handshakes(const Signals& signals);
    void judge_way_back(SiteState& site);
    void on_answer(SiteState& site);
    void lose_way_back(SiteState& site, const failover::Evidence& evidence);
    void watch_trickle(SiteState& site);
    void hold_trickle(SiteState& site);
    [[nodiscard]] bool answers_now(const SiteState& site) const;
    void update_bfd(SiteState& site);
    void tick_bfd(SiteState& site);
    [[nodiscard]] health::nanoseconds confirm_time(const SiteState& site) const;
    [[nodiscard]] health::nanoseconds round_trip(const SiteState& site) const;

    // engine_verdicts.cpp
    [[nodiscard]] failover::AdmissionRules rules(const SiteState& site) const;
    [[nodiscard]] failover::AdmissionRules part_rules() const;
    void judge(SiteState& site);
    void darken(SiteState& site, bool bad_answers);
    void refuse_dark(SiteState& site, const std::string& rail);
    [[nodiscard]] std::string rail_against(const SiteState& site) const;
    [[nodiscard]] bool all_look_dark() const;
    [[nodiscard]] health::nanoseconds static_window() const;
    void enter_static();
    void leave_static();
    void tick_admissions();
    void tick_strands();
    void settle();
    void judge_part(Index index);
    [[nodiscard]] bool may_go(const Part& part, Index index) const;
    void release_held();
    void check_pool(PoolState& pool);
    void mark(SiteState& site);
    void mark_part(Index index);
    void mark_target(Index index);
    void blame(SiteState& site) const;
    void update_verdict(SiteState& site);
    [[nodiscard]] failover::Verdict verdict_of(const SiteState& site, std::string& reason) const;
    void report_phase(SiteState& site);
    [[nodiscard]] bool switch_sites(bool pools_changed);
    void settle_pools(const std::set<Index>& settled);
    [[nodiscard]] bool switch_site(SiteState& site);
    void switch_gate(const Part& part);
    void switch_target(Target& target);
    [[nodiscard]] failover::Gate site_gate(const SiteState& site) const;
    [[nodiscard]] failover::Gate part_gate(const Part& part) const;
    [[nodiscard]] BackendFlags flags(const Target& target) const;
    [[nodiscard]] BackendFlags judged_flags(const Target& target) const;
    [[nodiscard]] bool frozen(const Target& target) const;

    void darken_neighbours(const SiteState& site);
    [[nodiscard]] bool waits_for_flaps(SiteState& site);
    [[nodiscard]] failover::FlapRules flap_rules() const;
    [[nodiscard]] std::uint32_t rise_of(const Target& target) const;

    // engine_shares.cpp
    void order_pools();
    void rebound(const std::set<Index>& pools);
    [[nodiscard]] bool rebound_pool(PoolState& pool);
    void bound_by_health(const PoolState& pool, Index index);
    void follow_others(PoolState& pool);
    void follow_writer(PoolState& pool);
    void report_writer(PoolState& pool, failover::WriterAlarm alarm);
    void adopt_writers();
    void adopt_spill(Part& part, const failover::Gate& in_force) const;
    [[nodiscard]] failover::Gate unbounded(const Part& part, failover::Gate in_force) const;

    // engine_ready.cpp
    void schedule_ready();
    void ask_ready();
    [[nodiscard]] bool on_ready(std::uint64_t serial, const health::Outcome& outcome);
    void forget_asked();

    // engine_activation.cpp
    /// What the parts of its pool in better tiers do.
    struct Better {
        bool any = false;
        bool takes = false;
    };
    [[nodiscard]] Better better_than(const Part& part) const;
    [[nodiscard]] bool stands_by(const SiteState& site) const;

    // engine_capacity.cpp
    [[nodiscard]] bool knows_capacity() const;
    void measure(const Signals& signals);
    [[nodiscard]] failover::Load budget_of(const SiteState& site) const;
    [[nodiscard]] failover::CapacityPool capacity_pool(const PoolState& pool) const;
    void reallocate();
    void reallocate_if_due(bool sites_changed);
    void spill(const PoolState& pool, const std::vector<double>& factors);
    void report_shed(PoolState& pool, double shed);
    void report_full(SiteState& site, bool full);
    void limit(api::SiteId site, double new_flows);
    void adopt_limits(const std::vector<api::FlowLimit>& limits);
    [[nodiscard]] bool sites_changed();

    // engine_intents.cpp
    struct Pending {
        failover::Intents intents;
        std::vector<std::string> released;  ///< site keys
        std::vector<Event> events;
    };
    struct Cover {
        api::Admit left = api::kAdmitAll;
        bool lets_go = false;
        [[nodiscard]] bool drained() const { return left == api::kAdmitNone; }
        void add(const failover::Drain& drain, health::WallTime now);
    };
    /// What a set of drains covers, by index.
    struct Coverage {
        std::vector<Cover> sites, parts, targets;
        std::vector<bool> last_resort;
    };
    api::Result<Prepared> prepare_one(const failover::DrainRequest& request);
    api::Result<Prepared> prepare_one(const failover::UndrainRequest& request);
    api::Result<Prepared> prepared(Pending pending, Prepared result, const std::string& by);
    [[nodiscard]] api::Result<void> check_drain(const failover::DrainRequest& request,
                                                const failover::Target& target) const;
    [[nodiscard]] Coverage coverage(const std::vector<failover::Drain>& drains) const;
    [[nodiscard]] std::vector<double> shed_under(const Coverage& drains) const;
    [[nodiscard]] std::vector<std::string> beyond_capacity(const Coverage& after) const;
    [[nodiscard]] bool takes_under(const Part& part, const Coverage& coverage) const;
    [[nodiscard]] double ramped(const Part& part) const;
    [[nodiscard]] std::vector<failover::RailSite> rail_sites(const PoolState& pool, const Coverage& now,
                                                             const Coverage& after) const;
    [[nodiscard]] std::vector<std::string> below_min_sites(const Coverage& after) const;
    [[nodiscard]] std::vector<Index> sites_of(const failover::Target& target) const;
    bool apply_cover(failover::Admission& admission, const Cover& cover,
                     const failover::AdmissionRules& rules, failover::DrainEnd end);
    void apply_drains(failover::DrainEnd end);
    void expire_drains();
    [[nodiscard]] bool may_expire(const failover::Drain& drain) const;
    void rename_pools_in_drains(const config::Config& next, const plan::Ids& next_ids);

    // engine_overrides.cpp
    [[nodiscard]] static std::string joined(const std::vector<std::string>& parts);
    [[nodiscard]] static api::Result<void> check_duration(std::chrono::milliseconds duration,
                                                          const char* doing);
    api::Result<Prepared> prepare_one(const failover::HoldRequest& request);
    api::Result<Prepared> prepare_one(const failover::ReleaseRequest& request);
    api::Result<Prepared> prepare_one(const failover::WeightRequest& request);
    api::Result<Prepared> prepare_one(const failover::MergeRequest& request);
    void report_changes(const failover::Intents& before, const failover::Intents& after,
                        const std::string& by, std::vector<Event>& events) const;
    void take_intents(failover::Intents intents, failover::DrainEnd end);
    void judge_all();
    bool drop_old_weights();
    void expire_overrides();
    [[nodiscard]] health::nanoseconds next_intent() const;
    [[nodiscard]] bool on_hold() const { return intents_.hold.has_value(); }

    struct SnapshotMaker;

    config::Config config_;                            ///< as on disk
    std::shared_ptr<const config::Config> effective_;  ///< with the weights that operators have set
    std::shared_ptr<const plan::Ids> ids_;
    api::Generation generation_;
    Fleet fleet_;
    Switchboard board_;
    Now now_;
    Actions out_;

    // Probing.
    struct InFlight {
        Index target = 0;
        health::Monotonic sent;
        std::uint32_t vip_turn = 0;
    };
    bool started_ = false;
    health::DueQueue due_;
    health::DueQueue strands_;  ///< targets that are down, by when their flows are let go
    std::map<std::uint64_t, InFlight> in_flight_;
    std::uint64_t serial_ = 0;
    std::uint64_t shed_ = 0;  ///< probes left out because the loop was late or answers did not come

    // Questions to single-writer pools.
    health::DueQueue ready_due_;
    std::map<std::uint64_t, InFlight> asked_;

    // Shares and capacity.
    std::vector<Index> pool_order_;         ///< pools before those that depend on them
    std::vector<config::SiteTier> tiers_;   ///< by site
    std::vector<api::Admit> allocated_to_;  ///< by site: what it admitted when room was last given out
    bool reallocate_soon_ = false;
    health::Monotonic allocated_at_;
    std::map<api::PoolId, PoolSignal> counted_;  ///< as last read
    health::Monotonic counted_at_;
    std::uint64_t counted_instance_ = 0;
    std::map<api::SiteId, api::FlowLimit> limits_;  ///< as the fast path was last told

    // Verdicts.
    bool fail_static_ = false;
    std::set<Index> busy_parts_;     ///< parts whose admission needs ticks
    std::set<Index> dirty_parts_;    ///< whose switches, and those of all their targets, may have to change
    std::set<Index> dirty_gates_;    ///< parts of which their own switch alone may have to
    std::set<Index> dirty_targets_;  ///< whose own switches may have to
    std::set<Index>
        deferred_pools_;   ///< settled but for their bounds: in the next call, which is due at once
    bool urgent_ = false;  ///< a site's switch leaves with this call: plan and state follow in the next one
    std::set<Index> dirty_pools_;  ///< whose parts may have to go dark or come back
    health::Monotonic signals_at_{health::nanoseconds::min()};
    failover::PassiveSignal passive_;
    std::unordered_map<api::BackendId, Index> by_id_;  ///< targets

    // Intents.
    failover::Intents intents_;
    std::optional<Pending> pending_;
    health::WallTime drains_applied_;

    // Plan.
    bool adopted_ = false;
    bool plan_wanted_ = false;
    bool order_under_way_ = false;
    bool order_outdated_ = false;  ///< what is being made is of ids or a fast path that went
    std::uint64_t order_number_ = 0;
    bool state_dirty_ = false;
    std::shared_ptr<const plan::NextHops> hops_;  ///< null: the shell has not reported yet
    plan::NextHops resolved_;  ///< the last resolved one of each address, also of an adopted plan
    std::shared_ptr<const api::ForwardingPlan> published_;
    std::shared_ptr<const api::ForwardingPlan> refused_;
    api::Generation applied_, acknowledged_, scanned_;
    std::uint64_t instance_ = 0;
};

}  // namespace detour::app
