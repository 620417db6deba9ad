#include "control/health/tunnel.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <string>
#include <unordered_map>
#include <utility>

#include "control/health/tunnel_device.h"
#include "control/health/tunnel_packet.h"

namespace detour::health {

namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using std::chrono::steady_clock;

/// Packets of one turn of the loop.
constexpr int kPacketsPerTurn = 256;
/// How long a lease that ended still carries its socket's last packets.
constexpr std::chrono::seconds kLinger{2};

union Address {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
    sockaddr_storage storage;
};

socklen_t fill(Address& out, const api::IpAddress& address) {
    out = {};
    if (address.is_v6()) {
        out.v6.sin6_family = AF_INET6;
        std::memcpy(&out.v6.sin6_addr, address.bytes().data(), 16);
        return sizeof out.v6;
    }
    out.v4.sin_family = AF_INET;
    std::memcpy(&out.v4.sin_addr, address.bytes().data(), 4);
    return sizeof out.v4;
}

error_code last_error() {
    return {errno, boost::system::system_category()};
}

template <class T>
bool set(int socket, int level, int name, T value) {
    return setsockopt(socket, level, name, &value, sizeof value) == 0;
}

/// An address of this host: a socket can be bound to it.
bool is_ours(const api::IpAddress& address) {
    const int socket = ::socket(address.is_v6() ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket < 0) return false;
    Address at;
    const socklen_t size = fill(at, address);
    const bool bound = bind(socket, &at.any, size) == 0;
    close(socket);
    return bound;
}

/// Both families' addresses of one thing, as far as there are any.
struct Pair {
    std::optional<api::IpAddress> v4, v6;
    [[nodiscard]] const std::optional<api::IpAddress>& of(bool is_v6) const { return is_v6 ? v6 : v4; }
};

/// Where answers may come to.
api::Result<Pair> find_sources(const config::Config& config) {
    Pair wanted{config.dataplane.source_v4, config.dataplane.source_v6};
    for (const auto& address : config.control.probe_source)
        (address.is_v6() ? wanted.v6 : wanted.v4) = address;
    Pair found;
    for (const auto& pool : config.pools) {
        if (pool.health.via != config::Via::kTunnel) continue;
        for (const auto& vip : pool.vips) {
            const bool v6 = vip.address.is_v6();
            const auto& source = wanted.of(v6);
            (v6 ? found.v6 : found.v4) = source;
            if (source && is_ours(*source)) continue;
            const std::string why =
                source ? source->to_string() + " is no address of this host" : "none is set";
            return api::fail(
                api::ErrorCode::kInvalidArgument,
                std::string("choosing the source of tunnel probes to ") + (v6 ? "IPv6" : "IPv4") + " VIPs",
                why + ": set control.probe_source to an address of this host that every site can reach");
        }
    }
    return found;
}

class RawSocket {
  public:
    explicit RawSocket(int family) : socket_(::socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)) {
        if (family == AF_INET6) (void)set(socket_, IPPROTO_IPV6, IPV6_HDRINCL, 1);
    }
    ~RawSocket() {
        if (socket_ >= 0) close(socket_);
    }
    RawSocket(const RawSocket&) = delete;
    RawSocket& operator=(const RawSocket&) = delete;
    [[nodiscard]] bool is_open() const { return socket_ >= 0; }
    bool send(std::span<const std::uint8_t> packet, const api::IpAddress& to) {
        Address address;
        const socklen_t size = fill(address, to);
        return sendto(socket_, packet.data(), packet.size(), MSG_DONTWAIT, &address.any, size) >= 0;
    }

  private:
    int socket_;
};

std::uint32_t number(const ProbeKey& key) {
    return static_cast<std::uint32_t>(key.protocol) << 16U | (key.v6 ? 1U << 24U : 0U) | key.port;
}

}  // namespace

bool wants_tunnel(const config::Config& config) {
    return std::ranges::any_of(config.pools,
                               [](const auto& pool) { return pool.health.via == config::Via::kTunnel; });
}

class Tunnel::State : public std::enable_shared_from_this<Tunnel::State> {
  public:
    State(asio::io_context& io, std::unique_ptr<TunnelDevice> device)
        : device_(std::move(device)), readable_(io, ::dup(device_->descriptor())) {}

    [[nodiscard]] bool can_send() const { return raw_v4_.is_open(); }

    api::Result<void> use(const config::Config& config) {
        auto sources = find_sources(config);
        if (!sources) return tl::unexpected(sources.error());
        sources_ = *sources;
        ends_ = {config.dataplane.source_v4, config.dataplane.source_v6};
        seed_ = core::make_hash_seed(api::FleetSeed::from_text(config.pop.fleet_seed));
        return {};
    }

    void stop() {
        readable_.close();
        device_.reset();
    }

    void wait() {
        readable_.async_wait(asio::posix::stream_descriptor::wait_read,
                             [weak = weak_from_this()](const error_code& ec) {
                                 const auto self = weak.lock();
                                 if (ec || !self) return;
                                 self->forward();
                                 self->wait();
                             });
    }

    error_code prepare(int socket, const ProbeRequest& asked, Lease& lease, std::uint16_t identifier) {
        if (!device_ || !asked.tunnel) return {ENODEV, boost::system::system_category()};
        const bool v6 = asked.tunnel->vip.is_v6();
        const auto& source = sources_.of(v6);
        const auto& outer = ends_.of(asked.address.is_v6());
        if (!source || !outer) return {EADDRNOTAVAIL, boost::system::system_category()};
        int protocol = 0;
        socklen_t size = sizeof protocol;
        if (getsockopt(socket, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) != 0) return last_error();
        Entry entry{make_tunnel_end(asked, *outer), asked.serial, false};
        const int headers = v6 ? 60 : 40;
        // What a client's stack has learnt after the first ICMP error.
        if (protocol == IPPROTO_TCP &&
            !set(socket, IPPROTO_TCP, TCP_MAXSEG, entry.end.backend.max_inner - headers))
            return last_error();
        if (!set(socket, SOL_SOCKET, SO_MARK, device_->mark())) return last_error();
        Address at;
        size = fill(at, *source);
        if (bind(socket, &at.any, size) != 0 || getsockname(socket, &at.any, &size) != 0) return last_error();
        const std::uint16_t port =
            identifier != 0 ? identifier : ntohs(v6 ? at.v6.sin6_port : at.v4.sin_port);
        hold(number({static_cast<std::uint8_t>(protocol), v6, port}), std::move(entry), lease);
        return {};
    }

    void release(std::uint32_t key, std::uint64_t serial) {
        const auto found = leases_.find(key);
        if (found == leases_.end() || found->second.serial != serial) return;
        found->second.ended = true;
        const auto now = steady_clock::now();
        ended_.push_back({now, key, serial});
        while (!ended_.empty() && now - ended_.front().at > kLinger) {
            const auto old = leases_.find(ended_.front().key);
            if (old != leases_.end() && old->second.ended && old->second.serial == ended_.front().serial)
                leases_.erase(old);
            ended_.pop_front();
        }
    }

    TunnelCounters counters;

  private:
    struct Entry {
        TunnelEnd end;
        std::uint64_t serial = 0;
        bool ended = false;
    };
    struct Ended {
        steady_clock::time_point at;
        std::uint32_t key;
        std::uint64_t serial;
    };

    void hold(std::uint32_t key, Entry entry, Lease& lease) {
        const auto before = leases_.find(key);
        // What the port's last owner still has in the device is for its own backend.
        if (before != leases_.end()) forward();
        leases_.insert_or_assign(key, std::move(entry));
        Lease fresh;
        fresh.state_ = weak_from_this();
        fresh.key_ = key;
        fresh.serial_ = leases_.at(key).serial;
        lease = std::move(fresh);
    }

    void forward() {
        for (int i = 0; i < kPacketsPerTurn && device_; ++i) {
            const auto room = packet_.room();
            const ssize_t size = read(device_->descriptor(), room.data(), room.size());
            if (size <= 0) return;
            forward_one(static_cast<std::size_t>(size));
        }
    }

    void forward_one(std::size_t size) {
        const auto key = packet_.read(size);
        const auto found = key ? leases_.find(number(*key)) : leases_.end();
        if (found == leases_.end()) {
            ++counters.unknown;
            return;
        }
        const TunnelEnd& end = found->second.end;
        const auto outer = packet_.wrap(end, seed_);
        if (outer.empty()) {
            ++counters.too_big;
        } else if ((end.address.is_v6() ? raw_v6_ : raw_v4_).send(outer, end.address)) {
            ++counters.sent;
        } else {
            ++counters.refused;
        }
    }

    std::unique_ptr<TunnelDevice> device_;
    asio::posix::stream_descriptor readable_;
    RawSocket raw_v4_{AF_INET};
    RawSocket raw_v6_{AF_INET6};
    Pair sources_;  ///< of the probes
    Pair ends_;     ///< of the tunnels
    core::HashSeed seed_;
    TunnelPacket packet_;
    std::unordered_map<std::uint32_t, Entry> leases_;
    std::deque<Ended> ended_;
};

Tunnel::Lease::Lease(Lease&& other) noexcept
    : state_(std::exchange(other.state_, {})), key_(other.key_), serial_(other.serial_) {}

Tunnel::Lease& Tunnel::Lease::operator=(Lease&& other) noexcept {
    std::swap(state_, other.state_);
    std::swap(key_, other.key_);
    std::swap(serial_, other.serial_);
    return *this;
}

Tunnel::Lease::~Lease() {
    if (const auto state = state_.lock()) state->release(key_, serial_);
}

api::Result<std::unique_ptr<Tunnel>> Tunnel::open(asio::io_context& io, const config::Config& config) {
    auto device = TunnelDevice::open(config.control.probe_mark);
    if (!device) return tl::unexpected(device.error());
    auto state = std::make_shared<State>(io, std::move(*device));
    if (!state->can_send())
        return api::fail(api::ErrorCode::kSystem, "opening a raw socket for tunnel probes",
                         std::string(std::strerror(errno)) + " (this needs CAP_NET_RAW)");
    if (auto used = state->use(config); !used) return tl::unexpected(used.error());
    state->wait();
    return std::unique_ptr<Tunnel>(new Tunnel(std::move(state)));
}

Tunnel::~Tunnel() {
    state_->stop();
}

api::Result<void> Tunnel::use(const config::Config& config) {
    return state_->use(config);
}

error_code Tunnel::prepare(int socket, const ProbeRequest& asked, Lease& lease, std::uint16_t identifier) {
    return state_->prepare(socket, asked, lease, identifier);
}

const TunnelCounters& Tunnel::counters() const {
    return state_->counters;
}

}  // namespace detour::health
