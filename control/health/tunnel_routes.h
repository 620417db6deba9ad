// Rules and routes for marked packets, by rtnetlink (linux/fib_rules.h, linux/rtnetlink.h).
//
// Owns a socket whose requests the kernel answers inside the call. One thread. All errors are kSystem, with
// what was asked and the kernel's reason. What is there already when it is added, or gone when it is removed,
// is no error.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/api/result.h"

struct mnl_socket;

namespace detour::health {

enum class Family : std::uint8_t { kV4, kV6 };

/// One entry of `ip rule`.
struct RoutingRule {
    std::uint32_t preference = 0;
    std::uint32_t table = 0;
    std::uint32_t mark = 0;  ///< 0: any packet
};

class RoutingRules {
  public:
    [[nodiscard]] static api::Result<RoutingRules> open();
    RoutingRules(RoutingRules&& other) noexcept;
    RoutingRules& operator=(RoutingRules&&) = delete;
    RoutingRules(const RoutingRules&) = delete;
    RoutingRules& operator=(const RoutingRules&) = delete;
    ~RoutingRules();

    [[nodiscard]] api::Result<void> add(Family family, const RoutingRule& rule);
    [[nodiscard]] api::Result<void> remove(Family family, const RoutingRule& rule);
    /// The preferences of the rules for the kernel's local table.
    [[nodiscard]] api::Result<std::vector<std::uint32_t>> local_preferences(Family family);
    /// A default route in `table` by the interface of that index.
    [[nodiscard]] api::Result<void> add_default(Family family, std::uint32_t table, std::uint32_t interface);

  private:
    explicit RoutingRules(mnl_socket* socket) : socket_(socket) {}
    [[nodiscard]] api::Result<void> change(Family family, const RoutingRule& rule, std::uint16_t type,
                                           std::uint16_t flags);

    mnl_socket* socket_;
    std::uint32_t sequence_ = 0;
};

}  // namespace detour::health
