// Next hops of backends from the kernel's routes and neighbours, by rtnetlink.
//
// The host is configured as any Linux router is; this follows it. Runs in the network namespace of the fast
// path. The fast path's packets do not pass the kernel's neighbour table, so the neighbours in use are asked
// for here: unresolved, failed and stale ones once a second. Changes are gathered for `debounce`, then told
// at once.
//
// Thread: the io_context's. Work per turn of the loop is bounded: route look-ups go in slices (the kernel
// answers them inside the call, some microseconds each). No callback after stop() or destruction.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "control/publish/next_hop.h"
#include "dataplane/api/result.h"

namespace boost::asio {
class io_context;
}

namespace detour::publish {

struct KernelRoutesOptions {
    std::vector<std::string> ports;  ///< config.dataplane.ports
    std::chrono::milliseconds debounce{50};
    std::chrono::milliseconds ask_every{1'000};      ///< unresolved and stale neighbours
    std::chrono::milliseconds resync_every{60'000};  ///< everything anew, should a notification be lost
};

class KernelRoutes {
  public:
    using OnChange = std::function<void(const NextHops&)>;

    KernelRoutes(boost::asio::io_context& io, KernelRoutesOptions options, OnChange on_change);
    ~KernelRoutes();
    KernelRoutes(const KernelRoutes&) = delete;
    KernelRoutes& operator=(const KernelRoutes&) = delete;

    /// Opens the sockets and reads links and neighbours. Error kSystem: the kernel refused, with its reason.
    [[nodiscard]] api::Result<void> start();
    void stop();
    /// The addresses of interest, whole: replaces the earlier ones. `on_change` is called when they are
    /// known, and then for each change; the first call comes also when nothing could be resolved.
    void watch(std::vector<api::IpAddress> addresses);

  private:
    class Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace detour::publish
