// An engine's event as the timeline keeps it: a sentence for people, and figures. Pure, any thread.
#pragma once

#include "control/api/messages.h"
#include "control/app/event.h"

namespace detour::app {

[[nodiscard]] control::Event to_api(const Event& event);

/// CLOCK_REALTIME to the API's microseconds.
[[nodiscard]] control::Time to_api(health::WallTime time);

}  // namespace detour::app
