// `detour-decap run`: attach, say so, follow the host's addresses, detach when told to stop.
//
// Blocks the calling thread; SIGTERM and SIGINT end it.
#pragma once

#include "dataplane/api/result.h"
#include "tools/decap/settings.h"

namespace detour::decap {

/// Prints "ready" on stdout once everything is attached. Errors of Attachment::open and AddressWatch.
[[nodiscard]] Result<void> run(const Settings& settings);

}  // namespace detour::decap
