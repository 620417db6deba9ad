// The kernel's part of the interface ports: which traffic it gives us, and the guard while nobody takes it.
//
// Joins the steering programs and guards of all interface ports (bpf/steering.h, which fixes the order of the
// steps). One thread at a time: the main thread until the channel runs, then the thread that publishes.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "dataplane/api/plan.h"
#include "dataplane/api/result.h"
#include "dataplane/bpf/steering.h"
#include "dataplane/io/port_spec.h"

namespace detour::io {

/// All VIPs of a plan.
[[nodiscard]] std::vector<api::Vip> vips_of(const api::ForwardingPlan& plan);

class KernelSide {
  public:
    /// Before EAL starts: guards up with the VIPs of the plan on disk, stale steering programs off.
    [[nodiscard]] static api::Result<KernelSide> take_over(std::span<const PortSpec> ports,
                                                           std::span<const api::Vip> vips);
    /// After the ports have started: finds what the driver attached.
    [[nodiscard]] api::Result<void> find_steering();
    /// From here on exactly these come to us. On an error some ports have them and some have not.
    [[nodiscard]] api::Result<void> set_vips(std::span<const api::Vip> vips);

    /// Takes the guards off. The host stops being an edge host.
    [[nodiscard]] api::Result<void> release();

  private:
    struct Interface {
        std::string name;
        bpf::Guard guard;
        std::vector<bpf::Steering> steering;  // one after find_steering()
    };
    std::vector<Interface> interfaces_;
};

}  // namespace detour::io
