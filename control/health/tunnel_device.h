// The TUN device that probes' packets leave the kernel by, and the rules that lead marked sockets to it.
//
// What is made, for IPv4 and IPv6 (for IPv6 only where the host has it):
//   - the device `detour-probe`, which ends with this process;
//   - table `mark` with a default route to the device, which ends with the device;
//   - rule 1: packets marked `mark` look into table `mark`;
//   - rule 2: the local table, moved from rule 0, since a VIP may be an address of this host, and its packets
//     would never leave it (as the kernel's documentation of VRF advises). Added before rule 0 is removed,
//     with the kernel's own protocol number, so that no moment is without it and no network manager takes it
//     away;
//   - net.ipv4.conf.all.accept_local = 1: answers come from the VIP, which may be an address of this host.
// The end of the object undoes all of it. After a kill the rules stay, lead nowhere (the table is empty: the
// look-up goes on), and are taken over by the next open().
//
// Needs CAP_NET_ADMIN. One thread. Owns the descriptor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "dataplane/api/result.h"

namespace detour::health {

inline constexpr const char* kTunnelDevice = "detour-probe";

class TunnelDevice {
  public:
    /// Error kSystem: what could not be made, and the kernel's reason.
    [[nodiscard]] static api::Result<std::unique_ptr<TunnelDevice>> open(std::uint32_t mark);
    ~TunnelDevice();
    TunnelDevice(const TunnelDevice&) = delete;
    TunnelDevice& operator=(const TunnelDevice&) = delete;

    /// IP packets, one for each read; does not block.
    [[nodiscard]] int descriptor() const { return descriptor_; }
    [[nodiscard]] std::uint32_t mark() const { return mark_; }

  private:
    struct Undo;
    TunnelDevice(int descriptor, std::uint32_t mark);
    [[nodiscard]] api::Result<void> configure();

    int descriptor_;
    std::uint32_t mark_;
    std::unique_ptr<Undo> undo_;
};

}  // namespace detour::health
