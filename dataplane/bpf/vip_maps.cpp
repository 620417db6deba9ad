#include "dataplane/bpf/vip_maps.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "dataplane/api/limits.h"
#include "dataplane/bpf/steer_maps.h"

namespace detour::bpf {

namespace {

static_assert(STEER_MAX_VIPS >= 2 * api::kMaxVips, "a new set is added before the old one is removed");

constexpr std::uint8_t kPresent = 1;

template <class Key>
using KeyBytes = std::array<unsigned char, sizeof(Key)>;

template <class Key>
[[nodiscard]] KeyBytes<Key> bytes_of(const Key& key) {
    KeyBytes<Key> bytes{};
    std::memcpy(bytes.data(), &key, sizeof(key));
    return bytes;
}

[[nodiscard]] steer_address address_key(const api::IpAddress& address) {
    steer_address key{};
    key.family = address.is_v6() ? STEER_FAMILY_V6 : STEER_FAMILY_V4;
    std::memcpy(key.bytes, address.bytes().data(), sizeof(key.bytes));
    return key;
}

[[nodiscard]] steer_vip vip_key(const api::Vip& vip) {
    steer_vip key{};
    key.address = address_key(vip.address);
    key.protocol = static_cast<std::uint8_t>(vip.protocol);
    key.port = htons(vip.port.value());
    return key;
}

[[nodiscard]] api::Vip vip_of(const steer_vip& key) {
    api::Vip vip;
    if (key.address.family == STEER_FAMILY_V6) {
        std::array<std::uint8_t, 16> bytes{};
        std::memcpy(bytes.data(), key.address.bytes, bytes.size());
        vip.address = api::IpAddress::v6(bytes);
    } else {
        std::array<std::uint8_t, 4> bytes{};
        std::memcpy(bytes.data(), key.address.bytes, bytes.size());
        vip.address = api::IpAddress::v4(bytes);
    }
    vip.protocol = static_cast<api::Protocol>(key.protocol);
    vip.port = api::Port(ntohs(key.port));
    return vip;
}

[[nodiscard]] tl::unexpected<api::Error> map_error(const char* doing, int error) {
    const bool full = error == E2BIG || error == ENOSPC;
    return api::fail(
        full ? api::ErrorCode::kLimit : api::ErrorCode::kSystem, doing,
        full ? "more than " + std::to_string(STEER_MAX_VIPS) + " entries" : std::strerror(error));
}

template <class Key>
[[nodiscard]] Result<void> put(const Descriptor& map, const Key& key) {
    if (bpf_map_update_elem(map.get(), &key, &kPresent, BPF_ANY) != 0)
        return map_error("storing a VIP", errno);
    return {};
}

template <class Key>
[[nodiscard]] Result<std::vector<Key>> keys_of(const Descriptor& map) {
    std::vector<Key> keys;
    Key key{};
    // Nobody else writes the map; the bound only keeps a broken one from holding us for ever.
    while (keys.size() <= STEER_MAX_VIPS) {
        const Key previous = key;
        if (bpf_map_get_next_key(map.get(), keys.empty() ? nullptr : &previous, &key) != 0) break;
        keys.push_back(key);
    }
    if (errno != ENOENT) return map_error("reading the VIPs", errno);
    return keys;
}

template <class Key>
[[nodiscard]] Result<void> delete_others(const Descriptor& map, std::vector<KeyBytes<Key>> wanted) {
    std::ranges::sort(wanted);
    auto present = keys_of<Key>(map);
    if (!present) return tl::unexpected(present.error());
    for (const Key& key : *present) {
        if (std::ranges::binary_search(wanted, bytes_of(key))) continue;
        if (bpf_map_delete_elem(map.get(), &key) != 0 && errno != ENOENT) {
            return map_error("removing a VIP", errno);
        }
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

Descriptor Descriptor::copy_of(int fd) noexcept {
    return Descriptor(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

VipMaps::VipMaps(Descriptor vips, Descriptor addresses) noexcept
    : vips_(std::move(vips)), addresses_(std::move(addresses)) {}

Result<void> VipMaps::add(std::span<const api::Vip> vips) {
    for (const auto& vip : vips) {
        if (auto done = put(vips_, vip_key(vip)); !done) return done;
    }
    // The address opens the door: its fragments and ICMP come together with the first of its ports.
    for (const auto& vip : vips) {
        if (auto done = put(addresses_, address_key(vip.address)); !done) return done;
    }
    return {};
}

Result<void> VipMaps::keep_only(std::span<const api::Vip> vips) {
    std::vector<KeyBytes<steer_vip>> keys;
    std::vector<KeyBytes<steer_address>> addresses;
    for (const auto& vip : vips) {
        keys.push_back(bytes_of(vip_key(vip)));
        addresses.push_back(bytes_of(address_key(vip.address)));
    }
    if (auto done = delete_others<steer_address>(addresses_, std::move(addresses)); !done) return done;
    return delete_others<steer_vip>(vips_, std::move(keys));
}

Result<std::vector<api::Vip>> VipMaps::read() const {
    auto keys = keys_of<steer_vip>(vips_);
    if (!keys) return tl::unexpected(keys.error());
    std::vector<api::Vip> vips;
    for (const auto& key : *keys) vips.push_back(vip_of(key));
    return vips;
}

}  // namespace detour::bpf
