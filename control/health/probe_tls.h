// TLS probes: the handshake, the certificate, and over it the HTTP exchange.
//
// The connection is closed by the caller, by reset: no TLS farewell is sent. Thread: the io_context's.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>

#include "config/model.h"
#include "control/health/outcome.h"

namespace detour::health {

/// The authorities that certificates are checked against, read once for each `ca_file` and again when the
/// file changes.
class TlsContexts {
  public:
    TlsContexts();
    ~TlsContexts();
    TlsContexts(const TlsContexts&) = delete;
    TlsContexts& operator=(const TlsContexts&) = delete;

    struct Context;
    /// Null when the file can't be read: our own trouble, no backend's.
    [[nodiscard]] std::shared_ptr<Context> find(const config::Health& health);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Over a connected socket. `contexts` must outlive the probe.
[[nodiscard]] boost::asio::awaitable<Outcome> tls_probe(boost::asio::ip::tcp::socket& socket,
                                                        const ProbeRequest& asked, TlsContexts& contexts);

}  // namespace detour::health
