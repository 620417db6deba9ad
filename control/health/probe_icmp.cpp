#include "control/health/probe_icmp.h"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <cstring>
#include <string>

#include "control/health/icmp_message.h"
#include "control/health/probe_arrival.h"
#include "control/health/probe_io.h"
#include "control/health/tunnel_packet.h"

namespace detour::health {

namespace asio = boost::asio;
using asio::awaitable;
using boost::system::error_code;

namespace {

/// As `ping` sends by default.
constexpr std::size_t kEchoBytes = 64;
/// linux/icmp.h, which can't be included beside netinet/ip_icmp.h.
constexpr int kIcmpFilter = 1;

struct EchoSocket {
    int descriptor = -1;
    bool raw = false;
};

EchoSocket open_socket(bool v6) {
    const int family = v6 ? AF_INET6 : AF_INET;
    const int protocol = v6 ? static_cast<int>(IPPROTO_ICMPV6) : static_cast<int>(IPPROTO_ICMP);
    constexpr int kFlags = SOCK_CLOEXEC | SOCK_NONBLOCK;
    EchoSocket made{socket(family, SOCK_DGRAM | kFlags, protocol), false};
    if (made.descriptor >= 0 || (errno != EACCES && errno != EPERM)) return made;
    made = {socket(family, SOCK_RAW | kFlags, protocol), true};
    if (made.descriptor < 0) return made;
    // Only answers wake the loop: a raw socket sees all of the protocol.
    if (v6) {
        icmp6_filter filter{};
        ICMP6_FILTER_SETBLOCKALL(&filter);
        ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter);
        (void)setsockopt(made.descriptor, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter);
    } else {
        const std::uint32_t filter = ~(1U << ICMP_ECHOREPLY);
        (void)setsockopt(made.descriptor, SOL_RAW, kIcmpFilter, &filter, sizeof filter);
    }
    return made;
}

error_code connect_to(int socket, const api::IpAddress& address) {
    sockaddr_in v4{};
    sockaddr_in6 v6{};
    v4.sin_family = AF_INET;
    std::memcpy(&v4.sin_addr, address.bytes().data(), 4);
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, address.bytes().data(), 16);
    const int done = address.is_v6() ? connect(socket, reinterpret_cast<sockaddr*>(&v6), sizeof v6)
                                     : connect(socket, reinterpret_cast<sockaddr*>(&v4), sizeof v4);
    return done == 0 ? error_code() : error_code(errno, boost::system::system_category());
}

Echo echo_of(const ProbeRequest& asked, bool raw) {
    constexpr std::uint64_t kSpread = 40'503;  // odd: neighbours' identifiers are far apart
    const auto identifier = static_cast<std::uint16_t>((asked.serial * kSpread) | 1U);
    return {destination(asked).is_v6(), raw ? identifier : std::uint16_t{0},
            static_cast<std::uint16_t>(asked.serial), asked.serial * 0x9e3779b97f4a7c15ULL};
}

std::size_t size_of(const ProbeRequest& asked) {
    if (!asked.health->full_size) return kEchoBytes;
    const std::size_t header = destination(asked).is_v6() ? 40 : 20;
    return std::max<std::size_t>(largest_inner(asked), header + kEchoBytes) - header;
}

}  // namespace

awaitable<Outcome> icmp_probe(asio::posix::stream_descriptor& descriptor, const ProbeRequest& asked,
                              ProbePath& path) {
    const api::IpAddress& to = destination(asked);
    const EchoSocket opened = open_socket(to.is_v6());
    const Echo echo = echo_of(asked, opened.raw);
    error_code ec(opened.descriptor < 0 ? errno : 0, boost::system::system_category());
    if (!ec) descriptor.assign(opened.descriptor, ec);
    if (!ec) ec = path.prepare(opened.descriptor, asked, echo.identifier);
    if (!ec) ec = connect_to(opened.descriptor, to);
    if (ec) {
        co_await asio::post(descriptor.get_executor(), asio::use_awaitable);  // not inside send()
        co_return Outcome{cause_of(ec), 0, {}};
    }
    note_arrivals(opened.descriptor);
    const std::string request = echo_request(echo, size_of(asked));
    const auto [write_error, written] = co_await asio::async_write(descriptor, asio::buffer(request), kTuple);
    if (write_error) co_return Outcome{cause_of(write_error), 0, {}};
    const EchoBytes form = opened.raw && !echo.v6 ? EchoBytes::kPacket : EchoBytes::kMessage;
    std::array<char, 10'000> buffer;
    while (true) {
        const auto [error, size] = co_await descriptor.async_read_some(asio::buffer(buffer), kTuple);
        if (error) co_return Outcome{cause_of(error), 0, {}};
        if (answers_echo({buffer.data(), size}, form, echo)) co_return Outcome{Cause::kOk, 0, {}};
    }
}

}  // namespace detour::health
