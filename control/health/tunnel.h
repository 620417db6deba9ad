// Probes through the tunnel: kernel sockets whose packets leave encapsulated, as the fast path's do.
//
// A socket is prepared before it connects: it gets the mark that routes its packets into the TUN device, a
// source address and port, and a lease that says which backend's tunnel that port stands for (every backend
// of a pool serves the same VIP, so nothing else in the packet tells). The packets are read from the device,
// encapsulated by dataplane/core, and sent by a raw socket along the kernel's own routes. Answers come
// straight from the backend, from the VIP to the socket's address, and reach the socket as any packet does.
//
// Thread: the io_context's. Leases may outlive the Tunnel; their packets then go nowhere. A lease that ended
// still carries what its socket sent last (the reset that closes it) for some seconds.
#pragma once

#include <boost/system/error_code.hpp>
#include <cstdint>
#include <memory>
#include <optional>

#include "config/model.h"
#include "control/health/outcome.h"
#include "dataplane/api/result.h"

namespace boost::asio {
class io_context;
}

namespace detour::health {

/// Whether some pool of it is probed through its tunnel.
[[nodiscard]] bool wants_tunnel(const config::Config& config);

struct TunnelCounters {
    std::uint64_t sent = 0;     ///< packets into tunnels
    std::uint64_t refused = 0;  ///< the kernel would not send it: no route, no buffer
    std::uint64_t too_big = 0;  ///< larger than the tunnel carries
    std::uint64_t unknown = 0;  ///< in the device, but of no probe
    bool operator==(const TunnelCounters&) const = default;
};

class Tunnel {
  public:
    class State;

    /// Holds a port for one probe.
    class Lease {
      public:
        Lease() = default;
        Lease(Lease&& other) noexcept;
        Lease& operator=(Lease&& other) noexcept;
        ~Lease();

      private:
        friend class State;
        std::weak_ptr<State> state_;
        std::uint32_t key_ = 0;
        std::uint64_t serial_ = 0;
    };

    /// Makes the device and opens the raw sockets. Errors: kSystem, with what and the kernel's reason;
    /// kInvalidArgument when this host has no address that answers could come to.
    [[nodiscard]] static api::Result<std::unique_ptr<Tunnel>> open(boost::asio::io_context& io,
                                                                   const config::Config& config);
    ~Tunnel();
    Tunnel(const Tunnel&) = delete;
    Tunnel& operator=(const Tunnel&) = delete;

    /// A configuration that is loaded while the tunnel stands. Error kInvalidArgument as open().
    [[nodiscard]] api::Result<void> use(const config::Config& config);

    /// `socket` is open and not connected; `protocol` its IP protocol. An error is this host's own trouble.
    /// `port` for a raw echo socket, which has no port of its own: the identifier it will use; else 0.
    [[nodiscard]] boost::system::error_code prepare(int socket, const ProbeRequest& asked, Lease& lease,
                                                    std::uint16_t identifier = 0);
    [[nodiscard]] const TunnelCounters& counters() const;

  private:
    explicit Tunnel(std::shared_ptr<State> state) : state_(std::move(state)) {}
    std::shared_ptr<State> state_;
};

}  // namespace detour::health
