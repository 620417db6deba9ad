// Sends probes and reports what came of each: TCP connects, TLS handshakes, HTTP and HTTPS requests,
// datagrams, over IPv4 and IPv6.
//
// Every probe ends in exactly one outcome, at the latest at its timeout. Connections are closed by reset, so
// that no TIME_WAIT piles up on either side. Overload sheds probes, never verdicts: what is beyond
// `max_in_flight`, or could not be sent for want of descriptors, ports or memory, is kNotSent; so is a probe
// whose deadline the loop noticed late by more than half its timeout. Whenever the loop was late, what came
// meanwhile is looked at before a probe counts as missed.
//
// Thread: the io_context's. `done` is never called from inside send(), and not after stop() or destruction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "control/health/outcome.h"

namespace boost::asio {
class io_context;
}

namespace detour::health {

struct ProberOptions {
    std::size_t max_in_flight = 4096;
};

class Tunnel;

class Prober {
  public:
    using Done = std::function<void(std::uint64_t serial, const Outcome&)>;

    Prober(boost::asio::io_context& io, ProberOptions options, Done done);
    ~Prober();
    Prober(const Prober&) = delete;
    Prober& operator=(const Prober&) = delete;

    void send(const ProbeRequest& request);
    /// For probes through the tunnel, from now on; null: they are not sent.
    void use(std::shared_ptr<Tunnel> tunnel);
    /// Drops the probes in flight without a report.
    void stop();

    [[nodiscard]] std::size_t in_flight() const;
    [[nodiscard]] std::uint64_t shed() const;  ///< kNotSent so far, for whatever reason

  private:
    class Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace detour::health
