#include "control/health/due_queue.h"

namespace detour::health {

void DueQueue::set(Item item, Monotonic at) {
    remove(item);
    by_item_[item] = at;
    by_time_.emplace(at, item);
}

void DueQueue::remove(Item item) {
    const auto found = by_item_.find(item);
    if (found == by_item_.end()) return;
    by_time_.erase({found->second, item});
    by_item_.erase(found);
}

void DueQueue::clear() {
    by_time_.clear();
    by_item_.clear();
}

std::optional<std::pair<DueQueue::Item, Monotonic>> DueQueue::pop(Monotonic now) {
    if (by_time_.empty() || by_time_.begin()->first > now) return std::nullopt;
    const auto [at, item] = *by_time_.begin();
    by_time_.erase(by_time_.begin());
    by_item_.erase(item);
    return std::pair{item, at};
}

Monotonic DueQueue::next() const {
    return by_time_.empty() ? kNever : by_time_.begin()->first;
}

Monotonic next_on_grid(Monotonic now, nanoseconds interval, std::uint64_t phase) noexcept {
    const std::int64_t step = interval.count() > 0 ? interval.count() : 1;
    const std::int64_t offset = static_cast<std::int64_t>(phase % static_cast<std::uint64_t>(step));
    std::int64_t into = (now.value.count() - offset) % step;
    if (into < 0) into += step;
    return {now.value + nanoseconds{step - into}};
}

nanoseconds jitter_of(const config::Health& health, std::uint64_t random) noexcept {
    random = (random ^ random >> 31U) * 0x9e3779b97f4a7c15ULL;
    const double part = static_cast<double>(random >> 40U) / static_cast<double>(1U << 24U);
    const auto most = static_cast<double>(nanoseconds(health.interval).count()) * health.jitter;
    return nanoseconds(static_cast<std::int64_t>(most * part));
}

}  // namespace detour::health
