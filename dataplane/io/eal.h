// DPDK's environment (EAL): started once, from our arguments instead of its own command line.
//
// Main thread only. One per process: EAL can't be started twice.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "dataplane/api/result.h"
#include "dataplane/io/arguments.h"

struct rte_mempool;

namespace detour::io {

enum class MemoryKind : std::uint8_t { kHugePages, kOrdinary };

/// Which CPUs a worker's thread may use; more than one when there are not enough to give each its own.
[[nodiscard]] std::vector<std::vector<unsigned>> place_workers(const Arguments& arguments,
                                                               std::span<const unsigned> allowed);
/// The CPUs that this process may run on.
[[nodiscard]] std::vector<unsigned> allowed_cpus();

/// Bytes of packet buffers that these arguments need.
[[nodiscard]] std::size_t buffer_bytes(const Arguments& arguments);
/// Bytes that EAL needs in all.
[[nodiscard]] std::size_t memory_bytes(const Arguments& arguments);

class Eal {
  public:
    /// Worker w becomes lcore w + 1; this thread is lcore 0. Error kSystem with what an operator can do about
    /// it.
    [[nodiscard]] static api::Result<Eal> start(const Arguments& arguments, MemoryKind memory);
    Eal(Eal&& other) noexcept : running_(std::exchange(other.running_, false)) {}
    Eal& operator=(Eal&&) = delete;
    ~Eal();

    /// One pool of packet buffers for all ports; lives as long as EAL.
    [[nodiscard]] static api::Result<rte_mempool*> make_pool(const Arguments& arguments);

  private:
    Eal() noexcept = default;
    bool running_ = true;
};

}  // namespace detour::io
