#include "dataplane/io/eal.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <sched.h>

#include <algorithm>

namespace detour::io {
namespace {

// Descriptor rings of one queue, twice: the AF_XDP driver fills 4096 and completes late.
constexpr unsigned kBuffersPerQueue = 8192;
constexpr unsigned kBuffersPerWorker = 1024;  // its cache, the burst in hand, the kernel's ring
constexpr unsigned kCacheSize = 256;
// Room for a frame of 3,498 bytes after AF_XDP's 256: header, mbuf and room together stay within one 4 KiB
// page, which is the largest chunk that AF_XDP takes.
constexpr std::uint16_t kDataRoom = 3776;
constexpr std::size_t kBufferBytes = 4096;
constexpr std::size_t kEalBytes = 48U << 20U;

unsigned buffers(const Arguments& arguments) {
    unsigned count = arguments.workers * kBuffersPerWorker;
    for (const PortSpec& port : arguments.ports) count += port.queues * kBuffersPerQueue;
    return count;
}

std::string lcores(const Arguments& arguments, std::span<const unsigned> allowed) {
    std::string text = fmt::format("0@({})", fmt::join(allowed, ","));
    const auto places = place_workers(arguments, allowed);
    for (std::size_t worker = 0; worker < places.size(); ++worker) {
        text += fmt::format(",{}@({})", worker + 1, fmt::join(places[worker], ","));
    }
    return text;
}

std::vector<std::string> eal_arguments(const Arguments& arguments, MemoryKind memory) {
    std::vector<std::string> list{"detour-dataplane", "--no-telemetry", "--main-lcore=0",
                                  "--lcores=" + lcores(arguments, allowed_cpus())};
    // EAL refuses --in-memory together with --no-huge.
    if (memory == MemoryKind::kHugePages) {
        list.emplace_back("--in-memory");
    } else {
        list.insert(list.end(),
                    {"--no-huge", "--no-shconf", "-m", fmt::format("{}", memory_bytes(arguments) >> 20U)});
    }
    const bool quiet = arguments.log_level != "debug";
    list.emplace_back(quiet ? "--log-level=error" : "--log-level=debug");
    bool pci = false;
    for (unsigned i = 0; i < arguments.ports.size(); ++i) {
        pci = pci || arguments.ports[i].kind == PortKind::kPci;
        list.push_back(device_arguments(arguments.ports[i], i, arguments.steering_object).option);
    }
    if (!pci) list.emplace_back("--no-pci");
    return list;
}

}  // namespace

std::vector<unsigned> allowed_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<unsigned> cpus;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return {0};
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
    return cpus;
}

std::vector<std::vector<unsigned>> place_workers(const Arguments& arguments,
                                                 std::span<const unsigned> allowed) {
    std::vector<std::vector<unsigned>> places(arguments.workers);
    for (unsigned worker = 0; worker < arguments.workers; ++worker) {
        if (!arguments.cores.empty()) {
            places[worker] = {arguments.cores[worker]};
        } else if (allowed.size() > arguments.workers + std::size_t{1}) {
            // From the top: the first CPUs serve interrupts on most machines. Two at least stay free.
            places[worker] = {allowed[allowed.size() - 1 - worker]};
        } else {
            // Too few to own one: the kernel shares them out better than a fixed choice would.
            places[worker].assign(allowed.begin(), allowed.end());
        }
    }
    return places;
}

std::size_t buffer_bytes(const Arguments& arguments) {
    return buffers(arguments) * kBufferBytes;
}

std::size_t memory_bytes(const Arguments& arguments) {
    return buffer_bytes(arguments) + kEalBytes;
}

api::Result<Eal> Eal::start(const Arguments& arguments, MemoryKind memory) {
    std::vector<std::string> list = eal_arguments(arguments, memory);
    std::vector<char*> argv;
    for (std::string& text : list) argv.push_back(text.data());
    argv.push_back(nullptr);
    if (rte_eal_init(static_cast<int>(list.size()), argv.data()) >= 0) return Eal();
    const int error = rte_errno;
    std::string ports;
    for (const PortSpec& port : arguments.ports) ports += " " + port.text;
    return api::fail(
        api::ErrorCode::kSystem, "starting DPDK",
        fmt::format("{}. Is each port there (ip link), up and free of other XDP programs, and does this "
                    "run as root? Ports:{}. More with --log-level debug",
                    rte_strerror(error), ports));
}

Eal::~Eal() {
    if (running_) rte_eal_cleanup();
}

api::Result<rte_mempool*> Eal::make_pool(const Arguments& arguments) {
    rte_mempool* pool = rte_pktmbuf_pool_create("detour", buffers(arguments) - 1, kCacheSize, 0, kDataRoom,
                                                static_cast<int>(SOCKET_ID_ANY));
    if (pool != nullptr) return pool;
    return api::fail(api::ErrorCode::kSystem, "taking memory for packet buffers",
                     fmt::format("{} MiB: {}", buffer_bytes(arguments) >> 20U, rte_strerror(rte_errno)));
}

}  // namespace detour::io
