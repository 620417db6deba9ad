// The pipeline: what happens to a burst between receive and transmit.
//
// parse -> classify -> lookup -> select -> encapsulate -> account, each one loop over the batch in a file of
// its own. A worker calls run() with its own WorkerState, the published tables and the host's switches;
// nothing else is shared. noexcept, no allocation, no lock, no syscall, no log.
#pragma once

#include <span>

#include "dataplane/core/batch.h"
#include "dataplane/core/host_state.h"
#include "dataplane/core/tables.h"
#include "dataplane/stages/worker_state.h"

namespace detour::stages {

struct Context {
    const core::ForwardingTables& tables;
    const core::HostState& host;
    WorkerState& worker;
};

/// Every packet leaves with a verdict other than kPending and a counted reason.
/// `worker.set_time()` must have been called for this burst.
void run(core::Batch& batch, const Context& context) noexcept;

using Stage = void (*)(core::Batch&, const Context&) noexcept;
struct NamedStage {
    const char* name;
    Stage run;
};
/// In the order in which run() calls them, for who wants to look between two: `worker.use(tables)` comes
/// first.
[[nodiscard]] std::span<const NamedStage> pipeline() noexcept;

}  // namespace detour::stages
