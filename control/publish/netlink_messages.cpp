#include "control/publish/netlink_messages.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "dataplane/api/limits.h"

namespace detour::publish::netlink {

namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr int kMaxErrno = 4095;

constexpr std::size_t align4(std::size_t size) {
    return (size + 3) & ~std::size_t{3};
}

/// A fixed header at the front of `bytes`; false when there are too few.
template <class T>
bool read(Bytes bytes, T& value) {
    if (bytes.size() < sizeof(T)) return false;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return true;
}

Bytes behind(Bytes bytes, std::size_t size) {
    size = align4(size);
    return size >= bytes.size() ? Bytes{} : bytes.subspan(size);
}

/// Calls `use(type, payload)` for each attribute; false when a length does not fit.
template <class Use>
bool for_each_attribute(Bytes bytes, Use use) {
    nlattr head{};
    while (read(bytes, head)) {
        if (head.nla_len < sizeof(nlattr) || head.nla_len > bytes.size()) return false;
        use(head.nla_type & NLA_TYPE_MASK, bytes.subspan(sizeof(nlattr), head.nla_len - sizeof(nlattr)));
        bytes = behind(bytes, head.nla_len);
    }
    return true;
}

std::uint32_t read_u32(Bytes bytes) {
    std::uint32_t value = 0;
    return read(bytes, value) ? value : 0;
}

std::optional<api::IpAddress> read_address(Bytes bytes) {
    const auto address =
        api::IpAddress::from_bytes({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    return address ? std::optional(*address) : std::nullopt;
}

std::optional<api::Mac> read_mac(Bytes bytes) {
    api::Mac mac;
    if (bytes.size() != mac.bytes.size()) return std::nullopt;
    std::memcpy(mac.bytes.data(), bytes.data(), bytes.size());
    return mac;
}

/// RTA_VIA: the family in host order, then the address.
std::optional<api::IpAddress> read_via(Bytes bytes) {
    return bytes.size() < 2 ? std::nullopt : read_address(bytes.subspan(2));
}

std::uint32_t read_route_mtu(Bytes metrics) {
    std::uint32_t mtu = 0;
    (void)for_each_attribute(metrics, [&](int type, Bytes value) {
        if (type == RTAX_MTU) mtu = read_u32(value);
    });
    return mtu;
}

/// RTA_MULTIPATH: for each way a fixed header and then attributes, all of them inside the header's length.
bool read_paths(Bytes bytes, std::vector<Path>& paths) {
    constexpr unsigned kUnusable = RTNH_F_DEAD | RTNH_F_LINKDOWN | RTNH_F_UNRESOLVED;
    rtnexthop head{};
    while (read(bytes, head)) {
        if (head.rtnh_len < sizeof(head) || head.rtnh_len > bytes.size()) return false;
        Path path;
        path.interface = static_cast<std::uint32_t>(head.rtnh_ifindex);
        const bool fits = for_each_attribute(bytes.subspan(sizeof(head), head.rtnh_len - sizeof(head)),
                                             [&](int type, Bytes value) {
                                                 if (type == RTA_GATEWAY) path.gateway = read_address(value);
                                                 if (type == RTA_VIA) path.gateway = read_via(value);
                                             });
        if (!fits) return false;
        if ((head.rtnh_flags & kUnusable) == 0 && paths.size() < kMaxPaths) paths.push_back(path);
        bytes = behind(bytes, head.rtnh_len);
    }
    return true;
}

bool parse_route(const nlmsghdr& head, Bytes body, std::vector<Message>& out) {
    rtmsg message{};
    if (!read(body, message)) return false;
    if (head.nlmsg_type == RTM_DELROUTE) {
        out.emplace_back(RoutesChanged{});
        return true;
    }
    RouteAnswer answer{head.nlmsg_seq, {}};
    answer.route.unicast = message.rtm_type == RTN_UNICAST;
    bool paths_fit = true;
    const bool fits = for_each_attribute(behind(body, sizeof(message)), [&](int type, Bytes value) {
        if (type == RTA_OIF) answer.route.interface = read_u32(value);
        if (type == RTA_GATEWAY) answer.route.gateway = read_address(value);
        if (type == RTA_VIA) answer.route.gateway = read_via(value);
        if (type == RTA_METRICS) answer.route.mtu = read_route_mtu(value);
        if (type == RTA_MULTIPATH) paths_fit = read_paths(value, answer.route.paths) && paths_fit;
    });
    if (!fits || !paths_fit) return false;
    out.emplace_back(std::move(answer));
    return true;
}

bool parse_neighbour(const nlmsghdr& head, Bytes body, std::vector<Message>& out) {
    ndmsg message{};
    if (!read(body, message)) return false;
    if (message.ndm_family != AF_INET && message.ndm_family != AF_INET6) return true;
    Neighbour neighbour;
    neighbour.interface = static_cast<std::uint32_t>(message.ndm_ifindex);
    neighbour.state = message.ndm_state;
    neighbour.removed = head.nlmsg_type == RTM_DELNEIGH;
    std::optional<api::IpAddress> address;
    const bool fits = for_each_attribute(behind(body, sizeof(message)), [&](int type, Bytes value) {
        if (type == NDA_DST) address = read_address(value);
        if (type == NDA_LLADDR) neighbour.mac = read_mac(value);
    });
    if (!fits) return false;
    if (!address || address->is_v6() != (message.ndm_family == AF_INET6)) return true;  // a proxy's entry
    neighbour.address = *address;
    out.emplace_back(neighbour);
    return true;
}

/// IFLA_LINKINFO: the kind, then what is particular to it. 802.1ad tags are not ours to send.
std::uint16_t read_vlan(Bytes info) {
    std::string_view kind;
    Bytes data;
    (void)for_each_attribute(info, [&](int type, Bytes value) {
        const auto* text = reinterpret_cast<const char*>(value.data());
        if (type == IFLA_INFO_KIND) kind = {text, strnlen(text, value.size())};
        if (type == IFLA_INFO_DATA) data = value;
    });
    if (kind != "vlan") return 0;
    std::uint16_t id = 0;
    std::uint16_t protocol = htons(ETH_P_8021Q);
    (void)for_each_attribute(data, [&](int type, Bytes value) {
        if (type == IFLA_VLAN_ID) (void)read(value, id);
        if (type == IFLA_VLAN_PROTOCOL) (void)read(value, protocol);
    });
    return protocol == htons(ETH_P_8021Q) && id <= api::kMaxVlan ? id : std::uint16_t{0};
}

bool parse_link(const nlmsghdr& head, Bytes body, std::vector<Message>& out) {
    ifinfomsg message{};
    if (!read(body, message)) return false;
    // Bridges send messages of family AF_BRIDGE about their ports; they say nothing about the link itself.
    if (message.ifi_family != AF_UNSPEC) return true;
    Link link;
    link.interface = static_cast<std::uint32_t>(message.ifi_index);
    link.up = (message.ifi_flags & IFF_UP) != 0;
    link.carrier = (message.ifi_flags & IFF_LOWER_UP) != 0;
    link.removed = head.nlmsg_type == RTM_DELLINK;
    const bool fits = for_each_attribute(behind(body, sizeof(message)), [&](int type, Bytes value) {
        if (type == IFLA_ADDRESS) link.mac = read_mac(value);
        if (type == IFLA_MTU) link.mtu = read_u32(value);
        if (type == IFLA_LINK) link.parent = read_u32(value);
        if (type == IFLA_LINKINFO) link.vlan = read_vlan(value);
        if (type == IFLA_IFNAME && !value.empty()) {
            const auto* text = reinterpret_cast<const char*>(value.data());
            link.name.assign(text, strnlen(text, value.size()));
        }
    });
    if (fits) out.emplace_back(std::move(link));
    return fits;
}

bool parse_one(const nlmsghdr& head, Bytes body, std::vector<Message>& out) {
    switch (head.nlmsg_type) {
        case NLMSG_ERROR: {
            nlmsgerr error{};
            if (!read(body, error)) return false;
            // An errno, negative; whatever else it says is no success either.
            const bool is_errno = error.error <= 0 && error.error >= -kMaxErrno;
            out.emplace_back(Acknowledged{head.nlmsg_seq, is_errno ? -error.error : EPROTO});
            return true;
        }
        case NLMSG_DONE:
            out.emplace_back(Done{head.nlmsg_seq});
            return true;
        case RTM_NEWROUTE:
        case RTM_DELROUTE:
            return parse_route(head, body, out);
        case RTM_NEWNEIGH:
        case RTM_DELNEIGH:
            return parse_neighbour(head, body, out);
        case RTM_NEWLINK:
        case RTM_DELLINK:
            return parse_link(head, body, out);
        case RTM_NEWRULE:
        case RTM_DELRULE:
        case RTM_NEWNEXTHOP:
        case RTM_DELNEXTHOP:
            out.emplace_back(RoutesChanged{});
            return true;
        default:
            return true;
    }
}

template <class Header>
std::vector<std::uint8_t> request(std::uint16_t type, std::uint16_t flags, std::uint32_t sequence,
                                  const Header& header, const api::IpAddress* address,
                                  std::uint16_t attribute) {
    std::array<std::uint8_t, 256> buffer{};
    nlmsghdr* message = mnl_nlmsg_put_header(buffer.data());
    message->nlmsg_type = type;
    message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    message->nlmsg_seq = sequence;
    std::memcpy(mnl_nlmsg_put_extra_header(message, sizeof(Header)), &header, sizeof(Header));
    if (address != nullptr) mnl_attr_put(message, attribute, address->size(), address->bytes().data());
    return {buffer.begin(), buffer.begin() + message->nlmsg_len};
}

std::uint8_t family_of(const api::IpAddress& address) {
    return address.is_v6() ? AF_INET6 : AF_INET;
}

}  // namespace

api::Result<std::vector<Message>> parse(std::span<const std::uint8_t> datagram) {
    std::vector<Message> messages;
    nlmsghdr head{};
    while (read(datagram, head)) {
        const bool fits = head.nlmsg_len >= sizeof(nlmsghdr) && head.nlmsg_len <= datagram.size();
        if (!fits ||
            !parse_one(head, datagram.subspan(sizeof(head), head.nlmsg_len - sizeof(head)), messages)) {
            return api::fail(api::ErrorCode::kInvalidArgument, "reading the kernel's routes",
                             fmt::format("a message of type {} with length {} does not fit in {} bytes",
                                         head.nlmsg_type, head.nlmsg_len, datagram.size()));
        }
        datagram = behind(datagram, head.nlmsg_len);
    }
    return messages;
}

std::vector<std::uint8_t> route_request(const api::IpAddress& destination, Ask what, std::uint32_t sequence) {
    rtmsg message{};
    if (what == Ask::kAllPaths) message.rtm_flags = RTM_F_FIB_MATCH;
    message.rtm_family = family_of(destination);
    message.rtm_dst_len = static_cast<std::uint8_t>(destination.size() * 8);
    return request(RTM_GETROUTE, 0, sequence, message, &destination, RTA_DST);
}

std::vector<std::uint8_t> dump_request(Dump what, std::uint32_t sequence) {
    if (what == Dump::kLinks) {
        const ifinfomsg message{};
        return request(RTM_GETLINK, NLM_F_DUMP, sequence, message, nullptr, 0);
    }
    ndmsg message{};
    message.ndm_family = what == Dump::kNeighboursV4 ? AF_INET : AF_INET6;
    return request(RTM_GETNEIGH, NLM_F_DUMP, sequence, message, nullptr, 0);
}

std::vector<std::uint8_t> use_neighbour_request(std::uint32_t interface, const api::IpAddress& address,
                                                std::uint32_t sequence) {
    ndmsg message{};
    message.ndm_family = family_of(address);
    message.ndm_ifindex = static_cast<int>(interface);
    message.ndm_state = NUD_NONE;
    message.ndm_flags = NTF_USE;
    return request(RTM_NEWNEIGH, NLM_F_CREATE, sequence, message, &address, NDA_DST);
}

bool is_usable(std::uint16_t state) noexcept {
    return (state & (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP)) != 0;
}

bool wants_asking(std::uint16_t state) noexcept {
    constexpr std::uint16_t kQuiet =
        NUD_REACHABLE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP | NUD_INCOMPLETE;
    return (state & kQuiet) == 0;
}

}  // namespace detour::publish::netlink
