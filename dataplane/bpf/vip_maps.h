// The maps of VIPs that the steering program and the guard read.
//
// One owner, one thread; each call is as many bpf system calls as there are entries. Maps that nothing
// attached refers to go away with their descriptors.
#pragma once

#include <span>
#include <vector>

#include "dataplane/api/result.h"
#include "dataplane/api/types.h"

namespace detour::bpf {

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
    /// Another descriptor of the same thing; empty when there are no more to be had.
    [[nodiscard]] static Descriptor copy_of(int fd) noexcept;

  private:
    int fd_ = -1;
};

/// (address, port, protocol), and the addresses alone: a packet is looked up by its address first.
class VipMaps {
  public:
    VipMaps(Descriptor vips, Descriptor addresses) noexcept;
    /// Puts these in, takes nothing out. Error kLimit: above 2 x kMaxVips together with what is there;
    /// kSystem.
    [[nodiscard]] Result<void> add(std::span<const api::Vip> vips);
    /// Takes out all but these. Error kSystem.
    [[nodiscard]] Result<void> keep_only(std::span<const api::Vip> vips);
    /// What is in. Error kSystem.
    [[nodiscard]] Result<std::vector<api::Vip>> read() const;

  private:
    Descriptor vips_;
    Descriptor addresses_;
};

}  // namespace detour::bpf
