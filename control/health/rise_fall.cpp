#include "control/health/rise_fall.h"

#include <algorithm>
#include <limits>

namespace detour::health {

namespace {
void count(std::uint32_t& run) noexcept {
    if (run < std::numeric_limits<std::uint32_t>::max()) ++run;
}
}  // namespace

std::string_view to_string(State state) noexcept {
    switch (state) {
        case State::kUnknown:
            return "unknown";
        case State::kUp:
            return "up";
        case State::kDown:
            return "down";
    }
    return "unknown";
}

RiseFall::Step RiseFall::on_result(Cause cause, std::uint64_t serial, Thresholds thresholds) noexcept {
    if (cause == Cause::kNotSent) return {};
    Step step;
    if (cause == Cause::kOk) {
        if (serial < newest_miss_) return {};
        newest_answer_ = std::max(newest_answer_, serial);
        misses_ = 0;
        count(answers_);
        step.changed = state_ != State::kUp && answers_ >= thresholds.rise;
        if (step.changed) state_ = State::kUp;
    } else {
        if (serial < newest_answer_) return {};
        newest_miss_ = std::max(newest_miss_, serial);
        step.first_miss = misses_ == 0;
        answers_ = 0;
        count(misses_);
        step.changed = state_ != State::kDown && misses_ >= thresholds.fall;
        if (step.changed) state_ = State::kDown;
    }
    last_ = cause;
    return step;
}

void RiseFall::set(State state) noexcept {
    state_ = state;
    misses_ = 0;
    answers_ = 0;
}

}  // namespace detour::health
