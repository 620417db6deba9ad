// The verdict on a site or on a pool in a site, as operators see it.
#pragma once

#include <cstdint>
#include <string_view>

namespace detour::failover {

enum class Verdict : std::uint8_t {
    kUnknown,     ///< not enough seen since the start; traffic stays as it was
    kHealthy,     ///< all backends answer
    kDegraded,    ///< some backends are down
    kSuspect,     ///< misses just began: a burst is running, or everything looks dark from here
    kDark,        ///< takes no new flow
    kRecovering,  ///< answers again: on its ramp, or held back until an operator undrains it
    kDrained,     ///< an operator's drain is in force
};

/// "unknown", "healthy", "degraded", "suspect", "dark", "recovering", "drained".
[[nodiscard]] std::string_view to_string(Verdict verdict) noexcept;

}  // namespace detour::failover
