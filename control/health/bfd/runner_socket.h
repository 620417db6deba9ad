// The runner's UDP sockets: what BFD asks of them, and nothing of sessions.
//
// Any thread; a socket belongs to who opened it.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "control/health/bfd/session_table.h"
#include "dataplane/api/result.h"

namespace detour::bfd {

enum class Family : std::uint8_t { kV4, kV6 };
[[nodiscard]] inline Family family_of(const api::IpAddress& address) {
    return address.is_v6() ? Family::kV6 : Family::kV4;
}

/// Owns a file descriptor; -1 is none.
class Descriptor {
  public:
    Descriptor() noexcept = default;
    explicit Descriptor(int fd) noexcept : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Descriptor();

    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }

  private:
    int fd_ = -1;
};

/// "adding a BFD session: WHAT: the system's reason", kSystem or kUnavailable.
[[nodiscard]] tl::unexpected<api::Error> system_error(std::string what);

/// Error kNotFound. An empty name is any interface.
[[nodiscard]] api::Result<Interface> find_interface(const std::string& name);

/// Bound to the port of `hop` on all addresses, and tells TTL, interface and destination of each datagram.
[[nodiscard]] api::Result<Descriptor> open_receiver(Hop hop, Family family);

struct Datagram {
    std::span<const std::uint8_t> payload;  ///< inside the caller's buffer
    Arrival arrival;
};
/// Empty when nothing waits.
[[nodiscard]] std::optional<Datagram> receive(const Descriptor& socket, Hop hop,
                                              std::span<std::uint8_t> buffer);

/// One session's way out: a source port in 49152 … 65535, TTL 255, DSCP CS6.
class Sender {
  public:
    [[nodiscard]] static api::Result<Sender> open(const Path& path,
                                                  const std::function<std::uint32_t()>& random);
    /// False: the kernel did not take it.
    [[nodiscard]] bool send(std::span<const std::uint8_t> payload) const;

  private:
    Descriptor socket_;
    sockaddr_storage to_{};
    socklen_t to_size_ = 0;
};

}  // namespace detour::bfd
