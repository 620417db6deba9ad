// How many queues an interface spreads its packets over, and whether AF_XDP can take them all.
//
// The steering program sends a packet to the socket of the queue that it came by; a queue without a socket
// would lose its VIP packets. So every queue must be opened, and this says how many there are. A system call;
// start-up only.
#pragma once

#include <string>

#include "dataplane/api/result.h"

namespace detour::io {

/// 1 or more. Error kNotFound: no such interface. Error kRefused: it has several receive queues that are not
/// combined with transmit queues, of which DPDK's AF_XDP driver opens the first alone; the text says how to
/// change that.
[[nodiscard]] api::Result<unsigned> interface_queues(const std::string& name);

}  // namespace detour::io
