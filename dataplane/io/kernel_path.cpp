#include "dataplane/io/kernel_path.h"

#include <net/if.h>
#include <poll.h>
#include <rte_errno.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "dataplane/api/port_interface.h"

namespace detour::io {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr auto kDoing = "opening the way to the kernel";
constexpr unsigned kInwardRing = 1024;
constexpr unsigned kOutwardRing = 512;
constexpr unsigned kBurst = 32;
// More than a gigabit of full frames; VIP traffic of one worker is twenty times as much.
constexpr std::uint64_t kOutwardPerSecond = 100'000;
constexpr milliseconds kLinkPeriod{100};
constexpr milliseconds kStall{1};  // while the budget or the ring is spent
constexpr milliseconds kForEver{-1};
// Ethernet's least, less the checksum. Not every driver pads.
constexpr std::size_t kShortestFrame = 60;

std::uint64_t now_ns() noexcept {
    return static_cast<std::uint64_t>(
        std::chrono::nanoseconds(steady_clock::now().time_since_epoch()).count());
}

}  // namespace

KernelPath::KernelPath(std::span<const EthernetPort> ports, rte_mempool* pool) noexcept
    : ports_(ports), pool_(pool) {
    outward_budget_.set_rate(kOutwardPerSecond);
}

api::Result<std::unique_ptr<KernelPath>> KernelPath::open(std::span<const EthernetPort> ports,
                                                          rte_mempool* pool) {
    std::unique_ptr<KernelPath> path(new KernelPath(ports, pool));
    if (auto opened = path->open_rings(); !opened) return tl::unexpected(opened.error());
    if (auto opened = path->open_sides(); !opened) return tl::unexpected(opened.error());
    path->thread_ = std::thread([raw = path.get()] { raw->run(); });
    return path;
}

api::Result<void> KernelPath::open_rings() {
    wake_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_.valid()) {
        return api::fail(api::ErrorCode::kSystem, kDoing, std::generic_category().message(errno));
    }
    inward_.reset(rte_ring_create("detour_inward", kInwardRing, SOCKET_ID_ANY, RING_F_SC_DEQ));
    outward_.reset(
        rte_ring_create("detour_outward", kOutwardRing, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ));
    if (inward_ && outward_) return {};
    return api::fail(api::ErrorCode::kSystem, kDoing, rte_strerror(rte_errno));
}

api::Result<void> KernelPath::open_sides() {
    for (unsigned i = 0; i < ports_.size(); ++i) {
        const PortSpec& spec = ports_[i].spec();
        Side& side = sides_[i];
        if (spec.kind == PortKind::kInterface) {
            side.way = Way::kInjector;
            side.interface = static_cast<int>(::if_nametoindex(spec.name.c_str()));
        } else if (api::is_owned_whole(spec.text)) {
            side.way = Way::kTap;
            has_taps_ = true;
            if (auto opened = open_tap(i); !opened) return opened;
        }
    }
    const bool injects = std::ranges::any_of(sides_, [](const Side& s) { return s.way == Way::kInjector; });
    if (!injects) return {};
    auto injector = bpf::Injector::open();
    if (!injector) return tl::unexpected(injector.error());
    injector_ = *std::move(injector);
    return {};
}

api::Result<void> KernelPath::open_tap(std::size_t port) {
    const auto position = static_cast<unsigned>(port);
    auto tap = Tap::open({api::interface_of_port(ports_[port].spec().text, position),
                          ports_[port].state().mac, ports_[port].mtu()});
    if (!tap) return tl::unexpected(tap.error());
    sides_[port].tap = *std::move(tap);
    sides_[port].carrier = Tap::Carrier::kOff;
    return {};
}

KernelPath::~KernelPath() {
    ending_ = true;
    if (wake_.valid()) ::eventfd_write(wake_.get(), 1);
    if (thread_.joinable()) thread_.join();
    rte_mbuf* mbuf = nullptr;
    for (const Side& side : sides_) {
        if (forget_ && side.tap) side.tap->forget();
    }
    while (outward_ && collect({&mbuf, 1}) != 0) rte_pktmbuf_free(mbuf);
}

void KernelPath::FreeRing::operator()(rte_ring* ring) const noexcept {
    rte_ring_free(ring);
}

std::uint16_t KernelPath::hand_over(std::span<rte_mbuf*> mbufs) noexcept {
    const unsigned taken = rte_ring_enqueue_burst(inward_.get(), reinterpret_cast<void* const*>(mbufs.data()),
                                                  static_cast<unsigned>(mbufs.size()), nullptr);
    // Pairs with the thread's store before its last look at the ring: one of the two sees the other.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_relaxed) && sleeping_.exchange(false))
        ::eventfd_write(wake_.get(), 1);
    return static_cast<std::uint16_t>(taken);
}

std::uint16_t KernelPath::collect(std::span<rte_mbuf*> mbufs) noexcept {
    return static_cast<std::uint16_t>(rte_ring_dequeue_burst(outward_.get(),
                                                             reinterpret_cast<void**>(mbufs.data()),
                                                             static_cast<unsigned>(mbufs.size()), nullptr));
}

KernelPath::Figures KernelPath::figures(std::size_t port) const noexcept {
    const Side& side = sides_[port];
    return {side.received.get(), side.sent.get(), side.refused.get() + unsent_[port].get()};
}

void KernelPath::run() {
    auto links_at = steady_clock::now();
    while (!ending_) {
        drain();
        const bool stalled = read_taps();
        if (has_taps_ && steady_clock::now() >= links_at) {
            mirror_links();
            links_at = steady_clock::now() + kLinkPeriod;
        }
        sleeping_ = true;
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (rte_ring_count(inward_.get()) != 0) continue;
        wait(stalled ? kStall : has_taps_ ? kLinkPeriod : kForEver);
    }
    drain();
}

/// Until a worker hands something over or, unless stalled, a TAP has a frame.
void KernelPath::wait(milliseconds longest) {
    // One for each port, and the last for the workers; a negative descriptor is passed over.
    std::array<pollfd, api::kMaxPorts + 1> waits;
    waits.fill({-1, POLLIN, 0});
    waits.back().fd = wake_.get();
    for (std::size_t i = 0; i < ports_.size() && longest != kStall; ++i) {
        if (sides_[i].tap) waits[i].fd = sides_[i].tap->descriptor();
    }
    ::poll(waits.data(), waits.size(), static_cast<int>(longest.count()));
    eventfd_t ignored = 0;
    ::eventfd_read(wake_.get(), &ignored);
    for (std::size_t i = 0; i < ports_.size(); ++i) {
        if ((waits[i].revents & POLLERR) != 0) lose_tap(i);
    }
}

/// Somebody deleted the interface; mirror_links() makes it anew.
void KernelPath::lose_tap(std::size_t port) {
    spdlog::error("the interface {} was deleted: making it again, without its addresses and routes",
                  api::interface_of_port(ports_[port].spec().text, static_cast<unsigned>(port)));
    sides_[port].tap.reset();
}

void KernelPath::drain() {
    std::array<rte_mbuf*, kBurst> mbufs{};
    // One ring's worth: under a flood of frames the TAPs still get their turn.
    for (unsigned round = 0; round < kInwardRing / kBurst; ++round) {
        const unsigned count =
            rte_ring_dequeue_burst(inward_.get(), reinterpret_cast<void**>(mbufs.data()), kBurst, nullptr);
        if (count == 0) return;
        for (unsigned i = 0; i < count; ++i) deliver(*mbufs[i]);
        rte_pktmbuf_free_bulk(mbufs.data(), count);
    }
}

void KernelPath::deliver(const rte_mbuf& mbuf) {
    Side& side = sides_[mbuf.port];
    const std::span frame(rte_pktmbuf_mtod(&mbuf, const std::uint8_t*), mbuf.data_len);
    if (side.way == Way::kTap) {
        const bool taken = side.tap && side.tap->write(frame);
        return (taken ? side.received : side.refused).add(1);
    }
    auto done = injector_->inject(side.interface, frame);
    (done ? side.received : side.refused).add(1);
    // Once is a fact to report; a thousand times is the same fact.
    if (!done && warnings_++ == 0) spdlog::warn("{}", done.error().to_string());
}

/// True when frames may wait that can't be taken now.
bool KernelPath::read_taps() noexcept {
    bool stalled = false;
    for (std::uint16_t port = 0; port < ports_.size(); ++port) {
        if (!sides_[port].tap) continue;
        stalled = !read_tap(port) || stalled;
    }
    return stalled;
}

/// False when budget, ring or buffers are spent.
bool KernelPath::read_tap(std::uint16_t port) noexcept {
    Side& side = sides_[port];
    for (unsigned i = 0; i < kBurst; ++i) {
        if (rte_ring_full(outward_.get()) != 0) return false;
        rte_mbuf* mbuf = rte_pktmbuf_alloc(pool_);
        if (mbuf == nullptr) return false;
        const std::span buffer(rte_pktmbuf_mtod(mbuf, std::uint8_t*), rte_pktmbuf_tailroom(mbuf));
        std::size_t size = side.tap->read(buffer);
        if (size == 0) {
            rte_pktmbuf_free(mbuf);
            return true;
        }
        if (size < kShortestFrame) std::memset(buffer.data() + size, 0, kShortestFrame - size);
        size = std::max(size, kShortestFrame);
        mbuf->data_len = static_cast<std::uint16_t>(size);
        mbuf->pkt_len = mbuf->data_len;
        mbuf->port = port;
        rte_ring_enqueue(outward_.get(), mbuf);  // there is room, and nobody else puts anything in
        side.sent.add(1);
        if (!outward_budget_.take(now_ns())) return false;
    }
    return true;
}

void KernelPath::mirror_links() {
    for (std::size_t i = 0; i < ports_.size(); ++i) {
        if (sides_[i].way == Way::kTap) mirror_link(i);
    }
}

void KernelPath::mirror_link(std::size_t port) {
    Side& side = sides_[port];
    auto done = side.tap ? api::Result<void>{} : open_tap(port);
    const Tap::Carrier carrier = ports_[port].state().link_up ? Tap::Carrier::kOn : Tap::Carrier::kOff;
    if (done && carrier != side.carrier) {
        spdlog::info("port {}: link {}", ports_[port].spec().name,
                     carrier == Tap::Carrier::kOn ? "up" : "down");
        done = side.tap->set_carrier(carrier);
        if (done) side.carrier = carrier;
    }
    if (!done && warnings_++ == 0) spdlog::warn("{}", done.error().to_string());
}

}  // namespace detour::io
