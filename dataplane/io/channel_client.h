// One connection of the control channel: bytes in, requests in order, replies out in the same order.
//
// Polling thread only. A request takes a slot when it comes and frees it when its reply has gone out, so that
// replies keep the order of requests whichever is ready first. At most kMaxSlots are open; the rest waits in
// the socket.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "dataplane/api/framing.h"
#include "dataplane/io/descriptor.h"

namespace detour::io {

class ChannelClient {
  public:
    ChannelClient(std::uint64_t id, Descriptor socket) : id_(id), socket_(std::move(socket)) {}

    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] int fd() const noexcept { return socket_.get(); }
    /// What poll() should wait for.
    [[nodiscard]] short interest() const noexcept;
    /// Nothing more will be read or written.
    [[nodiscard]] bool finished() const noexcept;

    /// Reads what the socket has, or notes that the other side is gone. `events` as poll() gave them.
    void on_events(short events);
    /// The next whole request, if a slot is free and the replies are being read. A broken frame ends reading.
    [[nodiscard]] std::optional<std::string> next_request();
    [[nodiscard]] std::uint64_t open_slot();
    /// `reply` is unframed. Unknown slots are ignored.
    void fill_slot(std::uint64_t slot, std::string_view reply);
    /// Takes no more requests; closes once what is owed has been sent.
    void stop_reading() noexcept {
        reading_ = false;
        refusing_ = true;
    }
    /// Writes what is ready, as far as the socket takes it.
    void send();

  private:
    struct Slot {
        std::uint64_t number = 0;
        std::optional<std::string> frame;
    };
    static constexpr std::size_t kMaxSlots = 16;
    static constexpr std::size_t kMaxUnread = 8U << 20U;  ///< reply bytes that may wait for the other side

    void receive();
    [[nodiscard]] bool has_room() const noexcept {
        return slots_.size() < kMaxSlots && out_.size() - sent_ < kMaxUnread;
    }

    const std::uint64_t id_;
    Descriptor socket_;
    api::FrameReader reader_;
    std::deque<Slot> slots_;
    std::string out_;
    std::size_t sent_ = 0;
    std::uint64_t next_slot_ = 1;
    bool reading_ = true;    ///< the socket may have more
    bool refusing_ = false;  ///< what came after a bad message is not looked at
    bool broken_ = false;
};

}  // namespace detour::io
