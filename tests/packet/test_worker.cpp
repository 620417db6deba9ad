// Workers over DPDK ports made of rings: two ports and two workers at once, and what a worker itself counts.
//
// Needs root: the kernel's side of the ports are TAPs, in a network namespace of this process alone.
#include "dataplane/io/worker.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <rte_dev.h>
#include <rte_eth_ring.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "dataplane.pb.h"
#include "dataplane/io/eal.h"
#include "tests/support/fast_path.h"

using namespace detour;
using namespace detour::support;
using namespace std::chrono_literals;
using api::Reason;

namespace {

constexpr unsigned kWorkers = 2;
constexpr std::size_t kReceiveRing = 1024;

io::Arguments arguments() {
    io::Arguments a;
    a.workers = kWorkers;
    return a;
}

/// DPDK starts once in a process.
rte_mempool* dpdk_pool() {
    static const auto started = [] {
        REQUIRE_MESSAGE(::unshare(CLONE_NEWNET) == 0, "this test needs root");
        // Or the kernel would send its own frames by the ports as soon as their TAPs are up.
        std::ofstream("/proc/sys/net/ipv6/conf/default/disable_ipv6") << "1\n";
        auto eal = io::Eal::start(arguments(), io::MemoryKind::kOrdinary);
        REQUIRE_MESSAGE(eal.has_value(), eal.error().to_string());
        auto pool = io::Eal::make_pool(arguments());
        REQUIRE_MESSAGE(pool.has_value(), pool.error().to_string());
        return std::pair(std::make_unique<io::Eal>(*std::move(eal)), *pool);
    }();
    return started.second;
}

struct FreeRing {
    void operator()(rte_ring* ring) const { rte_ring_free(ring); }
};
using Ring = std::unique_ptr<rte_ring, FreeRing>;

/// The far end of a port's cable: a ring a queue and direction.
struct Cable {
    std::vector<Ring> in;
    std::vector<Ring> out;
};

Ring make_ring(std::size_t size) {
    static int number = 0;
    Ring ring(rte_ring_create(fmt::format("test{}", number++).c_str(), static_cast<unsigned>(size), 0,
                              RING_F_SP_ENQ | RING_F_SC_DEQ));
    REQUIRE(ring != nullptr);
    return ring;
}

io::EthernetPort make_port(Cable& cable, std::size_t transmit_ring) {
    static int number = 0;
    std::vector<rte_ring*> in;
    std::vector<rte_ring*> out;
    for (unsigned queue = 0; queue < kWorkers; ++queue) {
        in.push_back(cable.in.emplace_back(make_ring(kReceiveRing)).get());
        out.push_back(cable.out.emplace_back(make_ring(transmit_ring)).get());
    }
    const std::string name = fmt::format("cable{}", number++);
    REQUIRE(rte_eth_from_rings(name.c_str(), in.data(), kWorkers, out.data(), kWorkers, 0) >= 0);
    const std::string device = "net_ring_" + name;
    auto port =
        io::EthernetPort::open({io::PortKind::kDevice, device, device, kWorkers}, {device, dpdk_pool()});
    REQUIRE_MESSAGE(port.has_value(), port.error().to_string());
    return *std::move(port);
}

/// Two ports, two workers: clients at the first port, backends at the second.
class Host {
  public:
    explicit Host(std::size_t transmit_ring = 1024) : pool(dpdk_pool()), publication_(kWorkers) {
        free_before = rte_mempool_avail_count(pool);
        ports_.push_back(make_port(clients, 1024));
        ports_.push_back(make_port(backends, transmit_ring));
        auto kernel = io::KernelPath::open(ports_, pool);
        REQUIRE_MESSAGE(kernel.has_value(), kernel.error().to_string());
        kernel_ = *std::move(kernel);
        kernel_->forget_interfaces();
        auto tables = core::build_tables(make_plan(), nullptr);
        REQUIRE(tables.has_value());
        REQUIRE(publication_.publish(*std::move(tables)).has_value());
        for (unsigned i = 0; i < kWorkers; ++i) {
            const stages::WorkerLimits limits{
                .flows_v4 = 4096, .flows_v6 = 1024, .syns = 1024, .workers = kWorkers};
            workers_.push_back(std::make_unique<io::Worker>(
                io::WorkerSetup{i, ports_, publication_, state_, *kernel_, pool, 20us, limits}));
        }
        for (auto& worker : workers_) threads_.emplace_back([&worker] { worker->run(); });
    }
    ~Host() {
        for (auto& worker : workers_) worker->stop();
    }
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;

    [[nodiscard]] rte_mbuf* mbuf_of(const Bytes& frame) const {
        rte_mbuf* mbuf = nullptr;
        // A full receive ring and a full ring to the kernel hold all there are.
        wait("a free buffer", [&] { return (mbuf = rte_pktmbuf_alloc(pool)) != nullptr; });
        std::copy(frame.begin(), frame.end(),
                  reinterpret_cast<std::uint8_t*>(
                      rte_pktmbuf_append(mbuf, static_cast<std::uint16_t>(frame.size()))));
        return mbuf;
    }
    void receive(unsigned queue, rte_mbuf* mbuf) const {
        wait("room in the ring", [&] { return rte_ring_enqueue(clients.in[queue].get(), mbuf) == 0; });
    }
    [[nodiscard]] std::uint64_t count(Reason reason) const {
        std::uint64_t sum = 0;
        for (const auto& w : workers_) sum += w->state().counters[static_cast<std::size_t>(reason)].get();
        return sum;
    }
    [[nodiscard]] std::uint64_t transmit_full(std::size_t port) const {
        std::uint64_t sum = 0;
        for (const auto& w : workers_) sum += w->transmit_full(port);
        return sum;
    }
    template <class Check>
    static void wait(const char* what, Check check) {
        const auto until = std::chrono::steady_clock::now() + 30s;
        while (!check()) {
            REQUIRE_MESSAGE(std::chrono::steady_clock::now() < until, std::string(what));
            std::this_thread::sleep_for(100us);
        }
    }
    /// Frames that lie in these rings now.
    [[nodiscard]] static std::vector<Bytes> take(const std::vector<Ring>& rings) {
        std::vector<Bytes> frames;
        for (const Ring& ring : rings) {
            for (void* got = nullptr; rte_ring_dequeue(ring.get(), &got) == 0;) {
                auto* mbuf = static_cast<rte_mbuf*>(got);
                const auto* data = rte_pktmbuf_mtod(mbuf, const std::uint8_t*);
                frames.emplace_back(data, data + mbuf->data_len);
                rte_pktmbuf_free(mbuf);
            }
        }
        return frames;
    }
    void no_buffer_is_lost() const {
        wait("all buffers back", [&] { return rte_mempool_avail_count(pool) == free_before; });
    }

    rte_mempool* pool;
    unsigned free_before = 0;
    Cable clients;
    Cable backends;

  private:
    core::HostState state_;
    io::Publication publication_;
    std::vector<io::EthernetPort> ports_;
    std::unique_ptr<io::KernelPath> kernel_;
    std::vector<std::unique_ptr<io::Worker>> workers_;
    std::vector<std::jthread> threads_;
};

Bytes segment(std::uint16_t source, std::uint8_t flags, bool v6 = false) {
    Frame frame;
    frame.ether(kRouterMac, kHostMac);
    v6 ? frame.ipv6("2001:db8:c::7", "2001:db8:f::10") : frame.ipv4("198.51.100.7", "203.0.113.10");
    return frame.tcp({.source = source, .destination = 443, .flags = flags}).bytes();
}

/// Frames in a file of libpcap's format, removed with the object.
class CaptureFile {
  public:
    explicit CaptureFile(const std::vector<Bytes>& frames)
        : path_(std::filesystem::temp_directory_path() / fmt::format("detour-frames-{}.pcap", ::getpid())) {
        std::ofstream out(path_, std::ios::binary);
        const auto put = [&](std::initializer_list<std::uint32_t> words) {
            for (const std::uint32_t word : words) out.write(reinterpret_cast<const char*>(&word), 4);
        };
        put({0xa1b2c3d4, 4U << 16U | 2U, 0, 0, 65535, 1});
        for (const Bytes& frame : frames) {
            const auto size = static_cast<std::uint32_t>(frame.size());
            put({0, 0, size, size});
            out.write(reinterpret_cast<const char*>(frame.data()), size);
        }
    }
    ~CaptureFile() { std::filesystem::remove(path_); }
    CaptureFile(const CaptureFile&) = delete;
    CaptureFile& operator=(const CaptureFile&) = delete;
    [[nodiscard]] std::string path() const { return path_.string(); }

  private:
    std::filesystem::path path_;
};

Bytes arp() {
    Bytes frame(60);
    std::fill_n(frame.begin(), 6, 0xff);
    frame[12] = 0x08;
    frame[13] = 0x06;
    return frame;
}

}  // namespace

TEST_CASE("in by one port and out by the other, two workers, whichever of them a flow's packets meet") {
    Host host;
    FastPath model(make_plan());
    std::vector<Bytes> wanted;
    for (std::uint16_t i = 0; i < 300; ++i) {
        const bool v6 = i % 3 == 0;
        for (const std::uint8_t flags : {kSyn, kAck}) {
            const Bytes frame = segment(static_cast<std::uint16_t>(20000 + i), flags, v6);
            // The handshake's ACK comes to the other worker, as it may without a symmetric RSS.
            host.receive((i + (flags == kAck ? 1U : 0U)) % kWorkers, host.mbuf_of(frame));
            wanted.push_back(model.send(frame).bytes);
        }
    }
    std::vector<Bytes> got;
    Host::wait("all frames", [&] {
        for (Bytes& frame : Host::take(host.backends.out)) got.push_back(std::move(frame));
        return got.size() == wanted.size();
    });
    std::sort(got.begin(), got.end());
    std::sort(wanted.begin(), wanted.end());
    CHECK(got == wanted);
    CHECK(host.count(Reason::kForwardedNew) == 300);
    CHECK(Host::take(host.clients.out).empty());
    host.no_buffer_is_lost();
}

TEST_CASE("a frame in several segments is dropped, counted and given back") {
    Host host;
    rte_mbuf* head = host.mbuf_of(segment(30000, kSyn));
    REQUIRE(rte_pktmbuf_chain(head, host.mbuf_of(Bytes(100))) == 0);
    host.receive(0, head);
    host.receive(0, host.mbuf_of(segment(30001, kSyn)));
    Host::wait("both",
               [&] { return host.count(Reason::kMultiSegment) + host.count(Reason::kForwardedNew) == 2; });
    CHECK(host.count(Reason::kMultiSegment) == 1);
    CHECK(Host::take(host.backends.out).size() == 1);
    host.no_buffer_is_lost();
}

TEST_CASE("what a full transmit queue does not take is counted for that port and given back") {
    Host host(64);  // a ring of 64 holds 63
    for (std::uint16_t i = 0; i < 200; ++i)
        host.receive(0, host.mbuf_of(segment(static_cast<std::uint16_t>(20000 + i), kSyn)));
    Host::wait("all", [&] { return host.count(Reason::kForwardedNew) == 200 && host.transmit_full(1) != 0; });
    Host::wait("the rest", [&] { return host.transmit_full(1) == 200 - 63; });
    CHECK(host.count(Reason::kTransmitFull) == 200 - 63);
    CHECK(host.transmit_full(0) == 0);
    CHECK(Host::take(host.backends.out).size() == 63);
    host.no_buffer_is_lost();
}

TEST_CASE("what is not ours and more than the kernel may get is dropped, counted and given back") {
    Host host;
    // A worker's budget is 50,000 frames a second, a tenth of that at once.
    std::uint64_t sent = 0;
    Host::wait("more than the budget", [&] {
        for (int i = 0; i < 10'000; ++i, ++sent) host.receive(0, host.mbuf_of(arp()));
        return host.count(Reason::kKernelFull) > 0;
    });
    Host::wait("all", [&] { return host.count(Reason::kNotOurs) == sent; });
    CHECK(host.count(Reason::kKernelFull) < sent);
    // A client is served meanwhile.
    host.receive(0, host.mbuf_of(segment(30000, kSyn)));
    Host::wait("the client", [&] { return Host::take(host.backends.out).size() == 1; });
    host.no_buffer_is_lost();
}

TEST_CASE("frames for which no buffer is free are counted as that, apart from those of full queues") {
    constexpr std::uint32_t kFrames = 200;
    const CaptureFile file(std::vector<Bytes>(kFrames, segment(20000, kSyn)));
    (void)dpdk_pool();
    // A driver that takes its buffers from the pool as it receives.
    REQUIRE(rte_eal_hotplug_add("vdev", "net_pcap_short",
                                fmt::format("rx_pcap={},tx_pcap=/dev/null", file.path()).c_str()) == 0);
    rte_mempool* small = rte_pktmbuf_pool_create("short", 63, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    REQUIRE(small != nullptr);
    std::uint32_t taken = 0;
    {
        const auto port = io::EthernetPort::open(
            {io::PortKind::kDevice, "net_pcap_short", "net_pcap_short", 1}, {"net_pcap_short", small});
        REQUIRE_MESSAGE(port.has_value(), port.error().to_string());
        const auto counted = [&] {
            wire::PortStats stats;
            port->collect(stats);
            return stats;
        };
        std::array<rte_mbuf*, kFrames> held{};
        const auto receive = [&] { taken += port->receive(0, std::span(held).subspan(taken, 32)); };
        receive();
        CHECK(taken == 32);
        CHECK(counted().rx_no_mbuf() == 0);
        for (int i = 0; i < 4; ++i) receive();
        CHECK(taken == 63);
        CHECK(counted().rx_no_mbuf() > 0);
        CHECK(counted().rx_packets() == 63);
        CHECK(counted().rx_missed() == 0);
        rte_pktmbuf_free_bulk(held.data(), taken);
        taken = 0;
        for (int i = 0; i < 10; ++i) receive();
        CHECK_MESSAGE(taken != 0, "with buffers it goes on");
        rte_pktmbuf_free_bulk(held.data(), taken);
        CHECK(rte_mempool_avail_count(small) == 63);
    }
    rte_mempool_free(small);
}
