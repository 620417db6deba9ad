// Which way a probe's socket takes: straight to the backend, or to the VIP through the backend's tunnel.
//
// One for each probe under way; owns the tunnel's lease, which must live until the socket is closed. Thread:
// the io_context's.
#pragma once

#include <boost/system/error_code.hpp>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <utility>

#include "control/health/outcome.h"
#include "control/health/tunnel.h"

namespace detour::health {

/// The address that the probe's socket connects to.
[[nodiscard]] inline const api::IpAddress& destination(const ProbeRequest& asked) {
    return asked.tunnel ? asked.tunnel->vip : asked.address;
}

class ProbePath {
  public:
    /// `tunnel` may be null: then a probe that needs it is not sent.
    explicit ProbePath(std::shared_ptr<Tunnel> tunnel) : tunnel_(std::move(tunnel)) {}

    /// For an open socket that is not connected yet; `identifier` as in Tunnel::prepare().
    [[nodiscard]] boost::system::error_code prepare(int socket, const ProbeRequest& asked,
                                                    std::uint16_t identifier = 0) {
        if (!asked.tunnel) return {};
        if (tunnel_ == nullptr) return {ENODEV, boost::system::system_category()};
        return tunnel_->prepare(socket, asked, lease_, identifier);
    }

  private:
    std::shared_ptr<Tunnel> tunnel_;
    Tunnel::Lease lease_;
};

}  // namespace detour::health
