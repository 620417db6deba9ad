// Which BPF programs stand on an interface, and whether they are ours.
//
// A program is ours when it has our name and our maps. Its tag would not do: it changes with every version,
// and what an older version left behind after a kill must be taken over too.
// All calls block on bpf or netlink system calls; no state, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/bpf/vip_maps.h"

namespace detour::bpf {

inline constexpr std::string_view kSteerName = "detour_steer";
inline constexpr std::string_view kGuardName = "detour_guard";

struct AttachedProgram {
    std::uint32_t id = 0;
    std::string name;
    std::vector<std::uint32_t> map_ids;
    std::uint32_t xdp_flags = 0;  ///< the mode it is attached in, as a flag for bpf_xdp_attach
    Descriptor fd;
};

/// Silences libbpf's own words while it lives: it complains of what is merely absent, and errors are
/// returned. The previous printer comes back at the end. One at a time.
class QuietLibbpf {
  public:
    QuietLibbpf() noexcept;
    QuietLibbpf(const QuietLibbpf&) = delete;
    QuietLibbpf& operator=(const QuietLibbpf&) = delete;
    ~QuietLibbpf();

  private:
    void* previous_;
};

/// Error kNotFound when there is no such interface.
[[nodiscard]] Result<int> interface_index(const std::string& ifname);

/// nullopt when there is none. Error kSystem.
[[nodiscard]] Result<std::optional<AttachedProgram>> attached_xdp(int ifindex);
/// The filter with the guard's handle and priority at clsact ingress. nullopt when there is none. Error
/// kSystem.
[[nodiscard]] Result<std::optional<AttachedProgram>> attached_guard(int ifindex);

/// The maps of a program with this name; nullopt when the program is not ours.
[[nodiscard]] std::optional<VipMaps> maps_of(const AttachedProgram& program, std::string_view name);

/// Only if `program` is what is attached. Error kRefused when it is not, kSystem.
[[nodiscard]] Result<void> detach_xdp(int ifindex, const AttachedProgram& program);

enum class Place : std::uint8_t { kFree, kTaken };
/// Adds the clsact qdisc when there is none. Error kSystem, also when `place` is kFree and it is not.
[[nodiscard]] Result<void> attach_guard(int ifindex, int program_fd, Place place);
/// Not an error when it is gone. Error kSystem.
[[nodiscard]] Result<void> detach_guard(int ifindex);

}  // namespace detour::bpf
