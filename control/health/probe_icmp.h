// ICMP and ICMPv6 echo probes, through a ping socket, or a raw one where net.ipv4.ping_group_range forbids
// it.
//
// The caller owns the descriptor and its deadline: closing it ends the probe. Thread: the io_context's.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "control/health/outcome.h"
#include "control/health/probe_path.h"

namespace detour::health {

[[nodiscard]] boost::asio::awaitable<Outcome> icmp_probe(boost::asio::posix::stream_descriptor& descriptor,
                                                         const ProbeRequest& asked, ProbePath& path);

}  // namespace detour::health
