#include "control/failover/bfd_watch.h"

#include <algorithm>

namespace detour::failover {

std::string_view to_string(BfdPath path) noexcept {
    switch (path) {
        case BfdPath::kUnknown:
            return "unknown";
        case BfdPath::kUp:
            return "up";
        case BfdPath::kDown:
            return "down";
    }
    return "unknown";
}

bool BfdWatch::update(std::span<const BfdPath> paths, health::Monotonic now,
                      health::nanoseconds confirm) noexcept {
    const bool up = std::ranges::find(paths, BfdPath::kUp) != paths.end();
    const bool down = std::ranges::find(paths, BfdPath::kDown) != paths.end();
    if (up || !down) {
        phase_ = Phase::kQuiet;
        return false;
    }
    if (phase_ != Phase::kQuiet) return false;
    phase_ = Phase::kConfirming;
    confirm_ = confirm;
    began_ = now;
    end_ = now + confirm;
    return true;
}

void BfdWatch::answered(health::Monotonic sent) noexcept {
    if (phase_ != Phase::kQuiet && sent >= began_) phase_ = Phase::kContradicted;
}

bool BfdWatch::tick(health::Monotonic now) noexcept {
    if (phase_ != Phase::kConfirming || now < end_) return false;
    if (now - end_ >= confirm_ / 2) {
        end_ = now + confirm_;
        return false;
    }
    phase_ = Phase::kDark;
    return true;
}

health::Monotonic BfdWatch::next() const noexcept {
    return phase_ == Phase::kConfirming ? end_ : health::kNever;
}

}  // namespace detour::failover
