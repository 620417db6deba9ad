// Plain TCP connects under way, thousands a second, for probes that ask no more than that.
//
// All of them are in one epoll set, which the loop watches as one descriptor. With a socket of the
// loop's for each, 10,000 a second took 0.58 to 0.68 cores where this took 0.44 to 0.51. The caller opens,
// owns and closes the descriptors (closing one takes it out); a result that comes after that is not told.
//
// Thread: the io_context's. `done` is never called from inside start(), and not after stop() or destruction.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/system/error_code.hpp>
#include <cstdint>
#include <functional>
#include <memory>

namespace boost::asio {
class io_context;
}

namespace detour::health {

/// A TCP socket that does not block and whose close is a reset; -1 with `ec`.
[[nodiscard]] int open_tcp(bool v6, boost::system::error_code& ec) noexcept;

class TcpConnects {
  public:
    /// `id` as in start(). No error: the connection stands.
    using Done = std::function<void(std::uint64_t id, const boost::system::error_code& ec)>;

    /// Without an epoll set (no descriptors left) every start() fails.
    TcpConnects(boost::asio::io_context& io, Done done);
    ~TcpConnects();
    TcpConnects(const TcpConnects&) = delete;
    TcpConnects& operator=(const TcpConnects&) = delete;

    /// An error at once means that `done` is not called for it.
    [[nodiscard]] boost::system::error_code start(std::uint64_t id, int socket,
                                                  const boost::asio::ip::tcp::endpoint& to);
    void stop();

  private:
    class Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace detour::health
