// One TAP interface: the kernel's end of a port that DPDK owns whole (docs/adr/0006-tap.md).
//
// What the kernel sends by it is read here, what is written here the kernel receives. It has the port's MAC
// address and MTU, and a carrier while the port has a link. It is persistent: addresses and routes that the
// operator gave it outlive the process, which finds it by its name again. It may also be made beforehand (ip
// tuntap add detour0 mode tap). Owns the descriptor. open() and forget() by the main thread, the rest by one
// thread at a time. Needs CAP_NET_ADMIN and /dev/net/tun.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "dataplane/api/result.h"
#include "dataplane/api/types.h"
#include "dataplane/io/descriptor.h"

namespace detour::io {

class Tap {
  public:
    enum class Carrier : std::uint8_t { kOff, kOn };
    struct Setup {
        std::string name;
        api::Mac mac;  ///< all zero: the kernel's choice stays
        std::uint32_t mtu = 1500;
    };

    /// Up, without a carrier. Error kRefused: another process holds an interface of this name, or it is no
    /// TAP; kSystem: the kernel lacks the device, or refuses the MAC address or the MTU.
    [[nodiscard]] static api::Result<Tap> open(const Setup& setup);

    [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }
    /// Error kSystem.
    [[nodiscard]] api::Result<void> set_carrier(Carrier carrier);
    /// The next frame that the kernel sends, without a wait: its bytes, 0 when there is none. One longer than
    /// `buffer` is cut.
    [[nodiscard]] std::size_t read(std::span<std::uint8_t> buffer) const noexcept;
    /// False when the kernel does not take it: the interface is down, or memory is short.
    [[nodiscard]] bool write(std::span<const std::uint8_t> frame) const noexcept;
    /// From here on the interface goes with the process.
    void forget() const noexcept;

  private:
    explicit Tap(Descriptor fd) noexcept : fd_(std::move(fd)) {}
    Descriptor fd_;
};

}  // namespace detour::io
