// The control process's end of the fast path's control channel: a Unix socket, protobuf messages in frames.
//
// Connects, introduces itself (Hello), reads what the fast path runs on (GetState), and then carries
// requests. When the connection is lost it comes back by itself, with a capped back-off and jitter; what was
// waiting is answered with kUnavailable, because the next on_up() tells the caller what really came into
// force.
//
// Order: a switch overtakes every plan and stats request that is not yet on the wire; switches keep their
// order. Bounds: `max_queue` requests wait or are in flight; one plan waits at most, a newer one takes its
// place. Thread: everything on the io_context's thread. No answer is called from inside the call that asked.
// Ownership: the callbacks are dropped by stop() and by the destructor; none is called after that.
//
// Errors of an answer: kUnavailable (no connection, or it was lost before the reply), kTimeout (the deadline
// passed; the request may still come into force), kLimit (the queue is full), kOutdated (a newer plan took
// the place), kInvalidArgument (the other side broke the protocol), else what the fast path answered.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/api/plan.h"
#include "dataplane/api/result.h"

namespace boost::asio {
class io_context;
}
namespace detour::wire {
class ApplyReply;
class CaptureReply;
class HelloReply;
class Plan;
class ReadCapture;
class SetReply;
class StartCapture;
class StateReply;
class StatsReply;
class TraceReply;
}  // namespace detour::wire

namespace detour::publish {

struct FastPathOptions {
    std::string socket;                                ///< path of the fast path's Unix socket
    std::string version;                               ///< said in Hello
    std::chrono::milliseconds request_timeout{2'000};  ///< all but plans; counted from the call
    std::chrono::milliseconds plan_timeout{30'000};
    std::chrono::milliseconds silence_timeout{10'000};  ///< nothing heard while replies are due: reconnect
    std::chrono::milliseconds backoff_first{20};
    std::chrono::milliseconds backoff_cap{1'000};
    std::size_t max_queue = 256;    ///< requests waiting or in flight
    std::uint64_t jitter_seed = 1;  ///< randomness of the back-off
};

struct FastPathEvents {
    /// Connected, greeted and the state read. Requests are taken from now on.
    std::function<void(const wire::HelloReply&, const wire::StateReply&)> on_up;
    /// Connection lost or refused, and why. Called for each failed attempt too.
    std::function<void(const api::Error&)> on_down;
};

template <class T>
using Answer = std::function<void(api::Result<T>)>;

class FastPathClient {
  public:
    FastPathClient(boost::asio::io_context& io, FastPathOptions options, FastPathEvents events);
    ~FastPathClient();
    FastPathClient(const FastPathClient&) = delete;
    FastPathClient& operator=(const FastPathClient&) = delete;

    void start();
    /// Closes the connection. Changes nothing in the fast path.
    void stop();
    [[nodiscard]] bool up() const;

    void apply_plan(wire::Plan&& plan, Answer<wire::ApplyReply> answer);
    void set_switches(const std::vector<api::SiteSwitch>& sites,
                      const std::vector<api::BackendSwitch>& backends, Answer<wire::SetReply> answer);
    /// As switches; answered in the reply's `limits`.
    void set_limits(const std::vector<api::FlowLimit>& limits, Answer<wire::SetReply> answer);
    void get_stats(Answer<wire::StatsReply> answer);
    void trace(std::string packet, Answer<wire::TraceReply> answer);
    void start_capture(const wire::StartCapture& capture, Answer<wire::CaptureReply> answer);
    void read_capture(const wire::ReadCapture& capture, Answer<wire::CaptureReply> answer);
    /// What the fast path runs on now, as on_up() told it then.
    void get_state(Answer<wire::StateReply> answer);

    /// Replies that came after their deadline and were thrown away.
    [[nodiscard]] std::uint64_t late_replies() const;

  private:
    class Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace detour::publish
