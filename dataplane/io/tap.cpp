#include "dataplane/io/tap.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace detour::io {
namespace {

using api::ErrorCode;

std::string reason() {
    return std::generic_category().message(errno);
}

ifreq request_for(const std::string& name) {
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    return request;
}

tl::unexpected<api::Error> refused(const std::string& doing) {
    switch (errno) {
        case EBUSY:
            return api::fail(ErrorCode::kRefused, doing, "another process holds it");
        case EINVAL:
            return api::fail(ErrorCode::kRefused, doing, "an interface of this name exists and is no TAP");
        case EPERM:
            return api::fail(ErrorCode::kSystem, doing, "not permitted: CAP_NET_ADMIN is needed");
        default:
            return api::fail(ErrorCode::kSystem, doing, reason());
    }
}

api::Result<void> set_mac(int socket, const Tap::Setup& setup) {
    if (setup.mac == api::Mac{}) return {};
    ifreq request = request_for(setup.name);
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    std::memcpy(request.ifr_hwaddr.sa_data, setup.mac.bytes.data(), setup.mac.bytes.size());
    if (::ioctl(socket, SIOCSIFHWADDR, &request) == 0) return {};
    return api::fail(ErrorCode::kSystem, "giving " + setup.name + " the port's MAC address", reason());
}

api::Result<void> set_mtu(int socket, const Tap::Setup& setup) {
    ifreq request = request_for(setup.name);
    request.ifr_mtu = static_cast<int>(setup.mtu);
    if (::ioctl(socket, SIOCSIFMTU, &request) == 0) return {};
    return api::fail(ErrorCode::kSystem, "giving " + setup.name + " the MTU " + std::to_string(setup.mtu),
                     reason());
}

api::Result<void> bring_up(int socket, const Tap::Setup& setup) {
    ifreq request = request_for(setup.name);
    if (::ioctl(socket, SIOCGIFFLAGS, &request) == 0) {
        request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
        if (::ioctl(socket, SIOCSIFFLAGS, &request) == 0) return {};
    }
    return api::fail(ErrorCode::kSystem, "bringing up " + setup.name, reason());
}

}  // namespace

api::Result<Tap> Tap::open(const Setup& setup) {
    const std::string doing = "making the interface " + setup.name;
    Descriptor fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!fd.valid()) {
        return api::fail(ErrorCode::kSystem, doing, "/dev/net/tun: " + reason() + " (modprobe tun)");
    }
    ifreq request = request_for(setup.name);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) return refused(doing);
    if (::ioctl(fd.get(), TUNSETPERSIST, 1) != 0) return refused(doing);
    Tap tap(std::move(fd));
    if (auto done = tap.set_carrier(Carrier::kOff); !done) return tl::unexpected(done.error());
    const Descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket.valid()) return api::fail(ErrorCode::kSystem, doing, reason());
    for (const auto step : {set_mac, set_mtu, bring_up}) {
        if (auto done = step(socket.get(), setup); !done) return tl::unexpected(done.error());
    }
    return tap;
}

api::Result<void> Tap::set_carrier(Carrier carrier) {
    int value = carrier == Carrier::kOn ? 1 : 0;
    if (::ioctl(fd_.get(), TUNSETCARRIER, &value) == 0) return {};
    return api::fail(ErrorCode::kSystem, "showing the link's state", reason());
}

std::size_t Tap::read(std::span<std::uint8_t> buffer) const noexcept {
    const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
    return got > 0 ? static_cast<std::size_t>(got) : 0;
}

bool Tap::write(std::span<const std::uint8_t> frame) const noexcept {
    return ::write(fd_.get(), frame.data(), frame.size()) == static_cast<ssize_t>(frame.size());
}

void Tap::forget() const noexcept {
    ::ioctl(fd_.get(), TUNSETPERSIST, 0);
}

}  // namespace detour::io
