#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "dataplane/bpf/attached.h"
#include "dataplane/bpf/steering.h"
#include "guard.skel.h"

namespace detour::bpf {

namespace {

struct CloseObject {
    void operator()(guard_bpf* object) const noexcept { guard_bpf::destroy(object); }
};

/// Whether the guard's place is free or an earlier guard's; error kRefused when another's filter is there.
[[nodiscard]] Result<Place> place_on(const std::string& ifname, int ifindex) {
    const auto present = attached_guard(ifindex);
    if (!present) return tl::unexpected(present.error());
    if (!*present) return Place::kFree;
    if (maps_of(**present, kGuardName)) return Place::kTaken;
    return api::fail(api::ErrorCode::kRefused, "placing the guard on " + ifname,
                     "the tc filter '" + (*present)->name + "' holds its place");
}

}  // namespace

Result<Guard> Guard::install(const std::string& ifname, std::span<const api::Vip> vips) {
    const auto ifindex = interface_index(ifname);
    if (!ifindex) return tl::unexpected(ifindex.error());
    const auto place = place_on(ifname, *ifindex);
    if (!place) return tl::unexpected(place.error());
    const std::unique_ptr<guard_bpf, CloseObject> object(guard_bpf::open_and_load());
    if (!object) return api::fail(api::ErrorCode::kSystem, "loading the guard", std::strerror(errno));
    Guard guard(*ifindex,
                VipMaps(Descriptor::copy_of(bpf_map__fd(object->maps.vips)),
                        Descriptor::copy_of(bpf_map__fd(object->maps.vip_addresses))),
                Descriptor::copy_of(bpf_map__fd(object->maps.guard_dropped)));
    if (auto done = guard.maps_.add(vips); !done) return tl::unexpected(done.error());
    auto done = attach_guard(*ifindex, bpf_program__fd(object->progs.detour_guard), *place);
    if (!done) return tl::unexpected(done.error());
    return guard;
}

Result<void> Guard::set_vips(std::span<const api::Vip> vips) {
    return maps_.add(vips).and_then([&] { return maps_.keep_only(vips); });
}

Result<std::uint64_t> Guard::dropped() const {
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 1) return api::fail(api::ErrorCode::kSystem, "counting the CPUs", std::strerror(-cpus));
    std::vector<std::uint64_t> values(static_cast<std::size_t>(cpus));
    const std::uint32_t key = 0;
    if (bpf_map_lookup_elem(counters_.get(), &key, values.data()) != 0) {
        return api::fail(api::ErrorCode::kSystem, "reading the guard's counter", std::strerror(errno));
    }
    std::uint64_t sum = 0;
    for (const auto value : values) sum += value;
    return sum;
}

Result<void> Guard::remove() {
    const auto present = attached_guard(ifindex_);
    if (!present) return tl::unexpected(present.error());
    if (!*present || !maps_of(**present, kGuardName)) return {};
    return detach_guard(ifindex_);
}

}  // namespace detour::bpf
