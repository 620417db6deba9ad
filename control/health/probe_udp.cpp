#include "control/health/probe_udp.h"

#include <array>
#include <boost/asio/post.hpp>
#include <string>
#include <string_view>

#include "control/health/dns_message.h"
#include "control/health/probe_arrival.h"
#include "control/health/probe_io.h"

namespace detour::health {

namespace asio = boost::asio;
using asio::awaitable;
using asio::ip::udp;
using boost::system::error_code;

namespace {

udp::endpoint endpoint_of(const ProbeRequest& asked) {
    const api::IpAddress& to = destination(asked);
    const auto& bytes = to.bytes();
    const std::uint16_t port = asked.health->port.value();
    if (to.is_v6()) return {asio::ip::address_v6(bytes), port};
    return {asio::ip::address_v4({bytes[0], bytes[1], bytes[2], bytes[3]}), port};
}

/// Tells an answer from a late one to an earlier probe; against forgery there is the port.
DnsQuestion question_of(const ProbeRequest& asked) {
    constexpr std::uint64_t kSpread = 40'503;  // odd: neighbours' ids are far apart, none repeats in 65,536
    return {static_cast<std::uint16_t>(asked.serial * kSpread), asked.health->query,
            asked.health->query_type};
}

/// kNotSent: not an answer to this probe, wait for another.
Outcome judge(const ProbeRequest& asked, std::string_view bytes) {
    const config::Health& health = *asked.health;
    if (health.type == config::ProbeType::kUdp)
        return {bytes.starts_with(health.expect) ? Cause::kOk : Cause::kBadAnswer, 0, {}};
    const DnsAnswer answer = read_dns_answer(bytes, question_of(asked));
    if (answer.kind == DnsAnswer::Kind::kNotOurs) return {};
    if (answer.kind == DnsAnswer::Kind::kBad) return {Cause::kBadAnswer, 0, {}};
    if (answer.rcode != static_cast<std::uint8_t>(health.rcode)) return {Cause::kBadRcode, answer.rcode, {}};
    return {Cause::kOk, 0, {}};
}

}  // namespace

awaitable<Outcome> udp_probe(udp::socket& socket, const ProbeRequest& asked, ProbePath& path) {
    const auto endpoint = endpoint_of(asked);
    error_code ec;
    socket.open(endpoint.protocol(), ec);
    if (!ec) ec = path.prepare(socket.native_handle(), asked);
    if (!ec) socket.connect(endpoint, ec);
    if (ec) {
        co_await asio::post(socket.get_executor(), asio::use_awaitable);  // not inside send()
        co_return Outcome{cause_of(ec), 0, {}};
    }
    note_arrivals(socket.native_handle());
    const bool dns = asked.health->type == config::ProbeType::kDns;
    const std::string payload = dns ? dns_query(question_of(asked)) : asked.health->payload;
    const auto [send_error, sent] = co_await socket.async_send(asio::buffer(payload), kTuple);
    if (send_error) co_return Outcome{cause_of(send_error), 0, {}};
    std::array<char, 4096> buffer;
    Outcome outcome;
    while (outcome.cause == Cause::kNotSent) {
        const auto [error, size] = co_await socket.async_receive(asio::buffer(buffer), kTuple);
        if (error) co_return Outcome{cause_of(error), 0, {}};
        outcome = judge(asked, {buffer.data(), size});
    }
    co_return outcome;
}

}  // namespace detour::health
