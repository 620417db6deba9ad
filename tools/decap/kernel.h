// Which BPF programs stand on an interface, and whether they are detour-decap's.
//
// A program is ours when it has our name and our maps. Its tag would not do: it changes with every version,
// and what an older version left behind after a kill must be replaced too.
// All calls block on bpf or netlink system calls; no state, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/api/result.h"

namespace detour::decap {

using api::Result;

/// A file descriptor, closed at the end of its life. Move only.
class Descriptor {
  public:
    Descriptor() noexcept = default;
    explicit Descriptor(int fd) noexcept : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept;
    Descriptor& operator=(Descriptor&& other) noexcept;
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor();
    [[nodiscard]] int get() const noexcept { return fd_; }

  private:
    int fd_ = -1;
};

/// Where a program of ours may be attached.
enum class Place : std::uint8_t { kXdp, kIngress, kEgress };

/// Names of the programs in decap.bpf.c, at most 15 characters so that the kernel keeps them whole.
[[nodiscard]] std::string_view program_name(Place place) noexcept;

struct AttachedProgram {
    std::uint32_t id = 0;
    std::string name;
    std::vector<std::uint32_t> map_ids;
    std::uint32_t xdp_flags = 0;  ///< the mode it is attached in, as a flag for bpf_xdp_attach
    Descriptor fd;
};

/// Error kNotFound when there is no such interface.
[[nodiscard]] Result<int> interface_index(const std::string& name);

/// The program at `place`; for ingress and egress only the filter with our handle and priority. nullopt when
/// there is none. Error kSystem.
[[nodiscard]] Result<std::optional<AttachedProgram>> attached(int ifindex, Place place);

/// Name and maps of a program held by its descriptor.
[[nodiscard]] Result<AttachedProgram> describe(Descriptor fd);

[[nodiscard]] bool is_ours(const AttachedProgram& program, Place place);

/// The first of the program's maps with this name; nullopt when there is none.
[[nodiscard]] std::optional<Descriptor> find_map(const AttachedProgram& program, std::string_view name);

/// Puts `fd` at `place`. With `previous`, instead of it and of no other (atomically), else only if the place
/// is free. Error kRefused when the place is taken, kSystem.
[[nodiscard]] Result<void> attach(int ifindex, Place place, const Descriptor& fd,
                                  const std::optional<AttachedProgram>& previous);

/// Takes `program` off, if it is still there.
[[nodiscard]] Result<void> detach(int ifindex, Place place, const AttachedProgram& program);

}  // namespace detour::decap
