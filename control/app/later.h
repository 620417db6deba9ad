// A value that a callback will bring, for a coroutine that waits for it.
//
// One thread: the io_context's. Shared by the callback and the coroutine.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <optional>
#include <utility>

namespace detour::app {

template <class T>
struct Later {
    explicit Later(boost::asio::io_context& io) : ready(io, std::chrono::steady_clock::time_point::max()) {}
    void set(T brought) {
        value = std::move(brought);
        ready.cancel();
    }
    boost::asio::awaitable<void> wait() {
        if (!value) co_await ready.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    }
    boost::asio::steady_timer ready;
    std::optional<T> value;
};

}  // namespace detour::app
