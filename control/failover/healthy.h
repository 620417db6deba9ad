// How much of a pool's share a site takes by what is healthy there, and which backends serve when too few
// are.
//
// Share: in proportion. Servers that return in steps (12,000 of 32,000 first) take traffic in that proportion
// and no more. Panic: only for a pool that no other site takes. Then first the backends that do answer, only
// badly; those that are silent only when nobody answers at all. It never changes the share: a degraded site
// is not made a full one. Pure, any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace detour::failover {

/// Weights of the pool's backends in the site. Drained ones count in neither.
struct Healthy {
    std::uint64_t whole = 0;
    std::uint64_t healthy = 0;  ///< up, or not known to be anything else
    bool others_take = false;   ///< another site takes the pool's new flows
};

/// 0 … 1 of its share: healthy / whole x `overprovisioning`, at most 1; 1 when no other site takes the pool.
[[nodiscard]] double healthy_share(const Healthy& at, double overprovisioning) noexcept;

enum class Panic : std::uint8_t {
    kNone,       ///< healthy backends alone
    kAnswering,  ///< also those that answer badly
    kAll,        ///< nobody answers: all are used
};
[[nodiscard]] std::string_view to_string(Panic panic) noexcept;

struct PanicView {
    std::uint32_t backends = 0;  ///< with a weight, not drained
    std::uint32_t healthy = 0;
    std::uint32_t answering_badly = 0;
    bool others_take = false;
};

/// `threshold`: with a smaller part of healthy backends than this the pool panics.
[[nodiscard]] Panic panic(const PanicView& view, double threshold) noexcept;

}  // namespace detour::failover
