// BFD on the network: a thread of its own, so that neither a plan under way nor a slow disk makes a session
// fall.
//
// Up to kMaxSessions sessions, IPv4 and IPv6. The thread reads what has arrived before it looks at the clock,
// so that a thread that ran late does not take packets that wait in the socket for silence. Each session
// sends from a port of its own in 49152 … 65535 with TTL 255. A session that is removed, and every session on
// destruction, sends one AdminDown, so that the peer does not take a restart for a failure.
//
// The receiving ports are bound when the first session of their kind and family is added, on all addresses:
// one BFD speaker a host. It runs in the network namespace of the thread that adds.
//
// Usage: wait until event_fd() is readable (any poll, or Asio's stream_descriptor), then take_events(). A
// session starts in Down without an event. `remote_state` tells a peer that was switched off by its operator
// (kAdminDown) from one that failed: the first is no reason to call a site dark (RFC 5882).
//
// Thread: every function from any thread; each returns within microseconds. Errors are values; what the
// network refuses to send is counted and is tried again at the next interval.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/health/bfd/session_table.h"

namespace detour::bfd {

struct SessionConfig {
    Hop hop = Hop::kSingle;
    api::IpAddress remote;
    std::optional<api::IpAddress> local;  ///< source address; empty: the kernel chooses by route
    std::string interface;                ///< empty: any; needed for IPv6 link-local addresses
    Ttl least_ttl;                        ///< multi hop only, see Path
    Intervals intervals;
};

struct SessionEvent {
    SessionId session;
    State state = State::kDown;
    Diagnostic diagnostic = Diagnostic::kNone;         ///< why, as we see it
    State remote_state = State::kDown;                 ///< as the peer last said
    Diagnostic remote_diagnostic = Diagnostic::kNone;  ///< why, as the peer last said
    Monotonic at;
};

struct SessionStatus {
    SessionEvent now;  ///< `at` is when it was asked
    microseconds transmit_interval{0};
    microseconds detection_time{0};
};

struct RunnerCounters {
    Counters packets;
    std::uint64_t sent = 0;
    std::uint64_t send_failed = 0;
    std::uint64_t events_lost = 0;  ///< the oldest ones, when more than 1024 waited; status() is always right
};

class Runner {
  public:
    /// Starts the thread. Error kSystem when the kernel gives no descriptors or thread.
    [[nodiscard]] static api::Result<std::unique_ptr<Runner>> create();
    ~Runner();
    Runner(const Runner&) = delete;
    Runner& operator=(const Runner&) = delete;

    /// Errors: those of SessionTable::add; kNotFound: no such interface; kUnavailable: another program holds
    /// the BFD port, or `local` is not an address of this host; kSystem.
    [[nodiscard]] api::Result<SessionId> add(const SessionConfig& config);
    /// Unknown ids are ignored, here and below.
    void remove(SessionId id);
    void disable(SessionId id);
    void enable(SessionId id);

    /// Readable while events wait. The runner's; do not close or read it.
    [[nodiscard]] int event_fd() const noexcept;
    /// In order of time. Those of a session that was removed meanwhile may be among them.
    [[nodiscard]] std::vector<SessionEvent> take_events();
    [[nodiscard]] std::optional<SessionStatus> status(SessionId id) const;
    [[nodiscard]] RunnerCounters counters() const;

  private:
    class Impl;
    explicit Runner(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace detour::bfd
