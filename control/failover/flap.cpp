#include "control/failover/flap.h"

#include <algorithm>
#include <cmath>

namespace detour::failover {

using std::chrono::milliseconds;

namespace {
/// Beyond this many the hold has met any bound, and the shift below stays defined.
constexpr double kMost = 40;
}  // namespace

double Flaps::count(const FlapRules& rules, health::WallTime now) const {
    const auto passed = std::chrono::duration<double>(now - at_);
    // A clock that was set back forgets nothing.
    const double halves = std::max(0.0, passed / std::chrono::duration<double>(rules.forget));
    return count_ * std::exp2(-halves);
}

void Flaps::note(const FlapRules& rules, health::WallTime now) {
    before_ = count(rules, now);
    count_ = std::min(kMost, before_ + 1);
    at_ = now;
}

void Flaps::take_back() {
    count_ = std::min(count_, before_);
}

milliseconds Flaps::hold(const FlapRules& rules, health::WallTime now) const {
    const double times = std::floor(count(rules, now) + 0.5);
    if (times < 2 || rules.hold.count() <= 0) return milliseconds{0};
    const double wanted = static_cast<double>(rules.hold.count()) * std::exp2(times - 2);
    const double most = static_cast<double>(rules.most.count());
    return milliseconds{static_cast<milliseconds::rep>(std::min(wanted, most))};
}

}  // namespace detour::failover
