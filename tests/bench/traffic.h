// The packets of a scenario: 64-byte frames (IPv6: the smallest there are, 74) of random flows.
//
// Flows are random and lie in memory in that order, so reading the frames one after the other visits the
// tables in random order while the frames themselves cost what a prefetched stream costs. One thread.
#pragma once

#include <cstdint>
#include <cstring>

#include "dataplane/core/pages.h"
#include "tests/bench/scenario.h"

namespace detour::bench {

/// Where a reader of the frames is. Each pass gives the frames of new flows a client port never used before.
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

    /// Writes the next frame; `to` has room for kStrideV6 bytes.
    void copy(std::uint8_t* to, Cursor& cursor) const noexcept {
        const std::uint8_t* from = frames_ + cursor.next * stride_;
        std::memcpy(to, from, kStrideV4);
        if (stride_ == kStrideV6) std::memcpy(to + kStrideV4, from + kStrideV4, kStrideV6 - kStrideV4);
        std::uint16_t port = 0;
        std::uint16_t step = 0;
        std::memcpy(&port, from + port_at_, 2);
        std::memcpy(&step, from + stride_ - 2, 2);
        port = static_cast<std::uint16_t>(port + step * cursor.pass);
        std::memcpy(to + port_at_, &port, 2);
        if (++cursor.next == count_) {
            cursor.next = 0;
            ++cursor.pass;
        }
    }

    static constexpr std::size_t kStrideV4 =
        64;  // the frame's last 4 bytes, its checksum, never reach memory
    static constexpr std::size_t kStrideV6 = 80;

  private:
    [[nodiscard]] std::uint8_t* at(std::size_t i) noexcept { return frames_ + i * stride_; }

    Kind kind_ = Kind::kEstablished;
    std::size_t flows_;
    std::size_t count_;
    std::size_t stride_;
    std::size_t port_at_;
    std::uint16_t length_;
    core::Pages pages_;
    std::uint8_t* frames_;
};

}  // namespace detour::bench
