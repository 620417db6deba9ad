// Sums what workers and ports counted into the control channel's StatsReply.
//
// Any thread that is no worker: reads relaxed counters, so that a reply is no instant's exact picture, but no
// counter ever goes back.
#pragma once

#include <memory>
#include <span>

#include "dataplane/io/ethernet_port.h"
#include "dataplane/io/kernel_path.h"
#include "dataplane/io/worker.h"

namespace detour::wire {
class StatsReply;
}

namespace detour::io {

struct StatisticsOf {
    std::span<const std::unique_ptr<Worker>> workers;
    std::span<const EthernetPort> ports;
    const KernelPath& kernel;
};

/// Fills workers, ports, pools and backends. Rows that have counted nothing are left out, but for workers and
/// ports.
void collect_statistics(const StatisticsOf& of, wire::StatsReply& reply);

}  // namespace detour::io
