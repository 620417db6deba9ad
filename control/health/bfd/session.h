// One BFD session's state machine: RFC 5880 asynchronous mode, active role, without echo and authentication.
//
// Pure: packets and time in, packets and state changes out; its randomness is its seed. While the session is
// not Up it sends once a second at most (section 6.8.3); once Up, at the greater of what it wants and what
// the peer can take, each time less a random 0 … 25 % (10 … 25 % with a multiplier of 1). A change of
// intervals is told by a poll sequence, and one that would slow the session takes effect when the peer has
// answered it. A packet whose content is news goes out at once.
//
// The peer's demand mode is respected (it gets no periodic packets while both are Up); we never ask for it.
// Not thread safe. Times are CLOCK_MONOTONIC and must not go back.
#pragma once

#include <cstdint>
#include <optional>

#include "control/health/bfd/packet.h"
#include "control/health/now.h"

namespace detour::bfd {

using health::Monotonic;

struct Intervals {
    microseconds desired_min_tx{50'000};   ///< we send no faster; 1 µs … 2^32 - 1 µs
    microseconds required_min_rx{50'000};  ///< the peer may send no faster; 1 µs … 2^32 - 1 µs
    std::uint8_t detect_mult = 3;          ///< the peer gives up after as many intervals; 1 … 255
};

/// What one input did. At most one packet and one change.
struct Step {
    std::optional<ControlPacket> send;
    std::optional<State> changed;  ///< the state that it is in now
};

class Session {
  public:
    /// Starts in Down; the first packet is due at `now`. `local` is not zero and no other session's.
    Session(Intervals intervals, Discriminator local, std::uint64_t seed, Monotonic now);

    /// A packet that decode() accepted and that is this session's.
    Step on_packet(const ControlPacket& packet, Monotonic now);

    /// Call at next_timer() or later. Calling earlier does nothing. Late, it first gives the session up.
    Step on_timer(Monotonic now);
    /// The next transmission or the end of the detection time. Any call of this class may change it.
    [[nodiscard]] Monotonic next_timer() const;

    /// An operator takes the session down: the peer is told that this is no failure.
    Step disable(Monotonic now);
    /// After disable(): starts again from Down.
    Step enable(Monotonic now);
    /// New intervals of a running session, without its fall.
    Step set_intervals(Intervals intervals, Monotonic now);

    [[nodiscard]] State state() const noexcept { return state_; }
    [[nodiscard]] Diagnostic diagnostic() const noexcept { return diagnostic_; }
    [[nodiscard]] State remote_state() const noexcept { return remote_state_; }
    [[nodiscard]] Diagnostic remote_diagnostic() const noexcept { return remote_diagnostic_; }
    [[nodiscard]] Discriminator local() const noexcept { return local_; }
    [[nodiscard]] Discriminator remote() const noexcept { return remote_; }
    [[nodiscard]] bool polling() const noexcept { return poll_ != Poll::kNone; }
    /// Before jitter, and from now on.
    [[nodiscard]] microseconds transmit_interval() const noexcept;
    /// Silence of the peer that ends the session; 0 before its first packet.
    [[nodiscard]] microseconds detection_time() const noexcept;

  private:
    /// kAgain: something changed while a poll was under way, whose answer may be about the old values.
    enum class Poll : std::uint8_t { kNone, kActive, kAgain };
    enum class Purpose : std::uint8_t { kReport, kAnswer };

    void learn(const ControlPacket& packet, Monotonic now);
    [[nodiscard]] std::optional<State> next_state(State received) const;
    void enter(State state, Diagnostic reason);
    void use_desired_min_tx();
    void use_required_min_rx();
    void request_poll();
    void start_poll();
    void finish_poll();
    [[nodiscard]] Monotonic next_transmission() const;
    [[nodiscard]] Monotonic detection_deadline() const;
    [[nodiscard]] bool silenced() const;
    [[nodiscard]] ControlPacket content() const;
    ControlPacket transmit(Monotonic now, Purpose purpose);
    void send_if_news(Step& step, Monotonic now);
    [[nodiscard]] std::uint32_t random();

    Intervals wanted_;
    Discriminator local_;
    std::uint64_t random_state_;

    State state_ = State::kDown;
    Diagnostic diagnostic_ = Diagnostic::kNone;
    Poll poll_ = Poll::kNone;
    bool poll_sent_ = false;        ///< a Final can be its answer
    microseconds desired_min_tx_;   ///< as told to the peer
    microseconds tx_in_use_;        ///< what the transmit interval is made of: lags while a poll is under way
    microseconds required_min_rx_;  ///< as told to the peer
    microseconds rx_in_use_;        ///< what the detection time is made of: lags while a poll is under way

    State remote_state_ = State::kDown;
    Diagnostic remote_diagnostic_ = Diagnostic::kNone;
    Discriminator remote_;
    bool remote_demand_ = false;
    std::uint8_t remote_detect_mult_ = 0;
    microseconds remote_desired_min_tx_{0};
    microseconds remote_min_rx_{1};

    Monotonic last_sent_;
    std::optional<ControlPacket> last_content_;  ///< empty before the first packet
    std::uint32_t jitter_permille_ = 0;          ///< taken off the interval that is running
    std::optional<Monotonic> last_received_;     ///< empty: nothing since the detection time ran out
};

}  // namespace detour::bfd
