// The gRPC health call over a connected stream, plain or TLS.
//
// The caller owns the stream and its deadline: closing the stream ends the call. What is read is bounded by
// GrpcCall.
#pragma once

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <string>

#include "control/health/grpc_call.h"
#include "control/health/http_head.h"
#include "control/health/probe_io.h"
#include "control/health/probe_path.h"

namespace detour::health {

template <class Stream>
boost::asio::awaitable<Outcome> grpc_call(Stream& stream, const ProbeRequest& asked) {
    const config::Health& health = *asked.health;
    const bool tls = health.type == config::ProbeType::kGrpcs;
    GrpcCall call({http_authority(health, destination(asked)), health.service, tls});
    std::array<char, 4096> buffer;
    while (true) {
        const std::string output = call.output();
        const auto [write_error, written] =
            co_await boost::asio::async_write(stream, boost::asio::buffer(output), kTuple);
        // A server may answer and close before it read all: its answer counts.
        if (write_error && write_error.value() != EPIPE) co_return Outcome{cause_of(write_error), 0, {}};
        const auto [ec, size] = co_await stream.async_read_some(boost::asio::buffer(buffer), kTuple);
        if (ec && !is_end(ec)) co_return Outcome{cause_of(ec), 0, {}};
        if (ec)
            call.end();
        else
            call.input({buffer.data(), size});
        if (call.done()) co_return call.outcome();
    }
}

}  // namespace detour::health
