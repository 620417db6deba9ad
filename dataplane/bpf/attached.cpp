#include "dataplane/bpf/attached.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace detour::bpf {

namespace {

// The first filter that sees a packet, and a handle that only the guard uses.
constexpr std::uint32_t kGuardHandle = 0xde7;
constexpr std::uint32_t kGuardPriority = 1;
constexpr std::size_t kMaxProgramMaps = 64;

[[nodiscard]] tl::unexpected<api::Error> system_error(std::string doing, int error) {
    return api::fail(api::ErrorCode::kSystem, std::move(doing), std::strerror(error));
}

// libbpf refuses options whose bytes behind the last field are not zero, and C++ does not promise that of
// padding: each size below ends with the last field.
[[nodiscard]] bpf_tc_hook ingress(int ifindex) {
    bpf_tc_hook hook{};
    hook.sz = offsetof(bpf_tc_hook, parent) + sizeof(hook.parent);
    hook.ifindex = ifindex;
    hook.attach_point = BPF_TC_INGRESS;
    return hook;
}

[[nodiscard]] bpf_tc_opts guard_filter() {
    bpf_tc_opts options{};
    options.sz = offsetof(bpf_tc_opts, priority) + sizeof(options.priority);
    options.handle = kGuardHandle;
    options.priority = kGuardPriority;
    return options;
}

[[nodiscard]] Result<std::optional<AttachedProgram>> by_id(std::uint32_t id) {
    if (id == 0) return std::nullopt;
    AttachedProgram program;
    program.fd = Descriptor(bpf_prog_get_fd_by_id(id));
    if (program.fd.get() < 0) {
        if (errno == ENOENT) return std::nullopt;
        return system_error("opening the BPF program " + std::to_string(id), errno);
    }
    program.map_ids.resize(kMaxProgramMaps);
    bpf_prog_info info{};
    info.nr_map_ids = kMaxProgramMaps;
    info.map_ids = reinterpret_cast<std::uintptr_t>(program.map_ids.data());
    std::uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(program.fd.get(), &info, &size) != 0) {
        return system_error("reading the BPF program " + std::to_string(id), errno);
    }
    program.id = info.id;
    program.name = info.name;
    program.map_ids.resize(std::min<std::size_t>(info.nr_map_ids, kMaxProgramMaps));
    return std::optional(std::move(program));
}

[[nodiscard]] Descriptor find_map(const AttachedProgram& program, std::string_view name) {
    for (const std::uint32_t id : program.map_ids) {
        Descriptor fd(bpf_map_get_fd_by_id(id));
        bpf_map_info info{};
        std::uint32_t size = sizeof(info);
        if (fd.get() < 0 || bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) continue;
        if (name == info.name) return fd;
    }
    return {};
}

}  // namespace

QuietLibbpf::QuietLibbpf() noexcept : previous_(reinterpret_cast<void*>(libbpf_set_print(nullptr))) {}

QuietLibbpf::~QuietLibbpf() {
    libbpf_set_print(reinterpret_cast<libbpf_print_fn_t>(previous_));
}

Result<int> interface_index(const std::string& ifname) {
    const unsigned index = if_nametoindex(ifname.c_str());
    if (index == 0) {
        return api::fail(api::ErrorCode::kNotFound, "finding the interface",
                         "there is no interface '" + ifname + "'");
    }
    return static_cast<int>(index);
}

Result<std::optional<AttachedProgram>> attached_xdp(int ifindex) {
    bpf_xdp_query_opts query{};
    query.sz = offsetof(bpf_xdp_query_opts, attach_mode) + sizeof(query.attach_mode);
    if (const int error = bpf_xdp_query(ifindex, 0, &query); error != 0) {
        return system_error("asking for the interface's XDP program", -error);
    }
    const bool native = query.drv_prog_id != 0;
    auto program = by_id(native                   ? query.drv_prog_id
                         : query.skb_prog_id != 0 ? query.skb_prog_id
                                                  : query.hw_prog_id);
    if (program && *program) {
        (*program)->xdp_flags = native                   ? XDP_FLAGS_DRV_MODE
                                : query.skb_prog_id != 0 ? XDP_FLAGS_SKB_MODE
                                                         : XDP_FLAGS_HW_MODE;
    }
    return program;
}

Result<std::optional<AttachedProgram>> attached_guard(int ifindex) {
    const QuietLibbpf quiet;
    const bpf_tc_hook hook = ingress(ifindex);
    bpf_tc_opts query = guard_filter();
    const int error = bpf_tc_query(&hook, &query);
    // The kernel's two ways to say that there is no filter, or no clsact qdisc to hold one.
    if (error == -ENOENT || error == -EINVAL) return std::nullopt;
    if (error != 0) return system_error("asking for the guard", -error);
    return by_id(query.prog_id);
}

std::optional<VipMaps> maps_of(const AttachedProgram& program, std::string_view name) {
    if (program.name != name) return std::nullopt;
    Descriptor vips = find_map(program, "vips");
    Descriptor addresses = find_map(program, "vip_addresses");
    if (vips.get() < 0 || addresses.get() < 0) return std::nullopt;
    return VipMaps(std::move(vips), std::move(addresses));
}

Result<void> detach_xdp(int ifindex, const AttachedProgram& program) {
    bpf_xdp_attach_opts options{};
    options.sz = offsetof(bpf_xdp_attach_opts, old_prog_fd) + sizeof(options.old_prog_fd);
    options.old_prog_fd = program.fd.get();
    const int error = bpf_xdp_detach(ifindex, program.xdp_flags, &options);
    if (error == -EEXIST) {
        return api::fail(api::ErrorCode::kRefused, "detaching the XDP program",
                         "another one took its place meanwhile");
    }
    if (error != 0) return system_error("detaching the XDP program " + program.name, -error);
    return {};
}

Result<void> attach_guard(int ifindex, int program_fd, Place place) {
    const QuietLibbpf quiet;
    bpf_tc_hook hook = ingress(ifindex);
    if (const int error = bpf_tc_hook_create(&hook); error != 0 && error != -EEXIST) {
        return system_error("adding the clsact qdisc", -error);
    }
    bpf_tc_opts options = guard_filter();
    options.prog_fd = program_fd;
    options.flags = place == Place::kTaken ? BPF_TC_F_REPLACE : 0;
    if (const int error = bpf_tc_attach(&hook, &options); error != 0) {
        return system_error("attaching the guard", -error);
    }
    return {};
}

Result<void> detach_guard(int ifindex) {
    const QuietLibbpf quiet;
    const bpf_tc_hook hook = ingress(ifindex);
    const bpf_tc_opts options = guard_filter();
    const int error = bpf_tc_detach(&hook, &options);
    if (error != 0 && error != -ENOENT && error != -EINVAL) return system_error("removing the guard", -error);
    return {};
}

}  // namespace detour::bpf
