#include "dataplane/bpf/steering.h"

#include <unistd.h>

#include <optional>
#include <system_error>
#include <utility>

#include "dataplane/bpf/attached.h"

namespace detour::bpf {

namespace {

constexpr const char* kObjectName = "steer.bpf.o";
constexpr int kBuildDepth = 4;  // folders between an executable and the build tree's root

[[nodiscard]] tl::unexpected<api::Error> not_ours(const std::string& ifname, const AttachedProgram& program) {
    return api::fail(api::ErrorCode::kRefused, "taking over " + ifname,
                     "the XDP program '" + program.name + "' (id " + std::to_string(program.id) +
                         ") is attached and is not ours; detach it first");
}

/// The VIPs that programs of an earlier process know. What can't be read is left out: those on disk remain.
[[nodiscard]] std::vector<api::Vip> vips_left_behind(const Result<std::optional<AttachedProgram>>& program,
                                                     std::string_view name) {
    if (!program || !*program) return {};
    const auto maps = maps_of(**program, name);
    if (!maps) return {};
    return maps->read().value_or(std::vector<api::Vip>{});
}

}  // namespace

Result<Steering> Steering::find(const std::string& ifname) {
    const auto ifindex = interface_index(ifname);
    if (!ifindex) return tl::unexpected(ifindex.error());
    const auto program = attached_xdp(*ifindex);
    if (!program) return tl::unexpected(program.error());
    if (!*program) {
        return api::fail(api::ErrorCode::kNotFound, "finding the steering program",
                         "no XDP program is attached to " + ifname);
    }
    auto maps = maps_of(**program, kSteerName);
    if (!maps) return not_ours(ifname, **program);
    return Steering(std::move(*maps));
}

Result<void> Steering::set_vips(std::span<const api::Vip> vips) {
    return maps_.add(vips).and_then([&] { return maps_.keep_only(vips); });
}

Result<Guard> take_over(const std::string& ifname, std::span<const api::Vip> vips) {
    const auto ifindex = interface_index(ifname);
    if (!ifindex) return tl::unexpected(ifindex.error());
    // Read before the new guard takes the place of the old one.
    const auto known_to_guard = vips_left_behind(attached_guard(*ifindex), kGuardName);
    const auto known_to_steering = vips_left_behind(attached_xdp(*ifindex), kSteerName);
    std::vector<api::Vip> all(vips.begin(), vips.end());
    all.insert(all.end(), known_to_guard.begin(), known_to_guard.end());
    all.insert(all.end(), known_to_steering.begin(), known_to_steering.end());
    auto guard = Guard::install(ifname, all);
    if (!guard) return guard;
    if (auto done = remove_stale(ifname); !done) return tl::unexpected(done.error());
    return guard;
}

Result<void> remove_stale(const std::string& ifname) {
    const auto ifindex = interface_index(ifname);
    if (!ifindex) return tl::unexpected(ifindex.error());
    const auto program = attached_xdp(*ifindex);
    if (!program) return tl::unexpected(program.error());
    if (!*program) return {};
    if (!maps_of(**program, kSteerName)) return not_ours(ifname, **program);
    return detach_xdp(*ifindex, **program);
}

Result<void> set_vips(Guard& guard, Steering& steering, std::span<const api::Vip> vips) {
    return guard.maps().add(vips).and_then([&] { return steering.set_vips(vips); }).and_then([&] {
        return guard.maps().keep_only(vips);
    });
}

Result<std::filesystem::path> steering_object_path() {
    std::error_code error;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
    if (error) return api::fail(api::ErrorCode::kSystem, "finding this executable", error.message());
    const auto folder = program.parent_path();
    std::vector<std::filesystem::path> places{folder, folder.parent_path() / "lib" / "detour"};
    auto above = folder;
    for (int i = 0; i < kBuildDepth; ++i, above = above.parent_path()) {
        places.push_back(above / "dataplane" / "bpf");
    }
    places.emplace_back("/usr/lib/detour");
    std::string tried;
    for (const auto& place : places) {
        const auto path = place / kObjectName;
        if (std::filesystem::is_regular_file(path, error)) return path;
        tried += (tried.empty() ? "" : ", ") + path.string();
    }
    return api::fail(api::ErrorCode::kNotFound, "finding the steering program",
                     "none of these exists: " + tried);
}

}  // namespace detour::bpf
