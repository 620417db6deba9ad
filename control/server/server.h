// The control process's HTTP/1.1 JSON API on a Unix stream socket, with its event stream and /metrics.
//
// Thread rule: everything runs on the executor given; Handlers are called there and must not block. Handlers
// must outlive the Server. Owns the socket file: made with mode 0660, a stale one is replaced, a live one is
// an error, and it is removed on stop. What a peer does (garbage, a huge body, a stall) costs at most its own
// connection: sizes, counts and times are bounded by Limits. The API itself: docs/api.md.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/api/messages.h"
#include "control/server/metrics.h"

namespace detour::control {

template <class T>
using Task = boost::asio::awaitable<Outcome<T>>;

/// What the server asks of the process. Replies are copies of what is true now.
class Handlers {
  public:
    virtual ~Handlers() = default;
    virtual Version version() = 0;
    virtual Status status() = 0;
    virtual std::vector<SiteStatus> sites() = 0;
    virtual std::vector<PoolStatus> pools() = 0;
    virtual std::vector<BackendStatus> backends() = 0;
    /// Events after `since`, oldest first; without `since` the newest `limit` (1 … kMaxEventPage).
    virtual EventPage events(std::optional<std::uint64_t> since, std::size_t limit) = 0;
    /// Newest first.
    virtual std::vector<IncidentSummary> incidents() = 0;
    virtual Outcome<Incident> incident(std::uint64_t number) = 0;
    virtual ConfigInfo config() = 0;
    virtual MetricsInput metrics() = 0;
    /// Done when the drain is on disk and the fast path has acknowledged it or is known to be away.
    virtual Task<DrainReply> drain(DrainRequest request) = 0;
    virtual Task<UndrainReply> undrain(UndrainRequest request) = 0;
    virtual Task<IntentReply> hold(HoldRequest request) = 0;
    virtual Task<IntentReply> release(ReleaseRequest request) = 0;
    virtual Task<IntentReply> weight(WeightRequest request) = 0;
    virtual Task<ReloadReply> reload(ReloadRequest request) = 0;
    virtual Task<IntentReply> confirm_config() = 0;
    virtual Task<ConfigDiff> diff_config(ConfigDiffRequest request) = 0;
    /// One placement per flow, in order. Called with at most 2048 flows at a time, the loop runs in between.
    virtual Task<std::vector<FlowPlacement>> trace(std::span<const FlowQuery> flows) = 0;
    /// What the fast path's own stages would do with one packet.
    virtual Task<PacketTrace> trace_packet(PacketTraceRequest request) = 0;
    /// Starts a capture; its page is empty.
    virtual Task<CapturePage> capture(CaptureRequest request) = 0;
    virtual Task<CapturePage> read_capture(CaptureReadRequest request) = 0;
    virtual Task<PlanFailReply> plan_fail(std::string domain) = 0;
};

struct Limits {
    std::size_t connections = 64;               ///< one more is answered 503 and closed
    std::size_t body_bytes = 64U << 10U;        ///< of a request
    std::size_t trace_body_bytes = 32U << 20U;  ///< of POST /v1/trace
    std::size_t header_bytes = 8U << 10U;
    std::chrono::milliseconds request{10'000};   ///< a request read whole, a reply written whole
    std::chrono::milliseconds handler{30'000};   ///< a handler's answer
    std::chrono::milliseconds idle{60'000};      ///< between requests of one connection
    std::chrono::milliseconds heartbeat{5'000};  ///< an empty line in an event stream without events
};

class Server {
  public:
    Server(boost::asio::any_io_executor executor, std::string socket_path, Handlers& handlers,
           Limits limits = {});
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// Binds and accepts. Errors: kUnavailable when another process answers on the socket, kSystem with the
    /// path.
    [[nodiscard]] api::Result<void> start();
    /// Call after events were appended: streams send them.
    void notify_events();
    /// No new connection or request; requests being handled finish, streams end. Returns when all connections
    /// are closed, at the latest after `Limits::handler`. Call before destruction.
    boost::asio::awaitable<void> stop();

  private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace detour::control
