// What the probes that use sockets share.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/error_code.hpp>

#include "control/health/outcome.h"

namespace detour::health {

/// `co_await x(…, kTuple)` gives the error with the result instead of throwing it.
inline constexpr auto kTuple = boost::asio::as_tuple(boost::asio::use_awaitable);

/// Of a socket's error, or a TLS stream's. What is this host's own trouble is kNotSent: it says nothing about
/// the backend.
[[nodiscard]] Cause cause_of(const boost::system::error_code& ec);

/// The other side closed, with or without TLS's own farewell.
[[nodiscard]] bool is_end(const boost::system::error_code& ec);

}  // namespace detour::health
