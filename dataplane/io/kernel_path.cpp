#include "dataplane/io/kernel_path.h"

#include <net/if.h>
#include <poll.h>
#include <rte_errno.h>
#include <rte_ring.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <system_error>

namespace detour::io {
namespace {
constexpr unsigned kRingSize = 1024;
constexpr unsigned kDrainBurst = 32;
}  // namespace

api::Result<std::unique_ptr<KernelPath>> KernelPath::open(std::span<const PortSpec> ports) {
    constexpr auto kDoing = "opening the way back to the kernel";
    auto injector = bpf::Injector::open();
    if (!injector) return tl::unexpected(injector.error());
    const int wake = ::eventfd(0, EFD_CLOEXEC);
    if (wake < 0) return api::fail(api::ErrorCode::kSystem, kDoing, std::generic_category().message(errno));
    rte_ring* ring = rte_ring_create("detour_kernel", kRingSize, SOCKET_ID_ANY, RING_F_SC_DEQ);
    if (ring == nullptr) {
        ::close(wake);
        return api::fail(api::ErrorCode::kSystem, kDoing, rte_strerror(rte_errno));
    }
    std::unique_ptr<KernelPath> path(new KernelPath(*std::move(injector), ring, wake));
    for (std::size_t i = 0; i < ports.size(); ++i) {
        if (ports[i].kind != PortKind::kInterface) continue;
        path->interfaces_[i] = static_cast<int>(::if_nametoindex(ports[i].name.c_str()));
    }
    path->thread_ = std::thread([raw = path.get()] { raw->run(); });
    return path;
}

KernelPath::KernelPath(bpf::Injector injector, rte_ring* ring, int wake_fd)
    : injector_(std::move(injector)), ring_(ring), wake_(wake_fd) {}

KernelPath::~KernelPath() {
    ending_ = true;
    ::eventfd_write(wake_.get(), 1);
    if (thread_.joinable()) thread_.join();
}

void KernelPath::FreeRing::operator()(rte_ring* ring) const noexcept {
    rte_ring_free(ring);
}

std::uint16_t KernelPath::hand_over(std::span<rte_mbuf*> mbufs) noexcept {
    const unsigned taken = rte_ring_enqueue_burst(ring_.get(), reinterpret_cast<void* const*>(mbufs.data()),
                                                  static_cast<unsigned>(mbufs.size()), nullptr);
    // Pairs with the thread's store before its last look at the ring: one of the two sees the other.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_relaxed) && sleeping_.exchange(false))
        ::eventfd_write(wake_.get(), 1);
    return static_cast<std::uint16_t>(taken);
}

void KernelPath::run() {
    while (!ending_) {
        drain();
        sleeping_ = true;
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (rte_ring_count(ring_.get()) != 0) continue;
        eventfd_t ignored = 0;
        ::eventfd_read(wake_.get(), &ignored);
    }
    drain();
}

void KernelPath::drain() {
    std::array<rte_mbuf*, kDrainBurst> mbufs{};
    for (;;) {
        const unsigned count =
            rte_ring_dequeue_burst(ring_.get(), reinterpret_cast<void**>(mbufs.data()), kDrainBurst, nullptr);
        if (count == 0) return;
        for (unsigned i = 0; i < count; ++i) inject(*mbufs[i]);
        rte_pktmbuf_free_bulk(mbufs.data(), count);
    }
}

void KernelPath::inject(rte_mbuf& mbuf) {
    const std::span frame(rte_pktmbuf_mtod(&mbuf, const std::uint8_t*), mbuf.data_len);
    auto done = injector_.inject(interfaces_[mbuf.port], frame);
    // Once is a fact to report; a thousand times is the same fact.
    if (!done && refused_++ == 0) spdlog::warn("{}", done.error().to_string());
}

}  // namespace detour::io
