#include "control/health/bfd/runner_socket.h"

#include <net/if.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace detour::bfd {

namespace {

constexpr std::uint32_t kFirstSourcePort = 49152;
constexpr std::uint32_t kSourcePorts = 65536 - kFirstSourcePort;
constexpr int kPortAttempts = 64;
constexpr int kTtl = 255;
constexpr int kDscpCs6 = 0xc0;                   // network control
constexpr int kReceiveBuffer = 4 * 1024 * 1024;  // two seconds of 64 sessions, if the thread can't run

std::uint16_t port_of(Hop hop) {
    return hop == Hop::kSingle ? 3784 : 4784;
}

struct SocketAddress {
    sockaddr_storage storage{};
    socklen_t size = 0;
    [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

SocketAddress socket_address(const api::IpAddress& address, api::Port port, Interface scope) {
    SocketAddress result;
    if (address.is_v6()) {
        sockaddr_in6 to{};
        to.sin6_family = AF_INET6;
        to.sin6_port = htons(port.value());
        std::memcpy(&to.sin6_addr, address.bytes().data(), 16);
        if (IN6_IS_ADDR_LINKLOCAL(&to.sin6_addr)) to.sin6_scope_id = scope.value();
        std::memcpy(&result.storage, &to, sizeof to);
        result.size = sizeof to;
    } else {
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port.value());
        std::memcpy(&to.sin_addr, address.bytes().data(), 4);
        std::memcpy(&result.storage, &to, sizeof to);
        result.size = sizeof to;
    }
    return result;
}

api::IpAddress unspecified(Family family) {
    return family == Family::kV6 ? api::IpAddress::v6({}) : api::IpAddress::v4({});
}

api::IpAddress v4_address(const in_addr& address) {
    std::array<std::uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &address, 4);
    return api::IpAddress::v4(bytes);
}

api::IpAddress v6_address(const in6_addr& address) {
    std::array<std::uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), &address, 16);
    return api::IpAddress::v6(bytes);
}

api::Result<Descriptor> open_udp(Family family) {
    const int domain = family == Family::kV6 ? AF_INET6 : AF_INET;
    Descriptor socket(::socket(domain, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP));
    if (!socket) return system_error("a UDP socket");
    return socket;
}

struct Option {
    int level;
    int name;
    int value;
};

api::Result<void> set(const Descriptor& socket, std::span<const Option> options) {
    for (const Option& option : options)
        if (setsockopt(socket.get(), option.level, option.name, &option.value, sizeof option.value) != 0)
            return system_error("a socket option");
    return {};
}

template <class T>
T value_of(const cmsghdr* header) {
    T value{};
    std::memcpy(&value, CMSG_DATA(header), sizeof value);
    return value;
}

void read_ancillary(const cmsghdr* header, Arrival& arrival) {
    const auto is = [&](int level, int type) {
        return header->cmsg_level == level && header->cmsg_type == type;
    };
    if (is(IPPROTO_IP, IP_TTL) || is(IPPROTO_IPV6, IPV6_HOPLIMIT)) {
        arrival.ttl = Ttl{static_cast<std::uint8_t>(value_of<int>(header))};
    } else if (is(IPPROTO_IP, IP_PKTINFO)) {
        const auto info = value_of<in_pktinfo>(header);
        arrival.destination = v4_address(info.ipi_addr);
        arrival.interface = Interface{static_cast<unsigned>(info.ipi_ifindex)};
    } else if (is(IPPROTO_IPV6, IPV6_PKTINFO)) {
        const auto info = value_of<in6_pktinfo>(header);
        arrival.destination = v6_address(info.ipi6_addr);
        arrival.interface = Interface{info.ipi6_ifindex};
    }
}

api::IpAddress source_of(const sockaddr_storage& from) {
    if (from.ss_family == AF_INET6) {
        sockaddr_in6 address{};
        std::memcpy(&address, &from, sizeof address);
        return v6_address(address.sin6_addr);
    }
    sockaddr_in address{};
    std::memcpy(&address, &from, sizeof address);
    return v4_address(address.sin_addr);
}

/// EADDRINUSE is another session's or program's port: try the next random one.
api::Result<void> bind_source(const Descriptor& socket, const Path& path,
                              const std::function<std::uint32_t()>& random) {
    const api::IpAddress local = path.local.value_or(unspecified(family_of(path.remote)));
    for (int attempt = 0; attempt < kPortAttempts; ++attempt) {
        const api::Port port{static_cast<std::uint16_t>(kFirstSourcePort + random() % kSourcePorts)};
        const SocketAddress address = socket_address(local, port, path.interface);
        if (bind(socket.get(), address.get(), address.size) == 0) return {};
        if (errno != EADDRINUSE) break;
    }
    return system_error("source address " + local.to_string());
}

}  // namespace

Descriptor::~Descriptor() {
    if (fd_ >= 0) close(fd_);
}

tl::unexpected<api::Error> system_error(std::string what) {
    const int number = errno;
    const bool elsewhere = number == EADDRINUSE || number == EADDRNOTAVAIL;
    return api::fail(elsewhere ? api::ErrorCode::kUnavailable : api::ErrorCode::kSystem,
                     "adding a BFD session", what + ": " + std::generic_category().message(number));
}

api::Result<Interface> find_interface(const std::string& name) {
    if (name.empty()) return Interface{};
    const unsigned index = if_nametoindex(name.c_str());
    if (index == 0)
        return api::fail(api::ErrorCode::kNotFound, "adding a BFD session", "no interface \"" + name + "\"");
    return Interface{index};
}

api::Result<Descriptor> open_receiver(Hop hop, Family family) {
    auto socket = open_udp(family);
    if (!socket) return socket;
    static constexpr std::array kV4 = {Option{IPPROTO_IP, IP_PKTINFO, 1}, Option{IPPROTO_IP, IP_RECVTTL, 1}};
    static constexpr std::array kV6 = {Option{IPPROTO_IPV6, IPV6_V6ONLY, 1},
                                       Option{IPPROTO_IPV6, IPV6_RECVPKTINFO, 1},
                                       Option{IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1}};
    const auto done = family == Family::kV6 ? set(*socket, std::span<const Option>(kV6))
                                            : set(*socket, std::span<const Option>(kV4));
    if (!done) return tl::unexpected(done.error());
    // Best effort: without the right to pass the system's limit, the limit has to do.
    if (setsockopt(socket->get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof kReceiveBuffer) != 0)
        (void)setsockopt(socket->get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof kReceiveBuffer);
    const SocketAddress address = socket_address(unspecified(family), api::Port{port_of(hop)}, Interface{});
    if (bind(socket->get(), address.get(), address.size) != 0)
        return system_error("UDP port " + std::to_string(port_of(hop)));
    return socket;
}

std::optional<Datagram> receive(const Descriptor& socket, Hop hop, std::span<std::uint8_t> buffer) {
    sockaddr_storage from{};
    alignas(cmsghdr) std::array<char, 256> control{};
    iovec part{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_name = &from;
    message.msg_namelen = sizeof from;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t size = -1;
    do {
        size = recvmsg(socket.get(), &message, 0);
    } while (size < 0 && errno == EINTR);
    if (size < 0) return std::nullopt;
    Datagram datagram;
    datagram.payload = buffer.first(static_cast<std::size_t>(size));
    datagram.arrival.hop = hop;
    datagram.arrival.source = source_of(from);
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header))
        read_ancillary(header, datagram.arrival);
    return datagram;
}

api::Result<Sender> Sender::open(const Path& path, const std::function<std::uint32_t()>& random) {
    const Family family = family_of(path.remote);
    auto socket = open_udp(family);
    if (!socket) return tl::unexpected(socket.error());
    // Nothing is read from it: who sends to this port fills one small buffer.
    static constexpr std::array kV4 = {Option{IPPROTO_IP, IP_TTL, kTtl}, Option{IPPROTO_IP, IP_TOS, kDscpCs6},
                                       Option{SOL_SOCKET, SO_RCVBUF, 1}};
    static constexpr std::array kV6 = {Option{IPPROTO_IPV6, IPV6_UNICAST_HOPS, kTtl},
                                       Option{IPPROTO_IPV6, IPV6_TCLASS, kDscpCs6},
                                       Option{SOL_SOCKET, SO_RCVBUF, 1}};
    const auto done = family == Family::kV6 ? set(*socket, std::span<const Option>(kV6))
                                            : set(*socket, std::span<const Option>(kV4));
    if (!done) return tl::unexpected(done.error());
    std::array<char, IF_NAMESIZE> name{};
    if (path.interface != Interface{} && if_indextoname(path.interface.value(), name.data()) != nullptr &&
        setsockopt(socket->get(), SOL_SOCKET, SO_BINDTODEVICE, name.data(),
                   static_cast<socklen_t>(std::strlen(name.data()))) != 0)
        return system_error("binding to interface " + std::string(name.data()));
    if (const auto bound = bind_source(*socket, path, random); !bound) return tl::unexpected(bound.error());
    Sender sender;
    sender.socket_ = std::move(*socket);
    const SocketAddress to = socket_address(path.remote, api::Port{port_of(path.hop)}, path.interface);
    sender.to_ = to.storage;
    sender.to_size_ = to.size;
    return sender;
}

bool Sender::send(std::span<const std::uint8_t> payload) const {
    // Not connected, so that a peer's "port unreachable" does not eat the next packet.
    const ssize_t sent = sendto(socket_.get(), payload.data(), payload.size(), MSG_NOSIGNAL,
                                reinterpret_cast<const sockaddr*>(&to_), to_size_);
    return sent == static_cast<ssize_t>(payload.size());
}

}  // namespace detour::bfd
