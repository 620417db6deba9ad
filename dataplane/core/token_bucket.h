// A token bucket: at most `rate` a second, and at most `burst` in one go.
//
// One owner. Rate 0 grants nothing.
#pragma once

#include <algorithm>
#include <cstdint>

namespace detour::core {

class TokenBucket {
  public:
    /// The burst is a tenth of a second's worth, at least 1.
    void set_rate(std::uint64_t per_second) noexcept { set_rate(per_second, per_second / 10); }
    void set_rate(std::uint64_t per_second, std::uint64_t burst) noexcept {
        rate_ = per_second;
        most_ = per_second == 0 ? 0 : std::max<std::uint64_t>(burst, 1) * kSecond;
    }
    [[nodiscard]] std::uint64_t rate() const noexcept { return rate_; }
    /// Tokens of a full bucket.
    [[nodiscard]] std::uint64_t burst() const noexcept { return most_ / kSecond; }

    /// Takes one token if there is one.
    [[nodiscard]] bool take(std::uint64_t now_ns) noexcept {
        if (!available(now_ns)) return false;
        spend();
        return true;
    }
    /// There is a token to spend(), and `reserve` more.
    [[nodiscard]] bool available(std::uint64_t now_ns, std::uint64_t reserve = 0) noexcept {
        if (now_ns > last_) {
            const std::uint64_t elapsed = std::min<std::uint64_t>(now_ns - last_, kSecond);
            credit_ = std::min(credit_ + elapsed * rate_, most_);
            last_ = now_ns;
        }
        return credit_ >= kSecond * (1 + reserve);
    }
    /// Full at the next look, as if it had never been used.
    void refill() noexcept { credit_ = last_ = 0; }
    /// Only after available() said yes.
    void spend() noexcept { credit_ -= kSecond; }

  private:
    static constexpr std::uint64_t kSecond = 1'000'000'000ULL;
    std::uint64_t rate_ = 0;
    std::uint64_t most_ = 0;    ///< tokens x 10^9
    std::uint64_t credit_ = 0;  ///< tokens x 10^9
    std::uint64_t last_ = 0;
};

}  // namespace detour::core
