// The exception path: frames that came to us and are not ours go on to the kernel, and on a port that DPDK
// owns whole what the kernel sends goes out.
//
// On an interface port these are few: fragments and ICMP of a VIP's address, handed to the kernel as if the
// interface had just received them. A port owned whole has a TAP interface beside it (tap.h), and all of the
// host's own traffic passes here, both ways: ssh, BGP, ARP, ND, probes. A device that opens an interface of
// the kernel by itself (net_af_packet) leaves the kernel its own copy: way() says kNone, and its frames are
// dropped and counted.
//
// Workers put frames on a ring; one thread that is no worker hands them over, and reads the TAPs into a
// second ring, which one worker empties. The host's own traffic is bounded both ways: workers spend a budget,
// and the thread stops reading a TAP when its own is spent: frames wait in the interface's queue, and those
// that find it full the kernel drops and counts, as on any slow interface. way() and hand_over() by any
// worker; collect() and count_unsent() by one; the rest by the main thread.
#pragma once

#include <rte_mbuf.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <thread>

#include "dataplane/api/limits.h"
#include "dataplane/api/result.h"
#include "dataplane/bpf/injector.h"
#include "dataplane/core/token_bucket.h"
#include "dataplane/io/descriptor.h"
#include "dataplane/io/ethernet_port.h"
#include "dataplane/io/tap.h"
#include "dataplane/stages/worker_state.h"

struct rte_mempool;
struct rte_ring;

namespace detour::io {

class KernelPath {
  public:
    enum class Way : std::uint8_t { kNone, kInjector, kTap };
    /// Frames of one port.
    struct Figures {
        std::uint64_t received = 0;  ///< that the kernel received
        std::uint64_t sent = 0;      ///< that the kernel sent
        std::uint64_t lost = 0;      ///< refused by the kernel, or by a full transmit queue
    };

    /// `ports` are open and outlive the path; frames from the kernel take their buffers from `pool`. Error
    /// kSystem when the kernel lacks what it takes, or memory; kRefused: see Tap::open.
    [[nodiscard]] static api::Result<std::unique_ptr<KernelPath>> open(std::span<const EthernetPort> ports,
                                                                       rte_mempool* pool);
    ~KernelPath();
    KernelPath(const KernelPath&) = delete;
    KernelPath& operator=(const KernelPath&) = delete;

    /// How frames of this port, by its position, reach the kernel.
    [[nodiscard]] Way way(std::uint8_t port) const noexcept { return sides_[port].way; }
    /// Takes ownership of as many as it returns, from the front; the others found the ring full. Each mbuf's
    /// `port` must hold the port's position.
    [[nodiscard]] std::uint16_t hand_over(std::span<rte_mbuf*> mbufs) noexcept;
    /// Frames that the kernel sends; each mbuf's `port` says by which port. The caller owns them.
    [[nodiscard]] std::uint16_t collect(std::span<rte_mbuf*> mbufs) noexcept;
    void count_unsent(std::size_t port, std::uint64_t frames) noexcept { unsent_[port].add(frames); }

    /// Any thread.
    [[nodiscard]] Figures figures(std::size_t port) const noexcept;
    /// The TAPs end with the path, and the operator's addresses and routes with them.
    void forget_interfaces() noexcept { forget_ = true; }

  private:
    struct FreeRing {
        void operator()(rte_ring* ring) const noexcept;
    };
    using Ring = std::unique_ptr<rte_ring, FreeRing>;
    struct Side {
        Way way = Way::kNone;
        int interface = 0;                          ///< index of the kernel's interface, for the injector
        std::optional<Tap> tap;                     ///< absent on a TAP side: somebody deleted it
        Tap::Carrier carrier = Tap::Carrier::kOff;  // the thread's own
        stages::Tally received;
        stages::Tally sent;
        stages::Tally refused;
    };
    KernelPath(std::span<const EthernetPort> ports, rte_mempool* pool) noexcept;
    [[nodiscard]] api::Result<void> open_rings();
    [[nodiscard]] api::Result<void> open_sides();

    void run();
    void wait(std::chrono::milliseconds longest);
    void drain();
    void deliver(const rte_mbuf& mbuf);
    [[nodiscard]] bool read_taps() noexcept;
    [[nodiscard]] bool read_tap(std::uint16_t port) noexcept;
    void mirror_links();
    void mirror_link(std::size_t port);
    void lose_tap(std::size_t port);
    [[nodiscard]] api::Result<void> open_tap(std::size_t port);

    const std::span<const EthernetPort> ports_;
    rte_mempool* const pool_;
    std::optional<bpf::Injector> injector_;
    Ring inward_;   ///< from the workers
    Ring outward_;  ///< to the worker that collects
    Descriptor wake_;
    std::array<Side, api::kMaxPorts> sides_;
    std::array<stages::Tally, api::kMaxPorts> unsent_;  ///< the collecting worker's
    bool has_taps_ = false;
    bool forget_ = false;
    core::TokenBucket outward_budget_;
    std::uint64_t warnings_ = 0;         // the thread's own
    std::atomic<bool> sleeping_{false};  // written by both sides; a worker wakes the thread only then
    std::atomic<bool> ending_{false};
    std::thread thread_;
};

}  // namespace detour::io
