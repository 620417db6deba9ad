#include "control/health/probe_connects.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <utility>

namespace detour::health {

namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

/// Looked at in one turn of the loop; more wait for the next, behind what else is due.
constexpr std::size_t kEventsPerTurn = 128;

error_code last_error() noexcept {
    return {errno, boost::system::system_category()};
}

/// What the kernel has to say about a connect that ended.
error_code result_of(int socket, std::uint32_t events) noexcept {
    if ((events & (EPOLLERR | EPOLLHUP)) == 0) return {};
    int value = 0;
    socklen_t length = sizeof value;
    if (::getsockopt(socket, SOL_SOCKET, SO_ERROR, &value, &length) != 0) return last_error();
    // Hung up without an error: it stood, and was closed at once by the other end.
    return {value, boost::system::system_category()};
}

}  // namespace

int open_tcp(bool v6, error_code& ec) noexcept {
    const int made = ::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    constexpr linger kReset{1, 0};
    if (made >= 0 && ::setsockopt(made, SOL_SOCKET, SO_LINGER, &kReset, sizeof kReset) == 0) {
        ec = {};
        return made;
    }
    ec = last_error();
    if (made >= 0) ::close(made);
    return -1;
}

class TcpConnects::Impl : public std::enable_shared_from_this<Impl> {
  public:
    Impl(boost::asio::io_context& io, Done done) : done_(std::move(done)), set_(io) {
        const int made = ::epoll_create1(EPOLL_CLOEXEC);
        if (made >= 0) set_.assign(made);
    }

    error_code start(std::uint64_t id, int socket, const tcp::endpoint& to) {
        if (!set_.is_open()) return {EMFILE, boost::system::system_category()};
        if (::connect(socket, to.data(), static_cast<socklen_t>(to.size())) != 0 && errno != EINPROGRESS)
            return last_error();
        epoll_event wanted{};
        wanted.events = EPOLLOUT | EPOLLONESHOT;
        // Both fit: ids count up from 1, and 2^40 connects take years.
        wanted.data.u64 = id << kSocketBits | static_cast<std::uint32_t>(socket);
        if (::epoll_ctl(set_.native_handle(), EPOLL_CTL_ADD, socket, &wanted) != 0) return last_error();
        if (!std::exchange(waiting_, true)) wait();
        return {};
    }

    void stop() {
        stopped_ = true;  // done_ stays: it may be what calls this
        error_code ignored;
        set_.close(ignored);
    }

  private:
    static constexpr unsigned kSocketBits = 24;  // more descriptors than a process may have

    void wait() {
        set_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                        [self = shared_from_this()](const error_code& ec) {
                            if (!ec && !self->stopped_) self->read();
                        });
    }

    void read() {
        std::array<epoll_event, kEventsPerTurn> events;
        const int count = ::epoll_wait(set_.native_handle(), events.data(), kEventsPerTurn, 0);
        for (int i = 0; i < count && !stopped_; ++i) {
            const epoll_event& event = events[static_cast<std::size_t>(i)];
            const auto socket = static_cast<int>(event.data.u64 & ((1U << kSocketBits) - 1));
            done_(event.data.u64 >> kSocketBits, result_of(socket, event.events));
        }
        if (!stopped_) wait();
    }

    Done done_;
    boost::asio::posix::stream_descriptor set_;
    bool waiting_ = false;
    bool stopped_ = false;
};

TcpConnects::TcpConnects(boost::asio::io_context& io, Done done)
    : impl_(std::make_shared<Impl>(io, std::move(done))) {}

TcpConnects::~TcpConnects() {
    impl_->stop();
}

error_code TcpConnects::start(std::uint64_t id, int socket, const tcp::endpoint& to) {
    return impl_->start(id, socket, to);
}

void TcpConnects::stop() {
    impl_->stop();
}

}  // namespace detour::health
