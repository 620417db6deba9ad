// Who is due next: at most one time per item, earliest first.
//
// Pure, not thread safe. All operations O(log n).
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "config/model.h"
#include "control/health/now.h"

namespace detour::health {

class DueQueue {
  public:
    using Item = std::uint32_t;
    /// Sets or replaces the item's time.
    void set(Item item, Monotonic at);
    void remove(Item item);
    void clear();
    /// The earliest item due at `now` or before, with its time; it leaves the queue.
    [[nodiscard]] std::optional<std::pair<Item, Monotonic>> pop(Monotonic now);
    /// kNever when empty.
    [[nodiscard]] Monotonic next() const;

  private:
    std::set<std::pair<Monotonic, Item>> by_time_;
    std::unordered_map<Item, Monotonic> by_item_;
};

/// The first time after `now` that lies on the grid of `interval` shifted by `phase`: items with different
/// phases are never in step, however they were disturbed before.
[[nodiscard]] Monotonic next_on_grid(Monotonic now, nanoseconds interval, std::uint64_t phase) noexcept;

/// Up to the configured share of the interval, from `random`.
[[nodiscard]] nanoseconds jitter_of(const config::Health& health, std::uint64_t random) noexcept;

}  // namespace detour::health
