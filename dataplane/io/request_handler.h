// Answers the control channel's requests: what is checked, in which order, before the fast path is touched.
//
// A plan counts only if its generation is above the one in force, it is not empty, its ports exist and it was
// computed from the switches' last verdicts; then tables are built beside and published. A switch is two
// stores. Both are remembered for the disk afterwards. Threads: overtakes() says which requests may be
// handled while another one is in handle() on a second thread; of the others, one at a time. The payload
// functions may be called by any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dataplane/io/fast_path.h"
#include "dataplane/io/introspection.h"
#include "dataplane/io/switch_book.h"

namespace detour::wire {
class ApplyPlan;
class Reply;
class Request;
class SetSwitches;
class StateReply;
}  // namespace detour::wire

namespace detour::io {

/// Called after a change is in force, to have it written; must not block.
struct StateMarks {
    std::function<void()> plan;
    std::function<void()> switches;
};

/// What a state file held.
struct RestoredState {
    std::optional<api::ForwardingPlan> plan;
    SwitchSet switches;
};
/// Reads plan_payload() or switches_payload() back. Error kInvalidArgument.
[[nodiscard]] api::Result<RestoredState> read_state(const std::string& payload);

class RequestHandler {
  public:
    /// `fast_path` outlives the handler. `marks` may be set later, before the first request.
    explicit RequestHandler(FastPath& fast_path);
    void set_marks(StateMarks marks) { marks_ = std::move(marks); }

    /// Start-up only: the switches first, then the plan, which need not be newer than anything.
    [[nodiscard]] api::Result<void> restore(const RestoredState& switches, const RestoredState& plan);

    /// A switch or a question for numbers: never waits behind a plan that is being built.
    [[nodiscard]] static bool overtakes(const wire::Request& request);
    /// Never fails: a refusal is a reply too.
    void handle(const wire::Request& request, wire::Reply& reply);

    /// What belongs on disk.
    [[nodiscard]] std::string plan_payload() const;
    [[nodiscard]] std::string switches_payload() const;

  private:
    void hello(wire::Reply& reply) const;
    void stats(wire::Reply& reply);
    void state(wire::Reply& reply) const;
    [[nodiscard]] api::Result<void> apply(const wire::ApplyPlan& request, wire::Reply& reply);
    [[nodiscard]] api::Result<void> set(const wire::SetSwitches& request, wire::Reply& reply);
    [[nodiscard]] api::Result<void> check_current(const api::ForwardingPlan& plan) const;
    [[nodiscard]] api::Result<void> check_ports(const api::ForwardingPlan& plan) const;
    void remember(const api::ForwardingPlan& plan);

    FastPath& fast_path_;
    SwitchBook book_;
    Introspection introspection_;
    StateMarks marks_;
    const std::uint64_t instance_;
    bool restored_ = false;
    std::atomic<std::uint64_t> generation_{0};
    std::atomic<std::uint64_t> rebuilds_{0};
    mutable std::mutex mutex_;
    std::shared_ptr<const std::string> plan_bytes_;  // guarded by mutex_; a StateReply with the plan alone
    // Kept between requests, so that a switch allocates nothing once they have grown.
    SwitchSet switches_;
    std::vector<SwitchOutcome> outcomes_;
};

}  // namespace detour::io
