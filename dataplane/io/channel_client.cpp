#include "dataplane/io/channel_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace detour::io {

short ChannelClient::interest() const noexcept {
    int events = 0;
    if (reading_ && has_room()) events |= POLLIN;
    if (sent_ < out_.size()) events |= POLLOUT;
    return static_cast<short>(events);
}

bool ChannelClient::finished() const noexcept {
    return broken_ || (!reading_ && slots_.empty() && sent_ == out_.size());
}

void ChannelClient::on_events(short events) {
    if ((events & POLLIN) != 0) {
        receive();
    } else if ((events & (POLLHUP | POLLERR)) != 0) {
        broken_ = true;
    }
}

void ChannelClient::receive() {
    std::array<char, 1U << 16U> chunk;
    const ssize_t got = ::recv(socket_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
    if (got > 0) {
        reader_.feed({chunk.data(), static_cast<std::size_t>(got)});
    } else if (got == 0) {
        reading_ = false;
    } else if (errno != EAGAIN && errno != EINTR) {
        broken_ = true;
    }
}

std::optional<std::string> ChannelClient::next_request() {
    if (refusing_ || !has_room()) return std::nullopt;
    auto next = reader_.next();
    if (next) return *std::move(next);
    // The length is beyond all bounds: where the next message starts can't be known.
    stop_reading();
    return std::nullopt;
}

std::uint64_t ChannelClient::open_slot() {
    slots_.push_back({next_slot_, std::nullopt});
    return next_slot_++;
}

void ChannelClient::fill_slot(std::uint64_t slot, std::string_view reply) {
    for (Slot& s : slots_) {
        if (s.number == slot) s.frame = api::frame(reply);
    }
}

void ChannelClient::send() {
    while (!slots_.empty() && slots_.front().frame) {
        out_.append(*slots_.front().frame);
        slots_.pop_front();
    }
    while (sent_ < out_.size()) {
        const ssize_t put =
            ::send(socket_.get(), out_.data() + sent_, out_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) {
            broken_ = errno != EAGAIN;
            return;
        }
        sent_ += static_cast<std::size_t>(put);
    }
    out_.clear();
    sent_ = 0;
}

}  // namespace detour::io
