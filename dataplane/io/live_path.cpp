#include "dataplane/io/live_path.h"

#include <fmt/format.h>
#include <rte_launch.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "dataplane/io/eal.h"
#include "dataplane/io/statistics.h"

namespace detour::io {
namespace {

// A flood of flows that nobody meant to keep can turn a worker's whole table over no faster than this.
constexpr std::size_t kTableTurnSeconds = 4;
constexpr std::size_t kLeastInserts = 10'000;

// Worker w runs on lcore w + 1 (eal.h).
unsigned lcore_of(unsigned worker) {
    return worker + 1;
}

int run_worker(void* worker) {
    static_cast<Worker*>(worker)->run();
    return 0;
}

}  // namespace

LivePath::LivePath(const Arguments& arguments, KernelSide kernel)
    : kernel_side_(std::move(kernel)), publication_(arguments.workers), release_(arguments.release) {}

api::Result<std::unique_ptr<LivePath>> LivePath::open(const Arguments& arguments, KernelSide kernel) {
    std::unique_ptr<LivePath> path(new LivePath(arguments, std::move(kernel)));
    if (auto opened = path->open_ports(arguments); !opened) return tl::unexpected(opened.error());
    if (auto found = path->kernel_side_.find_steering(); !found) return tl::unexpected(found.error());
    auto kernel_path = KernelPath::open(path->ports_, path->pool_);
    if (!kernel_path) return tl::unexpected(kernel_path.error());
    path->kernel_path_ = *std::move(kernel_path);
    path->make_workers(arguments);
    return path;
}

api::Result<void> LivePath::open_ports(const Arguments& arguments) {
    auto pool = Eal::make_pool(arguments);
    if (!pool) return tl::unexpected(pool.error());
    pool_ = *pool;
    ports_.reserve(arguments.ports.size());
    for (unsigned i = 0; i < arguments.ports.size(); ++i) {
        const std::string device = device_arguments(arguments.ports[i], i, {}).device;
        auto port = EthernetPort::open(arguments.ports[i], {device, pool_});
        if (!port) return tl::unexpected(port.error());
        ports_.push_back(*std::move(port));
    }
    return {};
}

void LivePath::make_workers(const Arguments& arguments) {
    stages::WorkerLimits limits;
    limits.flows_v4 = arguments.flows_per_worker;
    limits.flows_v6 = std::max<std::size_t>(arguments.flows_per_worker / 4, 1);
    limits.workers = arguments.workers;
    limits.inserts = std::max(arguments.flows_per_worker / kTableTurnSeconds, kLeastInserts);
    for (unsigned i = 0; i < arguments.workers; ++i) {
        workers_.push_back(std::make_unique<Worker>(WorkerSetup{
            i, ports_, publication_, host_, *kernel_path_, pool_, arguments.idle_sleep, limits, capture_}));
    }
    for (const auto& worker : workers_) {
        std::vector<const stages::WorkerState*> others;
        for (const auto& other : workers_) {
            if (other != worker) others.push_back(&other->state());
        }
        worker->know_others(std::move(others));
    }
}

LivePath::~LivePath() {
    for (const auto& worker : workers_) worker->stop();
    for (unsigned i = 0; i < started_; ++i) rte_eal_wait_lcore(lcore_of(i));
    if (release_ && kernel_path_) kernel_path_->forget_interfaces();
    kernel_path_.reset();
    if (!release_) return;
    if (auto done = kernel_side_.release(); !done) spdlog::warn("{}", done.error().to_string());
}

api::Result<void> LivePath::start() {
    for (; started_ < workers_.size(); ++started_) {
        if (rte_eal_remote_launch(run_worker, workers_[started_].get(), lcore_of(started_)) != 0) {
            return api::fail(api::ErrorCode::kSystem, "starting the workers",
                             fmt::format("worker {} does not start", started_));
        }
    }
    return {};
}

api::Result<std::chrono::nanoseconds> LivePath::publish(std::unique_ptr<const core::ForwardingTables> tables,
                                                        const api::ForwardingPlan& plan) {
    auto took = publication_.publish(std::move(tables));
    // Only now: a new VIP's packet must find its tables, and a worker hands an old VIP's back to the kernel.
    if (auto set = kernel_side_.set_vips(vips_of(plan)); !set) return tl::unexpected(set.error());
    return took;
}

void LivePath::collect(wire::StatsReply& reply) const {
    collect_statistics({workers_, ports_, *kernel_path_}, reply);
}

std::vector<const stages::WorkerState*> LivePath::worker_states() const {
    std::vector<const stages::WorkerState*> states;
    for (const auto& worker : workers_) states.push_back(&worker->state());
    return states;
}

std::vector<PortState> LivePath::ports() const {
    std::vector<PortState> states;
    for (const EthernetPort& port : ports_) states.push_back(port.state());
    return states;
}

}  // namespace detour::io
