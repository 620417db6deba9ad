// A netlink socket: requests that the kernel answers inside the call, and notifications.
//
// Owns the descriptor. One thread. Only the kernel's messages are taken (the sender's port id is 0).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "control/publish/netlink_messages.h"
#include "dataplane/api/result.h"

namespace detour::publish {

class NetlinkSocket {
  public:
    NetlinkSocket() = default;
    ~NetlinkSocket();
    NetlinkSocket(NetlinkSocket&& other) noexcept;
    NetlinkSocket& operator=(NetlinkSocket&& other) noexcept;
    NetlinkSocket(const NetlinkSocket&) = delete;
    NetlinkSocket& operator=(const NetlinkSocket&) = delete;

    enum class Use : std::uint8_t {
        kRequests,       ///< receives wait, at most 500 ms
        kNotifications,  ///< links, neighbours, routes, rules, next hops; receives do not wait
    };
    /// Error kSystem with the kernel's reason.
    [[nodiscard]] static api::Result<NetlinkSocket> open(Use use);

    [[nodiscard]] int descriptor() const { return descriptor_; }

    [[nodiscard]] api::Result<void> send(std::span<const std::uint8_t> request);
    /// The next datagram's messages; empty when there is none now. Error kLimit: notifications were lost,
    /// read everything anew. Error kInvalidArgument: a message does not fit, the datagram is thrown away.
    [[nodiscard]] api::Result<std::vector<netlink::Message>> receive();
    /// Throws away what waits. For sockets of either use; does not wait.
    void drain();
    /// Sends a dump request and collects what comes, up to its end.
    [[nodiscard]] api::Result<std::vector<netlink::Message>> dump(netlink::Dump what);
    /// How the kernel reaches `destination`, and by which other ways it could. Error kNotFound: it has no
    /// route, with its reason.
    [[nodiscard]] api::Result<netlink::Route> route_to(const api::IpAddress& destination);

    [[nodiscard]] std::uint32_t next_sequence() { return ++sequence_; }

  private:
    [[nodiscard]] api::Result<netlink::Route> ask(const api::IpAddress& destination, netlink::Ask what);

    explicit NetlinkSocket(int descriptor) : descriptor_(descriptor) {}

    int descriptor_ = -1;
    std::uint32_t sequence_ = 0;
};

}  // namespace detour::publish
