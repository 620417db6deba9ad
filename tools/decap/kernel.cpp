#include "tools/decap/kernel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace detour::decap {

namespace {

// Only ours use this pair; a low priority number runs early.
constexpr std::uint32_t kFilterHandle = 0xde70;
constexpr std::uint32_t kFilterPriority = 2;
constexpr std::size_t kMaxProgramMaps = 64;

constexpr std::string_view kXdpName = "detour_decap_x";
constexpr std::string_view kIngressName = "detour_decap_t";
constexpr std::string_view kEgressName = "detour_clamp";
constexpr std::string_view kCountersMap = "decap_counters";

[[nodiscard]] tl::unexpected<api::Error> system_error(std::string doing, int error) {
    const auto code = error == EPERM || error == EACCES ? api::ErrorCode::kRefused : api::ErrorCode::kSystem;
    return api::fail(code, std::move(doing), std::strerror(error));
}

// libbpf refuses options whose bytes behind the last field are not zero, and C++ does not promise that of
// padding: each size below ends with the last field.
[[nodiscard]] bpf_tc_hook hook(int ifindex, Place place) {
    bpf_tc_hook result{};
    result.sz = offsetof(bpf_tc_hook, parent) + sizeof(result.parent);
    result.ifindex = ifindex;
    result.attach_point = place == Place::kIngress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
    return result;
}

[[nodiscard]] bpf_tc_opts filter() {
    bpf_tc_opts result{};
    result.sz = offsetof(bpf_tc_opts, priority) + sizeof(result.priority);
    result.handle = kFilterHandle;
    result.priority = kFilterPriority;
    return result;
}

[[nodiscard]] bpf_xdp_attach_opts instead_of(const AttachedProgram& program) {
    bpf_xdp_attach_opts result{};
    result.sz = offsetof(bpf_xdp_attach_opts, old_prog_fd) + sizeof(result.old_prog_fd);
    result.old_prog_fd = program.fd.get();
    return result;
}

[[nodiscard]] Result<std::optional<AttachedProgram>> by_id(std::uint32_t id) {
    if (id == 0) return std::nullopt;
    Descriptor fd(bpf_prog_get_fd_by_id(id));
    if (fd.get() < 0) {
        if (errno == ENOENT) return std::nullopt;
        return system_error("opening the BPF program " + std::to_string(id), errno);
    }
    auto program = describe(std::move(fd));
    if (!program) return tl::unexpected(program.error());
    return std::optional(std::move(*program));
}

[[nodiscard]] Result<std::optional<AttachedProgram>> attached_xdp(int ifindex) {
    bpf_xdp_query_opts query{};
    query.sz = offsetof(bpf_xdp_query_opts, attach_mode) + sizeof(query.attach_mode);
    if (const int error = bpf_xdp_query(ifindex, 0, &query); error != 0) {
        return system_error("asking for the interface's XDP program", -error);
    }
    const bool native = query.drv_prog_id != 0;
    auto program = by_id(native                   ? query.drv_prog_id
                         : query.skb_prog_id != 0 ? query.skb_prog_id
                                                  : query.prog_id);
    if (program && *program) (*program)->xdp_flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
    return program;
}

[[nodiscard]] Result<std::optional<AttachedProgram>> attached_filter(int ifindex, Place place) {
    const bpf_tc_hook where = hook(ifindex, place);
    bpf_tc_opts query = filter();
    // Without a clsact qdisc, or without the filter, the kernel answers ENOENT or EINVAL.
    if (bpf_tc_query(&where, &query) != 0) return std::nullopt;
    return by_id(query.prog_id);
}

[[nodiscard]] Result<void> attach_xdp(int ifindex, const Descriptor& fd,
                                      const std::optional<AttachedProgram>& previous) {
    int error = 0;
    if (previous) {
        const bpf_xdp_attach_opts options = instead_of(*previous);
        error = bpf_xdp_attach(ifindex, fd.get(), previous->xdp_flags | XDP_FLAGS_REPLACE, &options);
    } else {
        error = bpf_xdp_attach(ifindex, fd.get(), XDP_FLAGS_UPDATE_IF_NOEXIST | XDP_FLAGS_DRV_MODE, nullptr);
        // A driver without XDP, or one that refuses its present MTU or offloads: the generic hook does the
        // same.
        if (error != 0 && error != -EBUSY && error != -EPERM) {
            error =
                bpf_xdp_attach(ifindex, fd.get(), XDP_FLAGS_UPDATE_IF_NOEXIST | XDP_FLAGS_SKB_MODE, nullptr);
        }
    }
    if (error != 0) return system_error("attaching the XDP program", -error);
    return {};
}

[[nodiscard]] Result<void> attach_filter(int ifindex, Place place, const Descriptor& fd,
                                         const std::optional<AttachedProgram>& previous) {
    bpf_tc_hook where = hook(ifindex, place);
    if (const int error = bpf_tc_hook_create(&where); error != 0 && error != -EEXIST) {
        return system_error("adding the clsact qdisc", -error);
    }
    bpf_tc_opts options = filter();
    options.prog_fd = fd.get();
    options.flags = previous ? BPF_TC_F_REPLACE : 0;
    if (const int error = bpf_tc_attach(&where, &options); error != 0) {
        return system_error("attaching the tc filter", -error);
    }
    return {};
}

}  // namespace

Descriptor::Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
}

Descriptor::~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
}

std::string_view program_name(Place place) noexcept {
    switch (place) {
        case Place::kXdp:
            return kXdpName;
        case Place::kIngress:
            return kIngressName;
        case Place::kEgress:
            break;
    }
    return kEgressName;
}

Result<int> interface_index(const std::string& name) {
    const unsigned index = if_nametoindex(name.c_str());
    if (index == 0) {
        return api::fail(api::ErrorCode::kNotFound, "finding the interface",
                         "there is no interface '" + name + "'");
    }
    return static_cast<int>(index);
}

Result<AttachedProgram> describe(Descriptor fd) {
    AttachedProgram program;
    program.map_ids.resize(kMaxProgramMaps);
    bpf_prog_info info{};
    info.nr_map_ids = kMaxProgramMaps;
    info.map_ids = reinterpret_cast<std::uintptr_t>(program.map_ids.data());
    std::uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0)
        return system_error("reading a BPF program", errno);
    program.id = info.id;
    program.name = info.name;
    program.map_ids.resize(std::min<std::size_t>(info.nr_map_ids, kMaxProgramMaps));
    program.fd = std::move(fd);
    return program;
}

Result<std::optional<AttachedProgram>> attached(int ifindex, Place place) {
    return place == Place::kXdp ? attached_xdp(ifindex) : attached_filter(ifindex, place);
}

bool is_ours(const AttachedProgram& program, Place place) {
    return program.name == program_name(place) && find_map(program, kCountersMap);
}

std::optional<Descriptor> find_map(const AttachedProgram& program, std::string_view name) {
    for (const std::uint32_t id : program.map_ids) {
        Descriptor fd(bpf_map_get_fd_by_id(id));
        bpf_map_info info{};
        std::uint32_t size = sizeof(info);
        if (fd.get() < 0 || bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) continue;
        if (name == info.name) return fd;
    }
    return std::nullopt;
}

Result<void> attach(int ifindex, Place place, const Descriptor& fd,
                    const std::optional<AttachedProgram>& previous) {
    return place == Place::kXdp ? attach_xdp(ifindex, fd, previous)
                                : attach_filter(ifindex, place, fd, previous);
}

Result<void> detach(int ifindex, Place place, const AttachedProgram& program) {
    auto present = attached(ifindex, place);
    if (!present) return tl::unexpected(present.error());
    if (!*present || (*present)->id != program.id) return {};
    int error = 0;
    if (place == Place::kXdp) {
        const bpf_xdp_attach_opts options = instead_of(**present);
        error = bpf_xdp_detach(ifindex, (*present)->xdp_flags | XDP_FLAGS_REPLACE, &options);
    } else {
        const bpf_tc_hook where = hook(ifindex, place);
        const bpf_tc_opts options = filter();
        error = bpf_tc_detach(&where, &options);
    }
    if (error != 0 && error != -ENOENT) return system_error("detaching a program", -error);
    return {};
}

}  // namespace detour::decap
