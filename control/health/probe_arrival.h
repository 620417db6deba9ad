// When an answer reached this host, as the kernel says: the loop may have read it much later.
//
// Any thread; one system call each. No errors: where the kernel can't tell, an answer came when it was read.
#pragma once

#include <chrono>

namespace detour::health {

/// How far these may be off: TCP's clock ticks in jiffies.
inline constexpr std::chrono::milliseconds kArrivalGrain{10};

/// How long a connect took, from SYN to SYN-ACK; `elapsed` when the SYN was repeated.
[[nodiscard]] std::chrono::nanoseconds connect_time(int socket, std::chrono::nanoseconds elapsed) noexcept;

/// How long ago the last data came on a TCP connection (tcp(7), TCP_INFO).
[[nodiscard]] std::chrono::nanoseconds since_last_data(int socket) noexcept;

/// Asks the kernel to note when datagrams come to the socket. Before the first one is sent.
void note_arrivals(int socket) noexcept;
/// How long ago the datagram that was read last had come (socket(7), SIOCGSTAMP).
[[nodiscard]] std::chrono::nanoseconds since_datagram(int socket) noexcept;

/// Noting arrivals is a switch in the kernel that is thrown with the first socket which wants it and back
/// with the last, at the cost of an interrupt on every CPU: held as long as there may be probes.
class ArrivalsNoted {
  public:
    ArrivalsNoted() noexcept;
    ~ArrivalsNoted();
    ArrivalsNoted(const ArrivalsNoted&) = delete;
    ArrivalsNoted& operator=(const ArrivalsNoted&) = delete;

  private:
    int socket_ = -1;
};

}  // namespace detour::health
