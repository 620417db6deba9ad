// The exception path: frames that came to us and are not ours go on to the kernel of the same interface.
//
// On an AF_XDP port these are few: fragments and ICMP of a VIP's address. Workers put them on a ring; one
// thread that is no worker hands each to the kernel as if the interface had just received it. A port owned
// whole by DPDK has no kernel side here: takes() says so, and its frames are dropped and counted. hand_over()
// by any worker; the rest by the main thread.
#pragma once

#include <rte_mbuf.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>

#include "dataplane/api/limits.h"
#include "dataplane/api/result.h"
#include "dataplane/bpf/injector.h"
#include "dataplane/io/descriptor.h"
#include "dataplane/io/port_spec.h"

struct rte_ring;

namespace detour::io {

class KernelPath {
  public:
    /// Error kSystem when the kernel lacks what it takes, or memory.
    [[nodiscard]] static api::Result<std::unique_ptr<KernelPath>> open(std::span<const PortSpec> ports);
    ~KernelPath();
    KernelPath(const KernelPath&) = delete;
    KernelPath& operator=(const KernelPath&) = delete;

    /// Whether this port, by its position, has a kernel side.
    [[nodiscard]] bool takes(std::uint8_t port) const noexcept { return interfaces_[port] != 0; }
    /// Takes ownership of as many as it returns, from the front; the others found the ring full. Each mbuf's
    /// `port` must hold the port's position.
    [[nodiscard]] std::uint16_t hand_over(std::span<rte_mbuf*> mbufs) noexcept;

  private:
    struct FreeRing {
        void operator()(rte_ring* ring) const noexcept;
    };
    KernelPath(bpf::Injector injector, rte_ring* ring, int wake_fd);
    void run();
    void drain();
    void inject(rte_mbuf& mbuf);

    bpf::Injector injector_;
    std::unique_ptr<rte_ring, FreeRing> ring_;
    Descriptor wake_;
    std::array<int, api::kMaxPorts> interfaces_{};  // index of the kernel's interface; 0: none
    std::atomic<bool> sleeping_{false};  // written by both sides; a worker wakes the thread only then
    std::atomic<bool> ending_{false};
    std::uint64_t refused_ = 0;  // the thread's own
    std::thread thread_;
};

}  // namespace detour::io
