// UDP probes: one datagram from a socket of its own, and the answer to it; and the same with a DNS query.
//
// The socket is connected: the kernel drops what others send and tells when the port is closed. The caller
// owns it and its deadline: closing it ends the probe. Thread: the io_context's.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/udp.hpp>

#include "control/health/outcome.h"
#include "control/health/probe_path.h"

namespace detour::health {

[[nodiscard]] boost::asio::awaitable<Outcome> udp_probe(boost::asio::ip::udp::socket& socket,
                                                        const ProbeRequest& asked, ProbePath& path);

}  // namespace detour::health
