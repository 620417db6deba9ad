// The HTTP exchange over a connected stream, plain or TLS.
//
// The caller owns the stream and its deadline: closing the stream ends the exchange. What is read is bounded
// by HttpHead and HttpBody.
#pragma once

#include <algorithm>
#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <string>
#include <string_view>

#include "control/health/http_body.h"
#include "control/health/http_head.h"
#include "control/health/probe_io.h"
#include "control/health/probe_path.h"
#include "control/health/tunnel_packet.h"

namespace detour::health {

/// `rest` are the body's bytes that came with the head.
template <class Stream>
boost::asio::awaitable<Outcome> read_body(Stream& stream, HttpBody body, std::string_view rest,
                                          std::uint16_t status) {
    std::array<char, 4096> buffer;
    auto state = body.feed(rest);
    while (state == HttpBody::State::kMore) {
        const auto [ec, size] = co_await stream.async_read_some(boost::asio::buffer(buffer), kTuple);
        if (ec && !is_end(ec)) co_return Outcome{cause_of(ec), status, {}};
        state = ec ? body.end() : body.feed({buffer.data(), size});
    }
    if (state == HttpBody::State::kBad) co_return Outcome{Cause::kBadResponse, status, {}};
    co_return Outcome{state == HttpBody::State::kFound ? Cause::kOk : Cause::kBadBody, status, {}};
}

template <class Stream>
boost::asio::awaitable<Outcome> http_exchange(Stream& stream, const ProbeRequest& asked) {
    const auto& health = *asked.health;
    const std::string request =
        http_request(health, destination(asked), health.full_size ? largest_inner(asked) : 0);
    const auto [write_error, written] =
        co_await boost::asio::async_write(stream, boost::asio::buffer(request), kTuple);
    // A server may answer and close before it read all: its answer counts, so a broken pipe is not the end
    // yet.
    if (write_error && write_error.value() != EPIPE) co_return Outcome{cause_of(write_error), 0, {}};
    HttpHead head;
    std::array<char, 2048> buffer;
    std::size_t before = 0;
    std::size_t last = 0;
    auto state = HttpHead::State::kMore;
    while (state == HttpHead::State::kMore) {
        before += last;
        const auto [ec, size] = co_await stream.async_read_some(boost::asio::buffer(buffer), kTuple);
        if (is_end(ec)) co_return Outcome{head.started() ? Cause::kBadResponse : Cause::kReset, 0, {}};
        if (ec) co_return Outcome{cause_of(ec), 0, {}};
        last = size;
        state = head.feed({buffer.data(), size});
    }
    if (state == HttpHead::State::kBad) co_return Outcome{Cause::kBadResponse, 0, {}};
    const bool wanted = std::ranges::find(health.status, head.status()) != health.status.end();
    if (!wanted || health.body.empty())
        co_return Outcome{wanted ? Cause::kOk : Cause::kBadStatus, head.status(), {}};
    const auto rest = std::string_view(buffer.data(), last).substr(head.size() - before);
    co_return co_await read_body(stream, HttpBody(health.body, head.framing()), rest, head.status());
}

}  // namespace detour::health
