// The requests of one connection to the fast path: waiting, in flight, answered in order, each with a
// deadline.
//
// Pure: no socket and no clock of its own, so that every order of events can be tested. One thread.
// Switches overtake what waits. A request past its deadline is answered at once with kTimeout; if it was in
// flight its place is kept, since replies come in order, and its late reply is thrown away.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/api/result.h"

namespace detour::wire {
class Reply;
}

namespace detour::publish {

using SteadyTime = std::chrono::steady_clock::time_point;

enum class RequestKind : std::uint8_t { kGreeting, kSwitch, kPlan, kStats };

struct QueuedRequest {
    std::uint64_t id = 0;
    RequestKind kind = RequestKind::kStats;
    SteadyTime deadline;
    std::string frame;                                   ///< whole, with its length
    std::function<void(api::Result<wire::Reply>)> done;  ///< empty once it was answered by the deadline
};

/// An answer that is due. Collected and called by the owner, so that no callback runs inside the queue.
struct DueAnswer {
    std::function<void()> call;
};

class RequestQueue {
  public:
    explicit RequestQueue(std::size_t limit) : limit_(limit) {}

    /// Takes the request, or hands its refusal (kLimit) to `due`. A plan takes the place of a plan that
    /// waits, which is answered kOutdated.
    void push(QueuedRequest request, std::vector<DueAnswer>& due);
    /// The next frame to write; it counts as in flight from now on. nullopt: nothing may be sent now.
    [[nodiscard]] std::optional<std::string> next_frame();
    /// A reply came. Error kInvalidArgument: it is not the one that is due; the stream is lost.
    [[nodiscard]] api::Result<void> on_reply(wire::Reply reply, std::vector<DueAnswer>& due);
    /// Answers kTimeout to all that are past their deadline.
    void expire(SteadyTime now, std::vector<DueAnswer>& due);
    /// Answers `error` to everybody and forgets them.
    void fail_all(const api::Error& error, std::vector<DueAnswer>& due);

    /// The earliest deadline of a request that nobody answered yet.
    [[nodiscard]] std::optional<SteadyTime> next_deadline() const;
    [[nodiscard]] bool replies_due() const { return !in_flight_.empty(); }
    [[nodiscard]] std::size_t size() const { return switches_.size() + others_.size() + in_flight_.size(); }
    [[nodiscard]] std::uint64_t late_replies() const { return late_; }

  private:
    [[nodiscard]] bool plan_in_flight() const;

    std::size_t limit_;
    std::deque<QueuedRequest> switches_;
    std::deque<QueuedRequest> others_;
    std::deque<QueuedRequest> in_flight_;
    std::uint64_t late_ = 0;
};

}  // namespace detour::publish
