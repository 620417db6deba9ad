// What the process says to whoever started it. Needs no library: sd_notify(3) is one datagram.
#pragma once

#include <string_view>

namespace detour::app {

/// Sends `text` ("READY=1") to $NOTIFY_SOCKET; nothing happens when it is not set or nobody listens.
void notify_service_manager(std::string_view text);

/// Lets this process open as many descriptors as it may: each probe under way holds one.
void raise_descriptor_limit();

}  // namespace detour::app
