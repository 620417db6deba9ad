#include "control/health/probe_arrival.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <optional>

namespace detour::health {

namespace {

using std::chrono::nanoseconds;

std::optional<tcp_info> info_of(int socket) noexcept {
    tcp_info info{};
    socklen_t length = sizeof info;
    if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return std::nullopt;
    return info;
}

/// Wall clock, as skb timestamps are.
std::optional<nanoseconds> stamp_of(int socket) noexcept {
    timespec stamp{};
    if (::ioctl(socket, SIOCGSTAMPNS, &stamp) != 0) return std::nullopt;
    return std::chrono::seconds(stamp.tv_sec) + nanoseconds(stamp.tv_nsec);
}

}  // namespace

nanoseconds connect_time(int socket, nanoseconds elapsed) noexcept {
    const auto info = info_of(socket);
    if (!info || info->tcpi_total_retrans != 0 || info->tcpi_rtt == 0) return elapsed;
    return std::min<nanoseconds>(elapsed, std::chrono::microseconds(info->tcpi_rtt));
}

nanoseconds since_last_data(int socket) noexcept {
    const auto info = info_of(socket);
    return info ? nanoseconds(std::chrono::milliseconds(info->tcpi_last_data_recv)) : nanoseconds{0};
}

void note_arrivals(int socket) noexcept {
    (void)stamp_of(socket);  // the first question is what turns it on
}

nanoseconds since_datagram(int socket) noexcept {
    const auto stamp = stamp_of(socket);
    timespec now{};
    if (!stamp || ::clock_gettime(CLOCK_REALTIME, &now) != 0) return nanoseconds{0};
    // A wall clock that was set meanwhile says nothing: the caller bounds it.
    return std::max(nanoseconds{0}, std::chrono::seconds(now.tv_sec) + nanoseconds(now.tv_nsec) - *stamp);
}

ArrivalsNoted::ArrivalsNoted() noexcept : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    if (socket_ >= 0) note_arrivals(socket_);
}

ArrivalsNoted::~ArrivalsNoted() {
    if (socket_ >= 0) ::close(socket_);
}

}  // namespace detour::health
