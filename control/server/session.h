// One connection: HTTP/1.1 requests read within bounds, answered one after the other; or one event stream.
//
// Thread rule: the loop. A session owns its socket and lives as long as its coroutine; the Hub outlives it.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <utility>

#include "control/server/routes.h"

namespace detour::control {

/// What the sessions of one server share.
struct Hub {
    Hub(Handlers& handlers_in, const Limits& limits_in, boost::asio::any_io_executor loop_in)
        : handlers(handlers_in), limits(limits_in), loop(std::move(loop_in)) {}

    Handlers& handlers;
    const Limits limits;
    boost::asio::any_io_executor loop;
    bool closing = false;
    std::size_t large = 0;                                               ///< big requests under way
    std::list<boost::asio::steady_timer*> followers;                     ///< woken when events were appended
    std::map<std::pair<std::string, unsigned>, std::uint64_t> requests;  ///< by path and status

    void wake() {
        for (boost::asio::steady_timer* timer : followers) timer->cancel();
    }
};

/// Big requests that may be under way at once: bounds the memory that they take.
inline constexpr std::size_t kMaxLarge = 2;

class Session {
  public:
    using Socket = boost::asio::local::stream_protocol::socket;
    Session(Socket socket, Hub& hub, Router& router);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// Until the peer closes, errs or stalls, or the server closes.
    boost::asio::awaitable<void> run();
    /// Ends a wait for the next request; a request that is being handled is finished.
    void close_if_idle();
    void close_now();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace detour::control
