// The control process at work: the engine joined with probes, the fast path, the kernel's routes, disk and
// clock.
//
// Feeds the engine what comes in and carries out what it asks for, in its order. Decides nothing itself.
// Thread: the io_context's, all of it. What blocks (fsync, reading the configuration) or takes long (full
// plans, the state's text) runs on a pool of threads. Stopping changes nothing in the fast path. Owns all
// parts; `io` and `log` must outlive it.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "config/load.h"
#include "control/api/messages.h"
#include "control/app/activations.h"
#include "control/app/bfd_link.h"
#include "control/app/config_trial.h"
#include "control/app/durable_writer.h"
#include "control/app/engine.h"
#include "control/app/event_log.h"
#include "control/app/fast_path_figures.h"
#include "control/app/incident_files.h"
#include "control/health/prober.h"
#include "control/health/tunnel.h"
#include "control/publish/fast_path_client.h"
#include "control/publish/kernel_routes.h"

namespace detour::wire {
class Plan;
}  // namespace detour::wire

namespace detour::app {

/// Both clocks of this host.
[[nodiscard]] health::Now system_now();

struct ServiceOptions {
    std::string config_path;
    std::string version;
    std::function<health::Now()> now = system_now;
    DurableWriter::Write write;                              ///< default: write_durably()
    std::function<config::Loaded(const std::string&)> load;  ///< default: config::load(); called off the loop
    Documents config_text;       ///< of the configuration given; empty: it can't be brought back
    std::optional<Trial> trial;  ///< of load_for_start()
    /// Turned off by tests that have no network namespace: next hops are then fed by hand.
    enum class Routes : std::uint8_t { kKernel, kNone } routes = Routes::kKernel;
};

/// What became of an operator's intent.
struct IntentResult {
    Snapshot before;
    Snapshot after;
    std::vector<std::string> sites;
    std::vector<std::string> warnings;
    bool changed = true;                     ///< false: a merge that brought nothing new
    std::optional<std::uint64_t> switch_us;  ///< first store to the last worker
    std::optional<api::Error> not_switched;  ///< on disk, but the fast path has not acknowledged
};

struct ServiceCounters {
    std::uint64_t reloads = 0;
    std::uint64_t reloads_refused = 0;
    std::uint64_t plans = 0;
    std::uint64_t plans_refused = 0;
    health::WallTime started;
    health::WallTime config_loaded;
    std::optional<health::WallTime> config_refused;
    std::vector<std::string> mistakes;  ///< of the last file that was refused after `config_loaded`
    health::nanoseconds loop_lag{0};    ///< of the last 100 ms timer
    health::nanoseconds last_switch{0};
    health::Monotonic plan_sent;
    std::optional<health::nanoseconds>
        plan_lag;                ///< last publish to last acknowledgement; absent while one is missing
    std::optional<Trial> trial;  ///< of the configuration
    std::map<std::pair<std::string, std::string>, std::uint64_t> probes;  ///< by site and outcome
    std::map<std::string, std::uint64_t> switches;                        ///< by site, applied
    std::map<std::string, std::uint64_t> verdict_changes;                 ///< by site
};

class Service {
  public:
    Service(boost::asio::io_context& io, config::Config config, ServiceOptions options,
            control::EventLog& log);
    ~Service();
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    /// Reads the state, follows the kernel's routes, starts probing and looks for the fast path. Errors:
    /// kSystem when a folder can't be made or netlink is refused. A damaged state file is an alarm, not an
    /// error.
    [[nodiscard]] api::Result<void> start();
    /// No new work; what is being written to disk is finished. Nothing in the fast path changes.
    void stop();
    /// Called after events were appended to the log.
    void on_events(std::function<void()> notify) { notify_ = std::move(notify); }

    /// Returns when the intent is on disk and the fast path has acknowledged it or is known not to.
    [[nodiscard]] boost::asio::awaitable<api::Result<IntentResult>> intend(failover::IntentRequest request);
    /// Reads the configuration anew. A bad one is refused whole, and what runs goes on. With `confirm_within`
    /// the one before is back after that time, also over a restart, unless confirm_config() was called.
    [[nodiscard]] boost::asio::awaitable<control::Outcome<control::ReloadReply>> reload(
        std::optional<std::chrono::seconds> confirm_within = std::nullopt);
    [[nodiscard]] boost::asio::awaitable<control::Outcome<control::IntentReply>> confirm_config();
    /// What the configuration at `path` would move; empty: the one that reload() would read.
    [[nodiscard]] boost::asio::awaitable<control::Outcome<control::ConfigDiff>> diff_config(std::string path);

    [[nodiscard]] Snapshot snapshot() const { return engine_->snapshot(options_.now()); }
    [[nodiscard]] const config::Config& config() const { return engine_->config(); }
    [[nodiscard]] const FastPathFigures& figures() const { return figures_; }
    [[nodiscard]] const ServiceCounters& counters() const { return counters_; }
    [[nodiscard]] const ServiceOptions& options() const { return options_; }
    [[nodiscard]] const publish::NextHops& next_hops() const { return next_hops_; }
    [[nodiscard]] const health::Prober& prober() const { return prober_; }
    /// Null while no pool is probed through its tunnel.
    [[nodiscard]] const health::Tunnel* tunnel() const { return tunnel_.get(); }
    [[nodiscard]] const BfdLink& bfd() const { return bfd_; }
    [[nodiscard]] control::EventLog& log() { return log_; }
    [[nodiscard]] const IncidentBook& incidents() const { return incidents_; }
    [[nodiscard]] publish::FastPathClient& fast_path() { return *client_; }
    [[nodiscard]] boost::asio::io_context& io() { return io_; }
    /// Runs what takes long, or blocks, beside the loop. `work` stays the caller's: a named lambda without
    /// owned captures, since GCC 12 destroys those of a temporary in a co_await expression twice. What it
    /// reads may not change meanwhile.
    template <class F>
    [[nodiscard]] boost::asio::awaitable<std::invoke_result_t<F&>> beside(F& work) {
        const auto run = [&work]() -> boost::asio::awaitable<std::invoke_result_t<F&>> { co_return work(); };
        co_return co_await boost::asio::co_spawn(pool_, run, boost::asio::use_awaitable);
    }
    [[nodiscard]] bool switches_pending() const { return switches_pending_ > 0; }

    /// The kernel's routes changed. Public for tests without a kernel to follow.
    void on_next_hops(const publish::NextHops& next_hops);

  private:
    using Switched = std::function<void(const api::Result<std::uint64_t>& switch_us)>;

    [[nodiscard]] api::Result<void> load_state();
    void load_activations();
    [[nodiscard]] boost::asio::awaitable<api::Result<void>> write_intents(std::string content);
    [[nodiscard]] boost::asio::awaitable<api::Result<std::uint64_t>> commit_intent();
    [[nodiscard]] boost::asio::awaitable<void> lock();
    void unlock();

    void carry_out(Actions actions, Switched switched = {});
    void send_switches(const Actions& actions, Switched switched);
    /// switch_us; error kOutdated when the fast path refused one of them.
    api::Result<std::uint64_t> on_switched(const wire::SetReply& reply, const std::set<std::string>& sites,
                                           health::Monotonic asked);
    void send_limits(const std::vector<api::FlowLimit>& limits);
    void make_plan(plan::Order order);
    void on_plan_made(plan::Made made, wire::Plan& encoded);
    void send_plan(const api::ForwardingPlan& plan, wire::Plan& encoded);
    /// Who waits for the plan that is being made.
    void answer_planned(const api::Result<std::uint64_t>& switch_us);
    [[nodiscard]] boost::asio::awaitable<void> plan_made();
    void record(const std::vector<Event>& events);
    void note(EventKind kind, std::string reason);
    void append(control::Event event);
    void flush_events();
    void write_event(control::Event event);
    void watch_incidents();

    struct ReadConfig {
        config::Loaded loaded;
        Documents text;
    };
    [[nodiscard]] boost::asio::awaitable<ReadConfig> read_config(std::string path);
    [[nodiscard]] boost::asio::awaitable<std::vector<std::string>> changes_to(const config::Config& next);
    [[nodiscard]] control::ApiError refuse_config(const std::vector<config::Mistake>& mistakes);
    [[nodiscard]] boost::asio::awaitable<api::Result<void>> keep_for_trial(Trial trial);
    [[nodiscard]] boost::asio::awaitable<api::Result<void>> forget_trial(std::string folder);
    [[nodiscard]] boost::asio::awaitable<void> take_back();
    api::Result<void> put_in_force(config::Config config);
    void arm_trial();
    void arm(health::Monotonic at);
    void poll_figures();
    void watch_backends();
    [[nodiscard]] api::Result<void> prepare_tunnel(const config::Config& config);

    void on_up(const wire::HelloReply& hello, const wire::StateReply& state);
    void on_down(const api::Error& why);
    void on_probe(std::uint64_t serial, const health::Outcome& outcome);
    void resync_after(std::chrono::milliseconds delay);
    void adopt(const wire::StateReply& state);

    boost::asio::io_context& io_;
    ServiceOptions options_;
    control::EventLog& log_;
    config::Config first_config_;
    /// Three may wait for a slow disk: a configuration is read and compared nevertheless.
    boost::asio::thread_pool pool_{4};
    /// Of its own: a plan never waits for a disk, nor for a configuration on one that hangs.
    boost::asio::thread_pool planner_{1};
    std::unique_ptr<DurableWriter> state_writer_;
    std::unique_ptr<DurableWriter> intents_writer_;
    std::optional<Engine> engine_;
    std::unique_ptr<IncidentFiles> incident_files_;
    IncidentBook incidents_;
    FastPathFigures figures_;
    std::unique_ptr<DurableWriter> activations_writer_;
    std::unique_ptr<Activations> activations_;
    std::shared_ptr<health::Tunnel> tunnel_;  ///< while some pool is probed through it
    health::Prober prober_;
    BfdLink bfd_;
    std::unique_ptr<publish::FastPathClient> client_;
    std::unique_ptr<publish::KernelRoutes> routes_;
    boost::asio::steady_timer wakeup_;
    boost::asio::steady_timer poll_;
    boost::asio::steady_timer resync_;
    boost::asio::steady_timer trial_;
    boost::asio::steady_timer unlocked_;   ///< cancelled when the lock is free
    boost::asio::steady_timer plan_made_;  ///< cancelled when a plan was made
    std::function<void()> notify_;
    publish::NextHops next_hops_;
    std::map<std::uint64_t, std::string> probed_site_;  ///< by serial, of probes in flight
    std::unordered_map<api::BackendId, std::string> site_of_backend_;
    std::vector<Switched> planned_;  ///< answered when the plan that is being made is in force
    std::vector<control::Event> pending_events_;
    std::shared_ptr<int> alive_ =
        std::make_shared<int>(0);  ///< what was posted and runs later than this asks for it
    ServiceCounters counters_;
    health::Monotonic armed_ = health::kNever;
    std::uint64_t plans_made_ = 0;
    std::size_t switches_pending_ = 0;
    bool locked_ = false;  ///< an intent or a reload is under way
    bool resyncing_ = false;
    bool stats_asked_ = false;
    bool connected_ = false;
    bool stopped_ = false;
};

}  // namespace detour::app
