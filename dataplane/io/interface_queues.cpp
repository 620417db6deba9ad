#include "dataplane/io/interface_queues.h"

#include <fmt/format.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "dataplane/io/descriptor.h"

namespace detour::io {

api::Result<unsigned> interface_queues(const std::string& name) {
    const std::string doing = "asking how many queues " + name + " has";
    const Descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ethtool_channels channels{};
    channels.cmd = ETHTOOL_GCHANNELS;
    ifreq request{};
    std::memcpy(request.ifr_name, name.c_str(), std::min(name.size(), sizeof request.ifr_name - 1));
    request.ifr_data = reinterpret_cast<char*>(&channels);
    if (::ioctl(socket.get(), SIOCETHTOOL, &request) != 0) {
        // A device that knows no channels has one queue.
        if (errno == EOPNOTSUPP) return 1U;
        const auto code = errno == ENODEV ? api::ErrorCode::kNotFound : api::ErrorCode::kSystem;
        return api::fail(code, doing, std::generic_category().message(errno));
    }
    if (channels.max_combined > 0 && channels.rx_count == 0) return std::max(1U, channels.combined_count);
    if (channels.combined_count + channels.rx_count <= 1) return 1U;
    return api::fail(api::ErrorCode::kRefused, doing,
                     fmt::format("{} receive queues of their own, of which AF_XDP would serve one: "
                                 "ethtool -L {} rx 1",
                                 channels.rx_count, name));
}

}  // namespace detour::io
