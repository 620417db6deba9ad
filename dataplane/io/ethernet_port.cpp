#include "dataplane/io/ethernet_port.h"

#include <fmt/format.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <string_view>

#include "dataplane.pb.h"

namespace detour::io {
namespace {

using api::ErrorCode;

constexpr std::uint16_t kReceiveDescriptors = 2048;
constexpr std::uint16_t kTransmitDescriptors = 2048;

// Ids of 802.1Q tags, priority tags included.
constexpr std::uint16_t kVlans = 4095;

/// virtio takes no tagged frame whose id it was not told, where its device can filter at all; every other
/// driver takes all as long as nobody asks it to filter.
bool filters_tags(const rte_eth_dev_info& info) {
    return std::string_view(info.driver_name) == "net_virtio" &&
           (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_VLAN_FILTER) != 0;
}

std::string reason(int negative_errno) {
    return rte_strerror(-negative_errno);
}

}  // namespace

api::Result<EthernetPort> EthernetPort::open(const PortSpec& spec, const Setup& setup) {
    std::uint16_t id = 0;
    if (rte_eth_dev_get_port_by_name(setup.device.c_str(), &id) != 0) {
        return api::fail(ErrorCode::kNotFound, "opening port " + spec.name, "the driver made no such device");
    }
    EthernetPort port(spec, id);
    if (auto done = port.configure(); !done) return tl::unexpected(done.error());
    if (auto done = port.set_up_queues(setup); !done) return tl::unexpected(done.error());
    if (const int error = rte_eth_dev_start(id); error != 0) {
        return api::fail(ErrorCode::kSystem, "starting port " + spec.name, reason(error));
    }
    // An interface's kernel side decides what it takes in; a port that is all ours takes what is sent to it
    // whatever MAC address its driver believes to have (net_ring, net_pcap).
    if (spec.kind == PortKind::kDevice) rte_eth_promiscuous_enable(id);
    port.accept_tags();
    // Neighbour discovery and routing protocols of the kernel beside it come by multicast.
    if (spec.kind == PortKind::kPci) rte_eth_allmulticast_enable(id);
    return port;
}

EthernetPort::EthernetPort(EthernetPort&& other) noexcept
    : spec_(std::move(other.spec_)), id_(other.id_), open_(std::exchange(other.open_, false)) {}

EthernetPort::~EthernetPort() {
    if (!open_) return;
    rte_eth_dev_stop(id_);
    rte_eth_dev_close(id_);
}

api::Result<void> EthernetPort::configure() const {
    const std::string doing = "setting up port " + spec_.name;
    rte_eth_dev_info info{};
    if (const int error = rte_eth_dev_info_get(id_, &info); error != 0) {
        return api::fail(ErrorCode::kSystem, doing, reason(error));
    }
    const unsigned queues = std::min(info.max_rx_queues, info.max_tx_queues);
    if (queues < spec_.queues) {
        return api::fail(ErrorCode::kLimit, doing,
                         fmt::format("it has {} queues and {} are needed", queues, spec_.queues));
    }
    rte_eth_conf conf{};
    const std::uint64_t spread =
        (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP) & info.flow_type_rss_offloads;
    if (spec_.queues > 1 && spread != 0) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = spread;
    }
    if (filters_tags(info)) conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
    const auto count = static_cast<std::uint16_t>(spec_.queues);
    if (const int error = rte_eth_dev_configure(id_, count, count, &conf); error != 0) {
        return api::fail(ErrorCode::kSystem, doing, reason(error));
    }
    return {};
}

api::Result<void> EthernetPort::set_up_queues(const Setup& setup) const {
    std::uint16_t receive_size = kReceiveDescriptors;
    std::uint16_t transmit_size = kTransmitDescriptors;
    rte_eth_dev_adjust_nb_rx_tx_desc(id_, &receive_size, &transmit_size);
    const int numa = rte_eth_dev_socket_id(id_);
    const auto socket = static_cast<unsigned>(numa);  // SOCKET_ID_ANY is -1 here as there
    for (std::uint16_t queue = 0; queue < spec_.queues; ++queue) {
        int error = rte_eth_rx_queue_setup(id_, queue, receive_size, socket, nullptr, setup.pool);
        if (error == 0) error = rte_eth_tx_queue_setup(id_, queue, transmit_size, socket, nullptr);
        if (error != 0) {
            return api::fail(ErrorCode::kSystem,
                             fmt::format("setting up queue {} of port {}", queue, spec_.name), reason(error));
        }
    }
    return {};
}

void EthernetPort::accept_tags() const {
    rte_eth_dev_info info{};
    if (rte_eth_dev_info_get(id_, &info) != 0 || !filters_tags(info)) return;
    for (std::uint16_t vlan = 0; vlan < kVlans; ++vlan) {
        const int error = rte_eth_dev_vlan_filter(id_, vlan, 1);
        if (error == 0) continue;
        return spdlog::warn("port {}: frames of VLAN {} and above are lost: {}", spec_.name, vlan,
                            reason(error));
    }
}

std::uint16_t EthernetPort::receive(std::uint16_t queue, std::span<rte_mbuf*> mbufs) const noexcept {
    return rte_eth_rx_burst(id_, queue, mbufs.data(), static_cast<std::uint16_t>(mbufs.size()));
}

std::uint16_t EthernetPort::transmit(std::uint16_t queue, std::span<rte_mbuf*> mbufs) const noexcept {
    return rte_eth_tx_burst(id_, queue, mbufs.data(), static_cast<std::uint16_t>(mbufs.size()));
}

PortState EthernetPort::state() const {
    PortState state;
    state.name = spec_.name;
    rte_ether_addr mac{};
    if (rte_eth_macaddr_get(id_, &mac) == 0)
        std::copy_n(mac.addr_bytes, state.mac.bytes.size(), state.mac.bytes.begin());
    rte_eth_link link{};
    state.link_up = rte_eth_link_get_nowait(id_, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
    return state;
}

std::uint32_t EthernetPort::mtu() const {
    std::uint16_t mtu = RTE_ETHER_MTU;
    rte_eth_dev_get_mtu(id_, &mtu);
    return mtu;
}

void EthernetPort::collect(wire::PortStats& stats) const {
    rte_eth_stats counters{};
    if (rte_eth_stats_get(id_, &counters) != 0) return;
    stats.set_rx_packets(counters.ipackets);
    stats.set_tx_packets(counters.opackets);
    stats.set_rx_missed(counters.imissed);
    stats.set_rx_no_mbuf(counters.rx_nombuf);
}

}  // namespace detour::io
