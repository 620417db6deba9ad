// The kernel side of an AF_XDP port: the steering program that takes VIP packets, and the guard behind it.
//
// Two BPF programs stand on such an interface.
// - steer (XDP, steer.bpf.c) sends VIP packets to the AF_XDP sockets; while no socket is there it drops them.
//   DPDK's af_xdp driver loads and attaches it (`xdp_prog=PATH`), and refuses to start while any XDP program
//   is attached, so ours must be detached before every start.
// - guard (clsact ingress, guard.bpf.c) drops VIP packets that reach the kernel because no steering program,
//   or one with empty maps, stands before it. It closes the window between the detach and the first
//   set_vips(), in which the kernel would answer clients with a reset.
// Both outlive kill -9 of the process: VIP packets are then dropped, never refused.
//
// The order that the io layer follows, for each AF_XDP port:
// 1. before rte_eal_init: `take_over(ifname, vips)` with the VIPs of the plan on disk. It puts a guard in
//    place, with these VIPs and those of a steering program left behind, and only then detaches that program.
// 2. rte_eal_init with `xdp_prog=` steering_object_path(), set up and start the port: the driver attaches.
// 3. `Steering::find(ifname)`.
// 4. for the first plan and each later one: `set_vips(guard, steering, vips)`.
// 5. on a clean stop: rte_eth_dev_close() detaches the steering program; then Guard::remove() if the host
//    stops being an edge host. Leave the guard over a restart: VIP packets are dropped until the next start.
//
// Thread rule: nothing here is thread safe; all calls block (bpf and netlink system calls) and belong on a
// thread that is no worker. Ownership: Steering and Guard own map descriptors; destroying them detaches
// nothing. No DPDK here. Needs root: finding programs by id takes CAP_SYS_ADMIN.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/api/result.h"
#include "dataplane/api/types.h"
#include "dataplane/bpf/vip_maps.h"

namespace detour::bpf {

/// The steering program that the driver has attached.
class Steering {
  public:
    /// Finds the maps of the program attached to `ifname` through the program's map ids, so that several labs
    /// on one machine don't meet in pins. Error kNotFound: no such interface, or no program on it; kRefused:
    /// the program there is not ours (the text names it); kSystem.
    [[nodiscard]] static Result<Steering> find(const std::string& ifname);
    /// The maps hold exactly these afterwards; new ones are added before old ones are removed. Errors as
    /// VipMaps.
    [[nodiscard]] Result<void> set_vips(std::span<const api::Vip> vips);
    [[nodiscard]] VipMaps& maps() noexcept { return maps_; }

  private:
    explicit Steering(VipMaps maps) noexcept : maps_(std::move(maps)) {}
    VipMaps maps_;
};

/// The clsact filter that drops VIP packets which the steering program did not take.
class Guard {
  public:
    /// Loads a guard, fills its maps and puts it in place, atomically instead of one left behind by an
    /// earlier process. Error kNotFound: no such interface; kRefused: another's filter holds its place
    /// (its handle and priority: attached.cpp); kLimit; kSystem.
    [[nodiscard]] static Result<Guard> install(const std::string& ifname, std::span<const api::Vip> vips);
    [[nodiscard]] Result<void> set_vips(std::span<const api::Vip> vips);
    /// Packets dropped since install(), all CPUs. Error kSystem.
    [[nodiscard]] Result<std::uint64_t> dropped() const;
    /// Takes the filter off the interface; the clsact qdisc stays, others may use it. Not an error when it is
    /// gone.
    [[nodiscard]] Result<void> remove();
    [[nodiscard]] VipMaps& maps() noexcept { return maps_; }

  private:
    Guard(int ifindex, VipMaps maps, Descriptor counters) noexcept
        : ifindex_(ifindex), maps_(std::move(maps)), counters_(std::move(counters)) {}
    int ifindex_;
    VipMaps maps_;
    Descriptor counters_;
};

/// Step 1 above: the guard also gets the VIPs that a steering program or guard left behind knows. Errors of
/// Guard::install and remove_stale; the steering program is still there after any of them.
[[nodiscard]] Result<Guard> take_over(const std::string& ifname, std::span<const api::Vip> vips);

/// Detaches a steering program of ours from `ifname`; nothing attached is no error. Ours: it has our name and
/// our maps (its tag changes with every version). Error kRefused names any other program. take_over() calls
/// it.
[[nodiscard]] Result<void> remove_stale(const std::string& ifname);

/// Steering and guard hold exactly these afterwards. A new VIP is known to the guard first, an old one is
/// forgotten by the guard last, so that the kernel sees no packet of either.
[[nodiscard]] Result<void> set_vips(Guard& guard, Steering& steering, std::span<const api::Vip> vips);

/// The object for the driver's `xdp_prog=`: steer.bpf.o beside the executable, in ../lib/detour, in the build
/// tree, or in /usr/lib/detour. Error kNotFound with the places that were tried.
[[nodiscard]] Result<std::filesystem::path> steering_object_path();

}  // namespace detour::bpf
