// What the fast path shows of itself on request: a capture, a trace.
//
// Workers know one thing of it, the pointer to the session (FastPath::capture()); the rest is the control
// channel's. A capture that nobody reads for kPatience ends: workers look at its deadline, and expire() or
// the next request takes its memory back, once every worker has passed. trace() by the thread that publishes
// tables; the other calls by any thread that is no worker.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <vector>

#include "dataplane/api/result.h"
#include "dataplane/io/fast_path.h"
#include "dataplane/stages/capture.h"
#include "dataplane/stages/trace.h"

namespace detour::wire {
class CaptureReply;
class ReadCapture;
class StartCapture;
class Trace;
class TraceReply;
}  // namespace detour::wire

namespace detour::io {

class Introspection {
  public:
    static constexpr std::chrono::seconds kPatience{3};

    /// The workers' clock, ns.
    using Clock = std::uint64_t (*)();
    [[nodiscard]] static std::uint64_t monotonic_ns();

    /// `fast_path` outlives it.
    explicit Introspection(FastPath& fast_path, Clock now = monotonic_ns)
        : fast_path_(fast_path), now_(now) {}
    /// A capture under way ends; its memory is kept for good where a worker may still use it.
    ~Introspection();
    Introspection(const Introspection&) = delete;
    Introspection& operator=(const Introspection&) = delete;

    /// Errors: kInvalidArgument, no packet, or longer than one can be; kLimit without memory.
    [[nodiscard]] api::Result<void> trace(const wire::Trace& request, wire::TraceReply& reply);
    /// Errors: kRefused while another capture is under way, kInvalidArgument, kLimit without memory.
    [[nodiscard]] api::Result<void> start(const wire::StartCapture& request, wire::CaptureReply& reply);
    /// Error kNotFound: it has ended.
    [[nodiscard]] api::Result<void> read(const wire::ReadCapture& request, wire::CaptureReply& reply);
    /// Ends a capture whose reader has gone.
    void expire();

  private:
    void end();
    [[nodiscard]] std::uint64_t deadline() const;

    FastPath& fast_path_;
    const Clock now_;
    std::unique_ptr<stages::Tracer> tracer_;
    std::mutex mutex_;
    std::unique_ptr<stages::CaptureSession> session_;  // guarded by mutex_
    std::vector<std::unique_ptr<stages::CaptureSession>>
        lingering_;              // guarded by mutex_: a worker may use them
    std::uint64_t last_id_ = 0;  // guarded by mutex_
};

}  // namespace detour::io
