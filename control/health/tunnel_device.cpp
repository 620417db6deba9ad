#include "control/health/tunnel_device.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "control/health/tunnel_routes.h"

namespace detour::health {

namespace {

constexpr std::uint32_t kMarkPreference = 1;
constexpr std::uint32_t kLocalPreference = 2;
constexpr RoutingRule kLocalFirst{0, RT_TABLE_LOCAL, 0};
constexpr RoutingRule kLocalMoved{kLocalPreference, RT_TABLE_LOCAL, 0};
/// More than any tunnel carries: what is too big for one is noticed there, not here.
constexpr int kDeviceMtu = 9'900;
constexpr const char* kAcceptLocal = "/proc/sys/net/ipv4/conf/all/accept_local";

api::Error system_error(const std::string& what) {
    const int error = errno;
    std::string why = std::strerror(error);
    if (error == EPERM || error == EACCES) why += " (this needs CAP_NET_ADMIN)";
    return {api::ErrorCode::kSystem, what, why};
}

std::string read_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

bool write_line(const std::string& path, const std::string& line) {
    std::ofstream file(path);
    file << line << std::endl;
    return file.good();
}

/// The interface's state by ioctl: no address, so IPv6 makes no chatter of its own.
api::Result<std::uint32_t> bring_up() {
    const std::string what = std::string("bringing ") + kTunnelDevice + " up";
    (void)write_line(std::string("/proc/sys/net/ipv6/conf/") + kTunnelDevice + "/addr_gen_mode", "1");
    const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket < 0) return tl::unexpected(system_error(what));
    ifreq request{};
    std::strncpy(request.ifr_name, kTunnelDevice, IFNAMSIZ - 1);
    request.ifr_mtu = kDeviceMtu;
    bool good = ioctl(socket, SIOCSIFMTU, &request) == 0;
    request.ifr_flags = IFF_UP | IFF_RUNNING | IFF_NOARP;
    good = good && ioctl(socket, SIOCSIFFLAGS, &request) == 0;
    const auto failure = system_error(what);
    close(socket);
    if (!good) return tl::unexpected(failure);
    return if_nametoindex(kTunnelDevice);
}

bool host_has_ipv6() {
    return std::filesystem::exists("/proc/net/if_inet6");
}

}  // namespace

/// What has to be put back.
struct TunnelDevice::Undo {
    std::vector<Family> ruled;
    std::vector<Family> moved;
    bool accept_local = false;
};

TunnelDevice::TunnelDevice(int descriptor, std::uint32_t mark)
    : descriptor_(descriptor), mark_(mark), undo_(std::make_unique<Undo>()) {}

api::Result<std::unique_ptr<TunnelDevice>> TunnelDevice::open(std::uint32_t mark) {
    const int descriptor = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return tl::unexpected(system_error("opening /dev/net/tun for tunnel probes"));
    std::unique_ptr<TunnelDevice> device(new TunnelDevice(descriptor, mark));
    ifreq request{};
    std::strncpy(request.ifr_name, kTunnelDevice, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (ioctl(descriptor, TUNSETIFF, &request) != 0)
        return tl::unexpected(system_error(std::string("making the device ") + kTunnelDevice));
    if (auto done = device->configure(); !done) return tl::unexpected(done.error());
    return device;
}

api::Result<void> TunnelDevice::configure() {
    const auto interface = bring_up();
    if (!interface) return tl::unexpected(interface.error());
    auto rules = RoutingRules::open();
    if (!rules) return tl::unexpected(rules.error());
    for (const Family family : {Family::kV4, Family::kV6}) {
        if (family == Family::kV6 && !host_has_ipv6()) continue;
        if (auto done = rules->add_default(family, mark_, *interface); !done) return done;
        undo_->ruled.push_back(family);
        if (auto done = rules->add(family, {kMarkPreference, mark_, mark_}); !done) return done;
        const auto local = rules->local_preferences(family);
        if (!local) return tl::unexpected(local.error());
        const auto has = [&](std::uint32_t preference) { return std::ranges::count(*local, preference) > 0; };
        // Anywhere else, and somebody had it moved behind us already.
        if (!has(0) && !has(kLocalPreference)) continue;
        undo_->moved.push_back(family);
        if (auto done = rules->add(family, kLocalMoved); !done) return done;
        if (auto done = rules->remove(family, kLocalFirst); !done) return done;
    }
    if (read_line(kAcceptLocal) == "1") return {};
    if (!write_line(kAcceptLocal, "1"))
        return tl::unexpected(system_error("setting net.ipv4.conf.all.accept_local"));
    undo_->accept_local = true;
    return {};
}

TunnelDevice::~TunnelDevice() {
    // The device first: from here on nothing is routed to it.
    close(descriptor_);
    if (undo_->accept_local) (void)write_line(kAcceptLocal, "0");
    auto rules = RoutingRules::open();
    if (!rules) return;
    for (const Family family : undo_->moved) {
        // Never a moment without the local table: what can't be put back stays where it works too.
        if (rules->add(family, kLocalFirst)) (void)rules->remove(family, kLocalMoved);
    }
    for (const Family family : undo_->ruled) (void)rules->remove(family, {kMarkPreference, mark_, mark_});
}

}  // namespace detour::health
