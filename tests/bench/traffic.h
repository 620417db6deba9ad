// The packets of a scenario: 64-byte frames (IPv6: the smallest there are, 74) of random flows; fragments and
// ICMP errors are a few bytes longer.
//
// Flows are random and lie in memory in that order, so reading the frames one after the other visits the
// tables in random order while the frames themselves cost what a prefetched stream costs. One thread.
#pragma once

#include <cstdint>
#include <cstring>

#include "dataplane/core/pages.h"
#include "tests/bench/scenario.h"

namespace detour::bench {

/// Where a reader of the frames is. Each pass gives the frames of new flows a client port, and datagrams an
/// identification, never used before.
struct Cursor {
    std::size_t next = 0;
    std::uint16_t pass = 0;
};

class Traffic {
  public:
    /// All frames belong to the flows that the table will hold: `scenario.flows` of them.
    explicit Traffic(const Scenario& scenario);

    /// Memory for the frames, in bytes.
    [[nodiscard]] static std::size_t bytes(const Scenario& scenario);
    [[nodiscard]] std::size_t count() const noexcept { return count_; }
    [[nodiscard]] std::uint16_t length() const noexcept { return length_; }

    /// From frames of the flows in the table to the frames that the scenario measures.
    void become_measured(Kind kind);
    /// After become_measured(): is frame `i` of an established flow?
    [[nodiscard]] bool established(std::size_t i) const noexcept;

    /// Writes the next frame; `to` has room for kLongest bytes.
    void copy(std::uint8_t* to, Cursor& cursor) const noexcept {
        const std::uint8_t* from = frames_ + cursor.next * stride_;
        std::memcpy(to, from, kStrideV4);
        if (stride_ == kStrideV6) std::memcpy(to + kStrideV4, from + kStrideV4, kStrideV6 - kStrideV4);
        if (stride_ == kLongest) std::memcpy(to + kStrideV4, from + kStrideV4, kLongest - kStrideV4);
        std::uint16_t number = 0;
        std::uint16_t step = 0;
        std::memcpy(&number, from + number_at_, 2);
        std::memcpy(&step, from + stride_ - 2, 2);
        const auto renewed = static_cast<std::uint16_t>(number + step * cursor.pass);
        std::memcpy(to + number_at_, &renewed, 2);
        if (sum_at_ != 0) [[unlikely]]
            renew_checksum(to + sum_at_, number, renewed);
        if (++cursor.next == count_) {
            cursor.next = 0;
            ++cursor.pass;
        }
    }

    static constexpr std::size_t kStrideV4 =
        64;  // the frame's last 4 bytes, its checksum, never reach memory
    static constexpr std::size_t kStrideV6 = 80;
    static constexpr std::size_t kLongest = 128;

  private:
    [[nodiscard]] std::uint8_t* at(std::size_t i) noexcept { return frames_ + i * stride_; }
    /// RFC 1624, equation 3.
    static void renew_checksum(std::uint8_t* sum, std::uint16_t before, std::uint16_t after) noexcept {
        std::uint16_t old = 0;
        std::memcpy(&old, sum, 2);
        std::uint32_t s = (~old & 0xffffU) + (~before & 0xffffU) + after;
        s = (s & 0xffffU) + (s >> 16U);
        s = (s & 0xffffU) + (s >> 16U);
        const auto fresh = static_cast<std::uint16_t>(~s);
        std::memcpy(sum, &fresh, 2);
    }
    /// The reader makes its number new with each pass.
    void renew_each_pass(std::uint8_t* frame) const noexcept;
    void become_errors();
    void become_fragments();

    bool v6_;
    api::Vip vip_;  ///< of pool 0
    Kind kind_ = Kind::kEstablished;
    std::size_t per_flow_;  ///< frames of each flow, next to one another
    std::size_t count_;
    std::size_t stride_;
    std::size_t number_at_;   ///< of what each pass makes new
    std::size_t sum_at_ = 0;  ///< of the checksum that covers it; 0: none does
    std::uint16_t length_;
    core::Pages pages_;
    std::uint8_t* frames_;
};

}  // namespace detour::bench
