// One DPDK port: its queues, and the receive and transmit calls of the workers.
//
// Opened and closed by the main thread. Receive queue q belongs to worker q modulo the number of workers,
// transmit queue w to worker w; state() and statistics may be asked by any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "dataplane/api/result.h"
#include "dataplane/io/fast_path.h"
#include "dataplane/io/port_spec.h"

struct rte_mbuf;
struct rte_mempool;

namespace detour::wire {
class PortStats;
}

namespace detour::io {

class EthernetPort {
  public:
    struct Setup {
        std::string device;  ///< DPDK's name of it
        rte_mempool* pool = nullptr;
    };

    /// Error kNotFound: EAL made no such device; kLimit: it has fewer queues than the spec wants; kSystem.
    [[nodiscard]] static api::Result<EthernetPort> open(const PortSpec& spec, const Setup& setup);
    EthernetPort(EthernetPort&& other) noexcept;
    EthernetPort& operator=(EthernetPort&&) = delete;
    /// Stops and closes; an AF_XDP port's steering program goes with it.
    ~EthernetPort();

    /// Up to `mbufs.size()` packets of this queue.
    [[nodiscard]] std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> mbufs) const noexcept;
    /// Returns how many the device took; the rest is still the caller's.
    [[nodiscard]] std::uint16_t transmit(std::uint16_t queue, std::span<rte_mbuf*> mbufs) const noexcept;

    [[nodiscard]] PortState state() const;
    /// IP bytes of the longest frame.
    [[nodiscard]] std::uint32_t mtu() const;
    /// All fields but `port` and `tx_full`.
    void collect(wire::PortStats& stats) const;
    [[nodiscard]] unsigned queues() const noexcept { return spec_.queues; }
    [[nodiscard]] const PortSpec& spec() const noexcept { return spec_; }

  private:
    EthernetPort(PortSpec spec, std::uint16_t id) : spec_(std::move(spec)), id_(id) {}
    [[nodiscard]] api::Result<void> configure() const;
    [[nodiscard]] api::Result<void> set_up_queues(const Setup& setup) const;
    void accept_tags() const;

    PortSpec spec_;
    std::uint16_t id_;
    bool open_ = true;
};

}  // namespace detour::io
