// A counter that one thread writes and any thread reads: relaxed, without a locked instruction.
#pragma once

#include <atomic>
#include <cstdint>

namespace detour::stages {

template <class T>
class TallyOf {
  public:
    void add(T n) noexcept {
        value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
    void set(T n) noexcept { value_.store(n, std::memory_order_relaxed); }
    [[nodiscard]] T get() const noexcept { return value_.load(std::memory_order_relaxed); }

  private:
    std::atomic<T> value_{0};
};
using Tally = TallyOf<std::uint64_t>;

}  // namespace detour::stages
