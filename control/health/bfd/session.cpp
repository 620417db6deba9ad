#include "control/health/bfd/session.h"

#include <algorithm>

namespace detour::bfd {

namespace {
/// RFC 5880 section 6.8.3: no faster than this while the session is not Up.
constexpr microseconds kSlow{1'000'000};
}  // namespace

Session::Session(Intervals intervals, Discriminator local, std::uint64_t seed, Monotonic now)
    : wanted_(intervals),
      local_(local),
      random_state_(seed),
      desired_min_tx_(std::max(kSlow, intervals.desired_min_tx)),
      tx_in_use_(desired_min_tx_),
      required_min_rx_(intervals.required_min_rx),
      rx_in_use_(required_min_rx_),
      last_sent_(now) {}

Step Session::on_packet(const ControlPacket& packet, Monotonic now) {
    learn(packet, now);
    if (state_ == State::kAdminDown) return {};
    Step step;
    if (const auto next = next_state(packet.state)) {
        const bool fell = *next == State::kDown;
        enter(*next, fell ? Diagnostic::kNeighborSignaledDown : diagnostic_);
        step.changed = state_;
    }
    if (packet.poll) {
        // Due at once, whatever the timers say.
        step.send = transmit(now, Purpose::kAnswer);
        return step;
    }
    send_if_news(step, now);
    return step;
}

/// The part of section 6.8.6 that every accepted packet goes through, in its order.
void Session::learn(const ControlPacket& packet, Monotonic now) {
    remote_ = packet.mine;
    remote_state_ = packet.state;
    remote_diagnostic_ = packet.diagnostic;
    remote_demand_ = packet.demand;
    remote_min_rx_ = packet.required_min_rx;
    if (packet.final) finish_poll();
    remote_desired_min_tx_ = packet.desired_min_tx;
    remote_detect_mult_ = packet.detect_mult;
    last_received_ = now;
}

std::optional<State> Session::next_state(State received) const {
    if (received == State::kAdminDown)
        return state_ == State::kDown ? std::nullopt : std::optional(State::kDown);
    switch (state_) {
        case State::kDown:
            if (received == State::kDown) return State::kInit;
            if (received == State::kInit) return State::kUp;
            return std::nullopt;
        case State::kInit:
            return received == State::kDown ? std::nullopt : std::optional(State::kUp);
        case State::kUp:
            return received == State::kDown ? std::optional(State::kDown) : std::nullopt;
        case State::kAdminDown:
            break;
    }
    return std::nullopt;
}

void Session::enter(State state, Diagnostic reason) {
    state_ = state;
    // Kept through Init, so that the peer learns why the session had gone down.
    diagnostic_ = state == State::kUp ? Diagnostic::kNone : reason;
    use_desired_min_tx();
    use_required_min_rx();
}

void Session::use_desired_min_tx() {
    const microseconds value =
        state_ == State::kUp ? wanted_.desired_min_tx : std::max(kSlow, wanted_.desired_min_tx);
    if (state_ != State::kUp || value < tx_in_use_) tx_in_use_ = value;
    if (value == desired_min_tx_) return;
    desired_min_tx_ = value;
    request_poll();
}

void Session::use_required_min_rx() {
    const microseconds value = wanted_.required_min_rx;
    if (state_ != State::kUp || value > rx_in_use_) rx_in_use_ = value;
    if (value == required_min_rx_) return;
    required_min_rx_ = value;
    request_poll();
}

void Session::request_poll() {
    // Nobody is there to answer: the first packets that they see carry the values anyway.
    if (remote_ == Discriminator{}) return;
    if (poll_ == Poll::kNone)
        start_poll();
    else if (poll_sent_)
        poll_ = Poll::kAgain;
}

void Session::start_poll() {
    poll_ = Poll::kActive;
    poll_sent_ = false;
}

void Session::finish_poll() {
    if (poll_ == Poll::kNone || !poll_sent_) return;
    if (poll_ == Poll::kAgain) return start_poll();
    poll_ = Poll::kNone;
    tx_in_use_ = desired_min_tx_;
    rx_in_use_ = required_min_rx_;
}

Step Session::on_timer(Monotonic now) {
    Step step;
    if (now >= detection_deadline()) {
        last_received_.reset();
        remote_ = Discriminator{};
        remote_min_rx_ = microseconds{1};  // who comes back must hear of us
        remote_demand_ = false;
        poll_ = Poll::kNone;
        if (state_ == State::kInit || state_ == State::kUp) {
            remote_state_ = State::kDown;
            enter(State::kDown, Diagnostic::kDetectionTimeExpired);
            step.changed = state_;
        }
        send_if_news(step, now);
    }
    if (!step.send && now >= next_transmission()) step.send = transmit(now, Purpose::kReport);
    return step;
}

Monotonic Session::next_timer() const {
    return std::min(next_transmission(), detection_deadline());
}

Monotonic Session::next_transmission() const {
    if (!last_content_) return last_sent_;
    if (silenced()) return health::kNever;
    const health::nanoseconds interval = transmit_interval();
    return last_sent_ + (interval - interval * jitter_permille_ / 1000);
}

/// Section 6.8.7: a peer that wants no packets, or that is in demand mode, gets no periodic ones.
bool Session::silenced() const {
    if (remote_min_rx_ == microseconds{0}) return true;
    return remote_demand_ && state_ == State::kUp && remote_state_ == State::kUp && !polling();
}

Monotonic Session::detection_deadline() const {
    return last_received_ ? *last_received_ + detection_time() : health::kNever;
}

microseconds Session::transmit_interval() const noexcept {
    return std::max(tx_in_use_, remote_min_rx_);
}

microseconds Session::detection_time() const noexcept {
    return std::max(rx_in_use_, remote_desired_min_tx_) * remote_detect_mult_;
}

Step Session::disable(Monotonic now) {
    Step step;
    if (state_ == State::kAdminDown) return step;
    enter(State::kAdminDown, Diagnostic::kAdministrativelyDown);
    step.changed = state_;
    send_if_news(step, now);
    return step;
}

Step Session::enable(Monotonic now) {
    Step step;
    if (state_ != State::kAdminDown) return step;
    enter(State::kDown, Diagnostic::kNone);
    step.changed = state_;
    send_if_news(step, now);
    return step;
}

Step Session::set_intervals(Intervals intervals, Monotonic now) {
    wanted_ = intervals;
    use_desired_min_tx();
    use_required_min_rx();
    Step step;
    send_if_news(step, now);
    return step;
}

ControlPacket Session::content() const {
    ControlPacket packet;
    packet.diagnostic = diagnostic_;
    packet.state = state_;
    packet.detect_mult = wanted_.detect_mult;
    packet.mine = local_;
    packet.yours = remote_;
    packet.desired_min_tx = desired_min_tx_;
    packet.required_min_rx = required_min_rx_;
    return packet;
}

ControlPacket Session::transmit(Monotonic now, Purpose purpose) {
    ControlPacket packet = content();
    last_content_ = packet;
    last_sent_ = now;
    // With a multiplier of 1 a full interval would already be the peer's detection time.
    const std::uint32_t least = wanted_.detect_mult == 1 ? 100 : 0;
    jitter_permille_ = least + random() % (251 - least);
    // An answer never asks in its turn: Poll and Final exclude each other.
    packet.final = purpose == Purpose::kAnswer;
    packet.poll = polling() && !packet.final;
    poll_sent_ = poll_sent_ || packet.poll;
    return packet;
}

void Session::send_if_news(Step& step, Monotonic now) {
    if (last_content_ && *last_content_ == content()) return;
    if (remote_min_rx_ == microseconds{0}) return;
    step.send = transmit(now, Purpose::kReport);
}

/// splitmix64: small, seeded, and good enough to spread packets.
std::uint32_t Session::random() {
    random_state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = random_state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return static_cast<std::uint32_t>((z ^ (z >> 31)) >> 32);
}

}  // namespace detour::bfd
