// Tells the service manager that the fast path forwards (sd_notify(3), by hand: one datagram).
#pragma once

#include <string_view>

namespace detour::io {

/// Sends `text` ("READY=1") to $NOTIFY_SOCKET; nothing happens when it is not set or nobody listens.
void notify_service_manager(std::string_view text);

}  // namespace detour::io
