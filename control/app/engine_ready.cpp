// Asking the sites of single-writer pools whether their data is primary: the `ready` probes.
#include <algorithm>

#include "control/app/engine_impl.h"

namespace detour::app {

using health::Monotonic;
using health::State;

namespace {
constexpr std::uint32_t kInFlightPerBackend = 4;
constexpr std::size_t kAskedPerCall = 64;
constexpr std::chrono::seconds kLostAfter{5};
}  // namespace

void Engine::Impl::schedule_ready() {
    ready_due_.clear();
    for (Index i = 0; i < fleet_.targets.size(); ++i) {
        const Target& target = fleet_.targets[i];
        if (target.ready == nullptr) continue;
        ready_due_.set(i, health::next_on_grid(now_.monotonic, target.ready->interval, ~target.phase));
    }
}

void Engine::Impl::ask_ready() {
    for (std::size_t asked = 0; asked < kAskedPerCall; ++asked) {
        const auto next = ready_due_.pop(now_.monotonic);
        if (!next) return;
        Target& target = fleet_.targets[next->first];
        // Undecided: quickly. A switch of the writer waits for this.
        const bool fast =
            target.says.state() == State::kUp ? target.says.misses() > 0 : target.says.answers() > 0;
        ready_due_.set(next->first,
                       fast ? now_.monotonic + target.ready->fast_interval
                            : health::next_on_grid(now_.monotonic, target.ready->interval, ~target.phase));
        if (target.ready_in_flight >= kInFlightPerBackend) continue;
        ++target.ready_in_flight;
        const std::uint64_t serial = ++serial_;
        asked_[serial] = {next->first, now_.monotonic};
        out_.probes.push_back({target.id, serial, target.address, target.ready});
    }
}

/// False when `serial` is no question of ours.
bool Engine::Impl::on_ready(std::uint64_t serial, const health::Outcome& outcome) {
    const auto found = asked_.find(serial);
    if (found == asked_.end()) return false;
    const Index index = found->second.target;
    Target& target = fleet_.targets[index];
    asked_.erase(found);
    if (target.ready_in_flight > 0) --target.ready_in_flight;
    if (outcome.cause == health::Cause::kNotSent) return true;
    const bool said_no = outcome.cause != health::Cause::kOk && health::answered(outcome.cause);
    const bool told_before = target.says.state() == State::kDown && health::answered(target.says.last());
    // Silence has to last; a plain no counts at once, since the data may be written elsewhere by now.
    const auto step =
        target.says.on_result(outcome.cause, serial, {said_no ? 1 : target.ready->fall, target.ready->rise});
    const bool tells = target.says.state() == State::kDown && health::answered(target.says.last());
    if (step.changed || told_before != tells) mark_target(index);
    return true;
}

void Engine::Impl::forget_asked() {
    while (!asked_.empty()) {
        const auto oldest = asked_.begin();
        Target& target = fleet_.targets[oldest->second.target];
        if (target.ready != nullptr &&
            now_.monotonic - oldest->second.sent <= target.ready->timeout + kLostAfter)
            return;
        if (target.ready_in_flight > 0) --target.ready_in_flight;
        asked_.erase(oldest);
    }
}

}  // namespace detour::app
