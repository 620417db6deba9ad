// Gives a frame to the kernel as if an interface had just received it.
//
// A two-instruction XDP program (pass) is run over the frame by BPF_PROG_RUN in live-frame mode (Linux 5.18,
// Documentation/bpf/bpf_prog_run.rst): its XDP_PASS puts the frame into the receive path of the named
// interface, behind that interface's own XDP program. So no extra device, address or route is needed. About
// 20 µs a frame. One thread at a time. Needs CAP_NET_ADMIN and CAP_BPF.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/api/result.h"
#include "dataplane/bpf/steering.h"

namespace detour::bpf {

class Injector {
  public:
    /// Error kSystem when the kernel refuses the program.
    [[nodiscard]] static api::Result<Injector> open();
    /// `frame` starts with its Ethernet header, 14 … about 3,500 bytes. Error kSystem: no such interface, its
    /// queue 0 is not set up for XDP, or the frame is too long.
    [[nodiscard]] api::Result<void> inject(int interface, std::span<const std::uint8_t> frame);

  private:
    explicit Injector(Descriptor program) noexcept : program_(std::move(program)) {}
    static constexpr std::size_t kMaxBytes = 4096;
    Descriptor program_;
    std::array<std::uint8_t, kMaxBytes> buffer_{};
};

}  // namespace detour::bpf
