#include "control/health/tunnel_routes.h"

#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace detour::health {

namespace {

using Buffer = std::array<char, 8192>;

std::uint8_t number(Family family) {
    return family == Family::kV6 ? AF_INET6 : AF_INET;
}

std::string text(Family family, const RoutingRule& rule) {
    return std::string(family == Family::kV6 ? "IPv6" : "IPv4") + " rule " + std::to_string(rule.preference) +
           " for table " + std::to_string(rule.table);
}

/// Sends the request and takes the kernel's answers up to its last one; `each` sees every message of a dump.
/// 0 or an errno.
int ask(mnl_socket* socket, const nlmsghdr* message, mnl_cb_t each, void* data) {
    if (mnl_socket_sendto(socket, message, message->nlmsg_len) < 0) return errno;
    Buffer buffer{};
    int state = MNL_CB_OK;
    while (state > MNL_CB_STOP) {
        const ssize_t size = mnl_socket_recvfrom(socket, buffer.data(), buffer.size());
        if (size < 0) return errno;
        state = mnl_cb_run(buffer.data(), static_cast<std::size_t>(size), message->nlmsg_seq,
                           mnl_socket_get_portid(socket), each, data);
    }
    return state < 0 ? errno : 0;
}

api::Result<void> result(int error, const std::string& what) {
    if (error == 0) return {};
    std::string why = std::strerror(error);
    if (error == EPERM) why += " (this needs CAP_NET_ADMIN)";
    return api::fail(api::ErrorCode::kSystem, what, why);
}

/// What of a rule is of interest.
struct Read {
    std::uint32_t preference = 0;
    std::uint32_t table = 0;
};

int read_attribute(const nlattr* attribute, void* data) {
    auto& read = *static_cast<Read*>(data);
    const auto type = mnl_attr_get_type(attribute);
    if (type != FRA_PRIORITY && type != FRA_TABLE) return MNL_CB_OK;
    if (mnl_attr_validate(attribute, MNL_TYPE_U32) < 0) return MNL_CB_ERROR;
    (type == FRA_PRIORITY ? read.preference : read.table) = mnl_attr_get_u32(attribute);
    return MNL_CB_OK;
}

int collect_local(const nlmsghdr* message, void* data) {
    const auto* header = static_cast<const fib_rule_hdr*>(mnl_nlmsg_get_payload(message));
    Read read{0, header->table};
    if (mnl_attr_parse(message, sizeof(fib_rule_hdr), read_attribute, &read) < 0) return MNL_CB_ERROR;
    if (read.table == RT_TABLE_LOCAL && header->action == FR_ACT_TO_TBL)
        static_cast<std::vector<std::uint32_t>*>(data)->push_back(read.preference);
    return MNL_CB_OK;
}

}  // namespace

api::Result<RoutingRules> RoutingRules::open() {
    mnl_socket* socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (socket == nullptr || mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        const int error = errno;
        if (socket != nullptr) mnl_socket_close(socket);
        return api::fail(api::ErrorCode::kSystem, "opening a netlink socket", std::strerror(error));
    }
    return RoutingRules(socket);
}

RoutingRules::RoutingRules(RoutingRules&& other) noexcept
    : socket_(std::exchange(other.socket_, nullptr)), sequence_(other.sequence_) {}

RoutingRules::~RoutingRules() {
    if (socket_ != nullptr) mnl_socket_close(socket_);
}

api::Result<void> RoutingRules::change(Family family, const RoutingRule& rule, std::uint16_t type,
                                       std::uint16_t flags) {
    const bool adding = type == RTM_NEWRULE;
    const std::string what = (adding ? "adding the " : "removing the ") + text(family, rule);
    Buffer buffer{};
    nlmsghdr* message = mnl_nlmsg_put_header(buffer.data());
    message->nlmsg_type = type;
    message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    message->nlmsg_seq = ++sequence_;
    auto* header = static_cast<fib_rule_hdr*>(mnl_nlmsg_put_extra_header(message, sizeof(fib_rule_hdr)));
    header->family = number(family);
    header->action = FR_ACT_TO_TBL;
    mnl_attr_put_u32(message, FRA_PRIORITY, rule.preference);
    mnl_attr_put_u32(message, FRA_TABLE, rule.table);
    if (rule.mark != 0) {
        mnl_attr_put_u32(message, FRA_FWMARK, rule.mark);
        mnl_attr_put_u32(message, FRA_FWMASK, 0xffffffff);
    }
    // Those of other makers are swept away by network managers.
    if (adding) mnl_attr_put_u8(message, FRA_PROTOCOL, RTPROT_KERNEL);
    const int error = ask(socket_, message, nullptr, nullptr);
    return error == (adding ? EEXIST : ENOENT) ? api::Result<void>{} : result(error, what);
}

api::Result<void> RoutingRules::add(Family family, const RoutingRule& rule) {
    return change(family, rule, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
}

api::Result<void> RoutingRules::remove(Family family, const RoutingRule& rule) {
    return change(family, rule, RTM_DELRULE, 0);
}

api::Result<std::vector<std::uint32_t>> RoutingRules::local_preferences(Family family) {
    Buffer buffer{};
    nlmsghdr* message = mnl_nlmsg_put_header(buffer.data());
    message->nlmsg_type = RTM_GETRULE;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    message->nlmsg_seq = ++sequence_;
    auto* header = static_cast<fib_rule_hdr*>(mnl_nlmsg_put_extra_header(message, sizeof(fib_rule_hdr)));
    header->family = number(family);
    std::vector<std::uint32_t> found;
    const auto done = result(ask(socket_, message, collect_local, &found), "reading the routing rules");
    if (!done) return tl::unexpected(done.error());
    return found;
}

api::Result<void> RoutingRules::add_default(Family family, std::uint32_t table, std::uint32_t interface) {
    const std::string what = "adding the default route of table " + std::to_string(table);
    Buffer buffer{};
    nlmsghdr* message = mnl_nlmsg_put_header(buffer.data());
    message->nlmsg_type = RTM_NEWROUTE;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    message->nlmsg_seq = ++sequence_;
    auto* header = static_cast<rtmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(rtmsg)));
    header->rtm_family = number(family);
    header->rtm_protocol = RTPROT_STATIC;
    header->rtm_scope = family == Family::kV6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
    header->rtm_type = RTN_UNICAST;
    mnl_attr_put_u32(message, RTA_TABLE, table);
    mnl_attr_put_u32(message, RTA_OIF, interface);
    return result(ask(socket_, message, nullptr, nullptr), what);
}

}  // namespace detour::health
