// A token bucket: at most `rate` a second, at most a tenth of a second's worth (at least 1) in one go.
//
// One owner. Rate 0 grants nothing.
#pragma once

#include <algorithm>
#include <cstdint>

namespace detour::core {

class TokenBucket {
  public:
    void set_rate(std::uint64_t per_second) noexcept { rate_ = per_second; }
    [[nodiscard]] std::uint64_t rate() const noexcept { return rate_; }

    /// Takes one token if there is one.
    [[nodiscard]] bool take(std::uint64_t now_ns) noexcept {
        if (now_ns > last_) {
            const std::uint64_t elapsed = std::min<std::uint64_t>(now_ns - last_, kSecond);
            const std::uint64_t most = std::max<std::uint64_t>(rate_ * (kSecond / 10), kSecond);
            credit_ = std::min(credit_ + elapsed * rate_, rate_ == 0 ? 0 : most);
            last_ = now_ns;
        }
        if (credit_ < kSecond) return false;
        credit_ -= kSecond;
        return true;
    }

  private:
    static constexpr std::uint64_t kSecond = 1'000'000'000ULL;
    std::uint64_t rate_ = 0;
    std::uint64_t credit_ = 0;  ///< tokens x 10^9
    std::uint64_t last_ = 0;
};

}  // namespace detour::core
