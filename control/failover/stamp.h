// When and where an operator's intent was given: of two for the same thing, the later one counts, on every
// host.
//
// Ordered by time, then by the PoP's name, so that all hosts decide alike. Plain values, any thread.
#pragma once

#include <compare>
#include <string>

#include "control/health/now.h"

namespace detour::failover {

struct Stamp {
    health::WallTime at;
    std::string pop;
    auto operator<=>(const Stamp&) const = default;
};

}  // namespace detour::failover
