#include "control/publish/netlink_socket.h"

#include <fmt/format.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace detour::publish {

namespace {

constexpr std::size_t kBufferBytes = 1U << 16U;
constexpr int kReceiveBytes = 4 << 20;          ///< bursts of notifications
constexpr std::size_t kMaxDumpParts = 100'000;  ///< a bound for a dump that never ends

tl::unexpected<api::Error> system_error(const char* doing) {
    return api::fail(api::ErrorCode::kSystem, doing, std::strerror(errno));
}

bool set_option(int descriptor, int level, int name, int value) {
    return setsockopt(descriptor, level, name, &value, sizeof(value)) == 0;
}

bool subscribe(int descriptor) {
    for (const int group : {RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
                            RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_NEXTHOP}) {
        if (!set_option(descriptor, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)) return false;
    }
    // Only root may pass the limit; the plain option is the fallback.
    if (!set_option(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, kReceiveBytes)) {
        (void)set_option(descriptor, SOL_SOCKET, SO_RCVBUF, kReceiveBytes);
    }
    return true;
}

}  // namespace

NetlinkSocket::~NetlinkSocket() {
    if (descriptor_ >= 0) close(descriptor_);
}

NetlinkSocket::NetlinkSocket(NetlinkSocket&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), sequence_(other.sequence_) {}

NetlinkSocket& NetlinkSocket::operator=(NetlinkSocket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(sequence_, other.sequence_);
    return *this;
}

api::Result<NetlinkSocket> NetlinkSocket::open(Use use) {
    constexpr const char* kDoing = "opening a netlink socket";
    const int wait = use == Use::kNotifications ? SOCK_NONBLOCK : 0;
    NetlinkSocket opened(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | wait, NETLINK_ROUTE));
    if (opened.descriptor_ < 0) return system_error(kDoing);
    sockaddr_nl local{};
    local.nl_family = AF_NETLINK;
    if (bind(opened.descriptor_, reinterpret_cast<const sockaddr*>(&local), sizeof(local)) != 0) {
        return system_error(kDoing);
    }
    if (use == Use::kNotifications) {
        if (!subscribe(opened.descriptor_)) return system_error("subscribing to the kernel's routes");
        return opened;
    }
    // The kernel answers inside the send call; the limit is for the case that it ever does not.
    const timeval limit{0, 500'000};
    if (setsockopt(opened.descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0) {
        return system_error(kDoing);
    }
    return opened;
}

api::Result<void> NetlinkSocket::send(std::span<const std::uint8_t> request) {
    if (::send(descriptor_, request.data(), request.size(), 0) < 0)
        return system_error("asking the kernel for routes");
    return {};
}

api::Result<std::vector<netlink::Message>> NetlinkSocket::receive() {
    alignas(nlmsghdr) std::array<std::uint8_t, kBufferBytes> buffer;
    sockaddr_nl sender{};
    socklen_t sender_size = sizeof(sender);
    const ssize_t size = recvfrom(descriptor_, buffer.data(), buffer.size(), MSG_TRUNC,
                                  reinterpret_cast<sockaddr*>(&sender), &sender_size);
    if (size < 0) {
        if (errno == EAGAIN || errno == EINTR) return std::vector<netlink::Message>{};
        if (errno == ENOBUFS) {
            return api::fail(api::ErrorCode::kLimit, "following the kernel's routes",
                             "notifications were lost");
        }
        return system_error("reading the kernel's routes");
    }
    const auto bytes = static_cast<std::size_t>(size);
    if (bytes > buffer.size()) {
        return api::fail(api::ErrorCode::kInvalidArgument, "reading the kernel's routes",
                         fmt::format("{} bytes in one message", bytes));
    }
    if (sender.nl_pid != 0) return std::vector<netlink::Message>{};
    return netlink::parse({buffer.data(), bytes});
}

void NetlinkSocket::drain() {
    std::array<std::uint8_t, 512> ignored;
    for (int i = 0; i < 1024 && recv(descriptor_, ignored.data(), ignored.size(), MSG_DONTWAIT) >= 0; ++i) {
    }
}

api::Result<std::vector<netlink::Message>> NetlinkSocket::dump(netlink::Dump what) {
    const std::uint32_t sequence = next_sequence();
    if (auto sent = send(netlink::dump_request(what, sequence)); !sent) return tl::unexpected(sent.error());
    std::vector<netlink::Message> all;
    for (std::size_t part = 0; part < kMaxDumpParts; ++part) {
        auto messages = receive();
        if (!messages) return messages;
        if (messages->empty()) break;
        for (auto& message : *messages) {
            if (const auto* done = std::get_if<netlink::Done>(&message); done != nullptr) {
                if (done->sequence == sequence) return all;
            } else if (std::holds_alternative<netlink::Link>(message) ||
                       std::holds_alternative<netlink::Neighbour>(message)) {
                all.push_back(std::move(message));
            }
        }
    }
    return api::fail(api::ErrorCode::kTimeout, "reading the kernel's routes", "the list does not end");
}

api::Result<netlink::Route> NetlinkSocket::route_to(const api::IpAddress& destination) {
    auto route = ask(destination, netlink::Ask::kChosen);
    // What is on the link has one way. A kernel that does not know the second question names no other ways.
    if (!route || !route->gateway) return route;
    if (auto all = ask(destination, netlink::Ask::kAllPaths)) route->paths = std::move(all->paths);
    return route;
}

api::Result<netlink::Route> NetlinkSocket::ask(const api::IpAddress& destination, netlink::Ask what) {
    const std::uint32_t sequence = next_sequence();
    if (auto sent = send(netlink::route_request(destination, what, sequence)); !sent)
        return tl::unexpected(sent.error());
    // Answers to earlier requests (neighbours asked for) may stand before ours: a bounded number is passed
    // over.
    for (int tries = 0; tries < 1024; ++tries) {
        const auto messages = receive();
        if (!messages) return tl::unexpected(messages.error());
        if (messages->empty()) break;
        for (const auto& message : *messages) {
            if (const auto* answer = std::get_if<netlink::RouteAnswer>(&message);
                answer != nullptr && answer->sequence == sequence) {
                return answer->route;
            }
            if (const auto* refused = std::get_if<netlink::Acknowledged>(&message);
                refused != nullptr && refused->sequence == sequence) {
                return api::fail(api::ErrorCode::kNotFound, "looking up a route",
                                 fmt::format("no route to {}: {}", destination.to_string(),
                                             std::strerror(refused->error)));
            }
        }
    }
    return api::fail(api::ErrorCode::kTimeout, "looking up a route",
                     "the kernel did not answer about " + destination.to_string());
}

}  // namespace detour::publish
