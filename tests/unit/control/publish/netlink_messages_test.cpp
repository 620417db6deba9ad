// rtnetlink messages: what is well formed is read, what is cut or lies about its length is an error, never a
// crash.
#include "control/publish/netlink_messages.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <linux/if.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <random>

using namespace detour;
using namespace detour::publish::netlink;
using Bytes = std::vector<std::uint8_t>;

namespace {

template <class T>
void append(Bytes& bytes, const T& value) {
    const auto* raw = reinterpret_cast<const std::uint8_t*>(&value);
    bytes.insert(bytes.end(), raw, raw + sizeof(T));
    while (bytes.size() % 4 != 0) bytes.push_back(0);
}

Bytes attribute(int type, const Bytes& payload) {
    Bytes bytes;
    nlattr head{};
    head.nla_type = static_cast<std::uint16_t>(type);
    head.nla_len = static_cast<std::uint16_t>(sizeof(head) + payload.size());
    append(bytes, head);
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    while (bytes.size() % 4 != 0) bytes.push_back(0);
    return bytes;
}

Bytes u32(std::uint32_t value) {
    Bytes bytes;
    append(bytes, value);
    return bytes;
}

template <class Header>
Bytes message(int type, const Header& header, const std::vector<Bytes>& attributes,
              std::uint32_t sequence = 5) {
    Bytes body;
    append(body, header);
    for (const auto& one : attributes) body.insert(body.end(), one.begin(), one.end());
    nlmsghdr head{};
    head.nlmsg_type = static_cast<std::uint16_t>(type);
    head.nlmsg_len = static_cast<std::uint32_t>(sizeof(head) + body.size());
    head.nlmsg_seq = sequence;
    Bytes bytes;
    append(bytes, head);
    bytes.insert(bytes.end(), body.begin(), body.end());
    return bytes;
}

Bytes route_message() {
    rtmsg header{};
    header.rtm_family = AF_INET;
    header.rtm_type = RTN_UNICAST;
    return message(RTM_NEWROUTE, header,
                   {attribute(RTA_OIF, u32(3)), attribute(RTA_GATEWAY, {10, 0, 0, 1}),
                    attribute(RTA_METRICS, attribute(RTAX_MTU, u32(1400)))});
}

Bytes neighbour_message(int type = RTM_NEWNEIGH) {
    ndmsg header{};
    header.ndm_family = AF_INET;
    header.ndm_ifindex = 3;
    header.ndm_state = NUD_REACHABLE;
    return message(type, header,
                   {attribute(NDA_DST, {10, 0, 0, 1}), attribute(NDA_LLADDR, {2, 0, 0, 0, 0, 7})});
}

Bytes link_message() {
    ifinfomsg header{};
    header.ifi_index = 3;
    header.ifi_flags = IFF_UP;
    return message(RTM_NEWLINK, header,
                   {attribute(IFLA_IFNAME, {'e', 't', 'h', '1', 0}), attribute(IFLA_MTU, u32(1500)),
                    attribute(IFLA_ADDRESS, {2, 0, 0, 0, 0, 9})});
}

/// Nested as the kernel does it.
Bytes vlan_message(const char* kind, std::uint16_t id, std::uint16_t protocol) {
    const auto text = [](const char* t) { return Bytes(t, t + std::strlen(t) + 1); };
    const auto word = [](std::uint16_t v) {
        return Bytes{static_cast<std::uint8_t>(v), static_cast<std::uint8_t>(v >> 8U)};
    };
    const auto nested = [](std::initializer_list<Bytes> parts) {
        Bytes all;
        for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
        return all;
    };
    const Bytes data =
        nested({attribute(IFLA_VLAN_ID, word(id)), attribute(IFLA_VLAN_PROTOCOL, word(htons(protocol)))});
    const Bytes info = nested({attribute(IFLA_INFO_KIND, text(kind)), attribute(IFLA_INFO_DATA, data)});
    ifinfomsg header{};
    header.ifi_index = 4;
    return message(
        RTM_NEWLINK, header,
        {attribute(IFLA_IFNAME, {'v', 0}), attribute(IFLA_LINK, u32(3)), attribute(IFLA_LINKINFO, info)});
}

/// One way of a multipath route.
Bytes path(unsigned flags, int interface, const Bytes& attributes) {
    rtnexthop head{};
    head.rtnh_len = static_cast<unsigned short>(sizeof(head) + attributes.size());
    head.rtnh_flags = static_cast<unsigned char>(flags);
    head.rtnh_ifindex = interface;
    Bytes bytes;
    append(bytes, head);
    bytes.insert(bytes.end(), attributes.begin(), attributes.end());
    return bytes;
}

Bytes multipath_message(const std::vector<Bytes>& paths) {
    rtmsg header{};
    header.rtm_family = AF_INET;
    header.rtm_type = RTN_UNICAST;
    Bytes all;
    for (const Bytes& one : paths) all.insert(all.end(), one.begin(), one.end());
    return message(RTM_NEWROUTE, header, {attribute(RTA_MULTIPATH, all)});
}

Bytes two_paths() {
    Bytes via{AF_INET6, 0, 0xfe, 0x80};
    via.resize(18);
    via.back() = 1;
    return multipath_message(
        {path(0, 3, attribute(RTA_GATEWAY, {10, 0, 0, 1})), path(0, 4, attribute(RTA_VIA, via))});
}

Bytes all_messages() {
    Bytes bytes = route_message();
    for (const auto& next :
         {two_paths(), neighbour_message(), neighbour_message(RTM_DELNEIGH), link_message()}) {
        bytes.insert(bytes.end(), next.begin(), next.end());
    }
    return bytes;
}

}  // namespace

TEST_CASE("a VLAN interface says its id and what is below it") {
    struct Row {
        const char* kind;
        std::uint16_t id;
        std::uint16_t protocol;
        std::uint16_t want;
    };
    for (const Row& row : {Row{"vlan", 100, 0x8100, 100}, Row{"vlan", 4094, 0x8100, 4094},
                           Row{"vlan", 100, 0x88a8, 0}, Row{"macvlan", 100, 0x8100, 0}}) {
        const auto messages = parse(vlan_message(row.kind, row.id, row.protocol)).value();
        REQUIRE(messages.size() == 1);
        const auto& link = std::get<Link>(messages[0]);
        CHECK(link.vlan == row.want);
        CHECK(link.parent == 3);
    }
}

TEST_CASE("routes, neighbours and links are read") {
    const auto messages = parse(all_messages()).value();
    REQUIRE(messages.size() == 5);
    const auto& answer = std::get<RouteAnswer>(messages[0]);
    CHECK(answer.sequence == 5);
    CHECK(answer.route.unicast);
    CHECK(answer.route.interface == 3);
    CHECK(answer.route.mtu == 1400);
    CHECK(answer.route.gateway == api::IpAddress::v4({10, 0, 0, 1}));
    const auto& neighbour = std::get<Neighbour>(messages[2]);
    CHECK(neighbour.interface == 3);
    CHECK(neighbour.address == api::IpAddress::v4({10, 0, 0, 1}));
    CHECK(neighbour.mac == api::Mac{{2, 0, 0, 0, 0, 7}});
    CHECK(neighbour.state == NUD_REACHABLE);
    CHECK_FALSE(neighbour.removed);
    CHECK(std::get<Neighbour>(messages[3]).removed);
    const auto& link = std::get<Link>(messages[4]);
    CHECK(link.name == "eth1");
    CHECK(link.mtu == 1500);
    CHECK(link.up);
    CHECK(link.mac == api::Mac{{2, 0, 0, 0, 0, 9}});
}

TEST_CASE("an IPv4 route through an IPv6 gateway is read") {
    rtmsg header{};
    header.rtm_family = AF_INET;
    header.rtm_type = RTN_UNICAST;
    Bytes via{AF_INET6, 0, 0xfe, 0x80};
    via.resize(18);
    via.back() = 1;
    const auto messages = parse(message(RTM_NEWROUTE, header, {attribute(RTA_VIA, via)})).value();
    CHECK(std::get<RouteAnswer>(messages.at(0)).route.gateway == api::IpAddress::parse("fe80::1").value());
}

TEST_CASE("the ways of a multipath route are read, but for those that the kernel calls dead") {
    const auto route_of = [](const Bytes& bytes) {
        return std::get<RouteAnswer>(parse(bytes).value().at(0)).route;
    };
    const Path first{3, api::IpAddress::v4({10, 0, 0, 1})};
    CHECK(route_of(two_paths()).paths ==
          std::vector<Path>{first, {4, api::IpAddress::parse("fe80::1").value()}});
    const Bytes gateway = attribute(RTA_GATEWAY, {10, 0, 0, 1});
    for (const unsigned dead : {RTNH_F_DEAD, RTNH_F_LINKDOWN, RTNH_F_UNRESOLVED}) {
        const auto route = route_of(multipath_message({path(dead, 9, gateway), path(0, 3, gateway)}));
        CHECK(route.paths == std::vector<Path>{first});
    }
    CHECK(route_of(multipath_message({})).paths.empty());
    CHECK(route_of(multipath_message({path(0, 5, {})})).paths == std::vector<Path>{{5, std::nullopt}});
    CHECK(route_of(multipath_message(std::vector<Bytes>(kMaxPaths + 1, path(0, 3, gateway)))).paths.size() ==
          kMaxPaths);
}

TEST_CASE("a way whose length lies makes the message an error") {
    for (const std::uint8_t length : std::initializer_list<std::uint8_t>{0, 7, 0x40, 0xff}) {
        Bytes one = path(0, 3, attribute(RTA_GATEWAY, {10, 0, 0, 1}));
        one[0] = length;
        CAPTURE(static_cast<int>(length));
        CHECK_FALSE(parse(multipath_message({one})));
    }
    Bytes attribute_too_long = path(0, 3, attribute(RTA_GATEWAY, {10, 0, 0, 1}));
    attribute_too_long[sizeof(rtnexthop)] = 0x20;
    CHECK_FALSE(parse(multipath_message({attribute_too_long})));
}

TEST_CASE("odd but legal messages are passed over") {
    ndmsg proxy{};
    proxy.ndm_family = AF_INET;
    ndmsg bridge{};
    bridge.ndm_family = AF_BRIDGE;
    ifinfomsg port{};
    port.ifi_family = AF_BRIDGE;
    struct Row {
        const char* name;
        Bytes bytes;
    };
    const std::vector<Row> rows = {
        {"nothing", {}},
        {"less than a header", {1, 2, 3}},
        {"unknown type", message(999, u32(0), {})},
        {"neighbour without an address", message(RTM_NEWNEIGH, proxy, {})},
        {"neighbour with an address of 5 bytes",
         message(RTM_NEWNEIGH, proxy, {attribute(NDA_DST, {1, 2, 3, 4, 5})})},
        {"bridge's own neighbour", message(RTM_NEWNEIGH, bridge, {})},
        {"bridge's own port", message(RTM_NEWLINK, port, {})},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const auto messages = parse(row.bytes);
        REQUIRE(messages);
        CHECK(messages->empty());
    }
    // An unknown hardware address length is no address, and the neighbour is still known.
    const auto infiniband = parse(message(
        RTM_NEWNEIGH, proxy, {attribute(NDA_DST, {1, 2, 3, 4}), attribute(NDA_LLADDR, Bytes(20, 1))}));
    CHECK_FALSE(std::get<Neighbour>(infiniband->at(0)).mac);
}

TEST_CASE("the kernel's answers are read, and a number that is no errno is no success") {
    struct Row {
        int said;
        int error;
    };
    for (const Row& row : {Row{0, 0}, Row{-ENETUNREACH, ENETUNREACH}, Row{5, EPROTO}, Row{-4096, EPROTO},
                           Row{std::numeric_limits<int>::min(), EPROTO}}) {
        CAPTURE(row.said);
        nlmsgerr answer{};
        answer.error = row.said;
        const auto messages = parse(message(NLMSG_ERROR, answer, {}, 7)).value();
        const auto& read = std::get<Acknowledged>(messages.at(0));
        CHECK(read.sequence == 7);
        CHECK(read.error == row.error);
    }
}

TEST_CASE("a length that lies is an error") {
    Bytes too_long = route_message();
    too_long[0] = 0xff;
    Bytes too_short = route_message();
    too_short[0] = 15;
    Bytes zero = route_message();
    zero[0] = 0;
    Bytes long_attribute = neighbour_message();
    long_attribute[sizeof(nlmsghdr) + sizeof(ndmsg)] = 0xf0;
    Bytes empty_attribute = neighbour_message();
    empty_attribute[sizeof(nlmsghdr) + sizeof(ndmsg)] = 0;
    rtmsg header{};
    Bytes cut_header = message(RTM_NEWROUTE, header, {});
    cut_header.resize(sizeof(nlmsghdr) + 4);
    cut_header[0] = sizeof(nlmsghdr) + 4;
    for (const auto& bytes : {too_long, too_short, zero, long_attribute, empty_attribute, cut_header}) {
        const auto messages = parse(bytes);
        REQUIRE_FALSE(messages);
        CHECK(messages.error().code == api::ErrorCode::kInvalidArgument);
    }
}

TEST_CASE("no cut and no random damage breaks the reader") {
    const Bytes whole = all_messages();
    for (std::size_t size = 0; size <= whole.size(); ++size) {
        const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        if (const auto messages = parse(cut)) CHECK(messages->size() <= 5);
    }
    const unsigned seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 50'000; ++round) {
        Bytes bytes = whole;
        for (int i = 0; i < 4; ++i) bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
        bytes.resize(random() % (bytes.size() + 1));
        if (const auto messages = parse(bytes)) CHECK(messages->size() <= bytes.size() / sizeof(nlmsghdr));
    }
}
