// The control process without sockets, clock or threads: inputs in, actions out.
//
// It joins probe results, the fast path's signals, operators' intents and the configuration, and says what to
// switch, to publish, to probe and to remember. The same inputs at the same times give the same actions. Not
// thread safe: one loop owns it. It holds copies of all it is given.
//
// Rules that hold whatever comes in:
//   - The fast path is compared with what it should be: each call returns only the difference. Sequences and
//   generations
//     only grow, also beyond those of a fast path that was adopted.
//   - adopt() of a fast path that runs on the same configuration changes nothing.
//   - Nothing is asked of the fast path while none is connected; the next adopt() catches up.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "config/model.h"
#include "control/app/actions.h"
#include "control/app/snapshot.h"
#include "control/app/state_store.h"
#include "control/failover/bfd_watch.h"
#include "control/failover/intents.h"
#include "control/failover/passive.h"
#include "control/plan/plan.h"
#include "dataplane/api/result.h"

namespace detour::app {

using health::Now;

/// What HelloReply and StateReply of a fast path say.
struct FastPathState {
    std::uint64_t instance = 0;
    api::Generation generation;  ///< 0: no plan
    std::optional<api::ForwardingPlan> plan;
    std::vector<api::SiteSwitch> sites;
    std::vector<api::BackendSwitch> backends;
    std::vector<api::FlowLimit> limits;
};

/// From StatsReply, summed over workers.
struct SiteSignal {
    api::SiteId site;
    std::uint64_t ack_advanced = 0;  ///< since the fast path's start
    failover::SiteCount count;
};
/// Since the fast path's start.
struct BackendSignal {
    api::BackendId backend;
    std::uint64_t syns = 0;
    std::uint64_t handshakes = 0;
};
/// What a pool offered, counted since the fast path's start.
struct PoolSignal {
    api::PoolId pool;
    std::uint64_t new_flows = 0;  ///< also those that were refused for a limit
    std::uint64_t bytes = 0;      ///< client to site
};
struct Signals {
    std::vector<SiteSignal> sites;
    std::vector<PoolSignal> pools;
    std::vector<BackendSignal> backends;  ///< ascending by id
    api::Generation acknowledged;         ///< lowest of all workers
    api::Generation scanned;              ///< lowest of all workers
};

/// A BFD session of a site changed.
struct BfdReport {
    std::string site;  ///< key
    config::BfdPeer peer;
    failover::BfdPath path = failover::BfdPath::kUnknown;
    std::string why;  ///< its diagnostic, e.g. "detection-time-expired"
};

/// The sites with an activation that are wanted now, by name.
struct Needs {
    std::vector<std::string> sites;
    bool fail_static = false;  ///< every site looks dark: it may be this host that is cut off
};

class Engine {
  public:
    Engine(config::Config config, StoredState state, StoredIntents intents, Now now);
    Engine(Engine&&) noexcept;
    Engine& operator=(Engine&&) noexcept;
    ~Engine();

    /// Once after construction; starts probing. Nothing is switched.
    [[nodiscard]] Actions start(Now now);
    /// A fast path was connected (hello and state read). Also after each refusal.
    [[nodiscard]] Actions adopt(const FastPathState& state, Now now);
    /// The channel to the fast path is gone.
    [[nodiscard]] Actions on_disconnected(Now now);
    /// Of the order under way; any other is ignored. What is ordered meanwhile waits for it.
    [[nodiscard]] Actions on_plan_made(plan::Made made, Now now);
    [[nodiscard]] Actions on_plan_applied(api::Generation generation, Now now);
    /// The content is not sent again before it changes or a fast path is adopted.
    [[nodiscard]] Actions on_plan_refused(api::Generation generation, const api::Error& error, Now now);

    /// Result of one ProbeRequest. Unknown serials are ignored.
    [[nodiscard]] Actions on_probe(std::uint64_t serial, const health::Outcome& outcome, Now now);
    /// Every 100 ms while connected.
    [[nodiscard]] Actions on_signals(const Signals& signals, Now now);
    /// Of sessions that the configuration does not have: ignored. Each starts unknown.
    [[nodiscard]] Actions on_bfd(const BfdReport& report, Now now);
    /// The whole picture, each time it changes; no plan is made before the first. An unresolved next hop
    /// never replaces one that was resolved on the same port.
    [[nodiscard]] Actions on_next_hops(const plan::NextHops& next_hops, Now now);
    [[nodiscard]] Actions on_tick(Now now);
    /// A new valid configuration. Error kLimit when ids run out; then nothing changed.
    [[nodiscard]] api::Result<Actions> reload(config::Config config, Now now);

    /// An operator's intent, in two steps, so that it is on disk before it is acknowledged or acted on:
    /// prepare, write `intents` durably, then commit() (or abort() when the disk failed). One at a time.
    struct Prepared {
        std::string intents;             ///< new content of the intents file
        std::vector<std::string> sites;  ///< names of the sites concerned
        std::vector<std::string>
            warnings;         ///< rails that were overridden; of a merge: what was left out, why
        bool changed = true;  ///< false: a merge that brought nothing new; abort() is enough
    };
    /// Errors: kNotFound and kInvalidArgument for the request, kRefused by a rail (says which and what
    /// overrides it), kLimit, kUnavailable while another intent is under way. A second intent for the same
    /// thing replaces the first. An undrain also releases a held (recovering) site; kNotFound when the target
    /// is neither drained nor held.
    [[nodiscard]] api::Result<Prepared> prepare(const failover::IntentRequest& request, Now now);
    [[nodiscard]] Actions commit(Now now);
    void abort();

    /// A plan is being made.
    [[nodiscard]] bool plan_ordered() const;
    /// Of the last plan sent.
    [[nodiscard]] api::Generation generation() const;
    /// Name of each backend's site.
    [[nodiscard]] std::unordered_map<api::BackendId, std::string> sites_of_backends() const;
    [[nodiscard]] Needs needs() const;
    [[nodiscard]] Snapshot snapshot(Now now) const;
    /// As on disk: without the weights that operators have set.
    [[nodiscard]] const config::Config& config() const;
    /// In force, all.
    [[nodiscard]] const failover::Intents& intents() const;

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace detour::app
