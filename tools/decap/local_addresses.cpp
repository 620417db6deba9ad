#include "tools/decap/local_addresses.h"

#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

namespace detour::decap {

namespace {

struct FreeAddresses {
    void operator()(ifaddrs* list) const noexcept { freeifaddrs(list); }
};

}  // namespace

Result<std::vector<api::IpAddress>> local_addresses() {
    ifaddrs* raw = nullptr;
    if (getifaddrs(&raw) != 0) {
        return api::fail(api::ErrorCode::kSystem, "reading this host's addresses", std::strerror(errno));
    }
    const std::unique_ptr<ifaddrs, FreeAddresses> list(raw);
    std::vector<api::IpAddress> result;
    for (const ifaddrs* entry = list.get(); entry != nullptr; entry = entry->ifa_next) {
        if (entry->ifa_addr == nullptr) continue;
        if (entry->ifa_addr->sa_family == AF_INET) {
            sockaddr_in address{};
            std::memcpy(&address, entry->ifa_addr, sizeof(address));
            std::array<std::uint8_t, 4> bytes{};
            std::memcpy(bytes.data(), &address.sin_addr, bytes.size());
            result.push_back(api::IpAddress::v4(bytes));
        } else if (entry->ifa_addr->sa_family == AF_INET6) {
            sockaddr_in6 address{};
            std::memcpy(&address, entry->ifa_addr, sizeof(address));
            std::array<std::uint8_t, 16> bytes{};
            std::memcpy(bytes.data(), &address.sin6_addr, bytes.size());
            result.push_back(api::IpAddress::v6(bytes));
        }
    }
    std::ranges::sort(result);
    const auto doubles = std::ranges::unique(result);
    result.erase(doubles.begin(), doubles.end());
    return result;
}

Result<AddressWatch> AddressWatch::open() {
    Descriptor socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
    if (socket.get() < 0 ||
        ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
        return api::fail(api::ErrorCode::kSystem, "watching this host's addresses", std::strerror(errno));
    }
    return AddressWatch(std::move(socket));
}

void AddressWatch::drain() const noexcept {
    std::array<char, 8192> buffer{};
    // Stops at EAGAIN; ENOBUFS only says that messages were lost.
    while (::recv(socket_.get(), buffer.data(), buffer.size(), 0) > 0 || errno == ENOBUFS) {
    }
}

}  // namespace detour::decap
