#include "dataplane/io/service.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "dataplane/io/channel.h"
#include "dataplane/io/eal.h"
#include "dataplane/io/huge_pages.h"
#include "dataplane/io/interface_queues.h"
#include "dataplane/io/kernel_side.h"
#include "dataplane/io/live_path.h"
#include "dataplane/io/request_handler.h"
#include "dataplane/io/state_store.h"
#include "dataplane/io/state_writer.h"

namespace detour::io {
namespace {

constexpr auto kPlanFile = "plan.state";
constexpr auto kSwitchesFile = "switches.state";
enum StateFile : std::size_t { kPlanItem, kSwitchesItem };

// What is on disk; a file that can't be used is reported and counts as absent.
RestoredState load(const StateStore& store, const std::string& name) {
    auto payload = store.load(name);
    if (!payload) {
        spdlog::error("{}; starting without it", payload.error().to_string());
        return {};
    }
    if (!*payload || (*payload)->empty()) return {};
    auto state = read_state(**payload);
    if (state) return *std::move(state);
    store.set_aside(name);
    spdlog::error("{}/{}: {}; kept as {}.corrupt, starting without it", store.folder(), name,
                  state.error().to_string(), name);
    return {};
}

api::Result<void> find_steering_object(Arguments& arguments) {
    if (!arguments.steering_object.empty()) return {};
    bool needed = false;
    for (const PortSpec& port : arguments.ports) needed = needed || port.kind == PortKind::kInterface;
    if (!needed) return {};
    auto path = bpf::steering_object_path();
    if (!path) return tl::unexpected(path.error());
    arguments.steering_object = path->string();
    return {};
}

// Every queue of an interface must be opened; the other ports get one for each worker.
api::Result<void> count_queues(Arguments& arguments) {
    for (PortSpec& port : arguments.ports) {
        port.queues = arguments.workers;
        if (port.kind != PortKind::kInterface) continue;
        auto queues = interface_queues(port.name);
        if (!queues) return tl::unexpected(queues.error());
        if (*queues < arguments.workers) {
            return api::fail(api::ErrorCode::kLimit, "opening port " + port.name,
                             fmt::format("it has {} queues, and {} workers need one each to send by: fewer "
                                         "--workers, or ethtool -L {} combined {}",
                                         *queues, arguments.workers, port.name, arguments.workers));
        }
        port.queues = *queues;
    }
    return {};
}

}  // namespace

struct Service::Parts {
    explicit Parts(StateStore opened, Arguments given)
        : arguments(std::move(given)), store(std::move(opened)), huge_pages(store.folder()) {}

    api::Result<void> start_fast_path();
    api::Result<void> restore_and_run(const RestoredState& plan);

    Arguments arguments;
    StateStore store;
    HugePages huge_pages;
    std::optional<Eal> eal;
    std::unique_ptr<LivePath> live;
    std::unique_ptr<RequestHandler> handler;
    std::unique_ptr<StateWriter> writer;
    std::unique_ptr<Channel> channel;
    std::uint64_t generation = 0;  ///< restored from disk
};

api::Result<void> Service::Parts::start_fast_path() {
    const RestoredState plan = load(store, kPlanFile);
    auto kernel =
        KernelSide::take_over(arguments.ports, plan.plan ? vips_of(*plan.plan) : std::vector<api::Vip>{});
    if (!kernel) return tl::unexpected(kernel.error());
    const bool huge = arguments.huge_pages && huge_pages.provide(memory_bytes(arguments));
    if (arguments.huge_pages && !huge) spdlog::info("no huge pages to be had, using ordinary memory");
    auto started = Eal::start(arguments, huge ? MemoryKind::kHugePages : MemoryKind::kOrdinary);
    if (!started) return tl::unexpected(started.error());
    eal.emplace(*std::move(started));
    auto opened = LivePath::open(arguments, *std::move(kernel));
    if (!opened) return tl::unexpected(opened.error());
    live = *std::move(opened);
    return restore_and_run(plan);
}

api::Result<void> Service::Parts::restore_and_run(const RestoredState& plan) {
    handler = std::make_unique<RequestHandler>(*live);
    auto restored = handler->restore(load(store, kSwitchesFile), plan);
    // Not fatal: the control process sends what is missing.
    if (!restored) spdlog::error("the plan on disk: {}", restored.error().to_string());
    writer = std::make_unique<StateWriter>(
        store, std::vector<StateItem>{{kPlanFile, [this] { return handler->plan_payload(); }},
                                      {kSwitchesFile, [this] { return handler->switches_payload(); }}});
    handler->set_marks({[this] { writer->mark(kPlanItem); }, [this] { writer->mark(kSwitchesItem); }});
    if (auto running = live->start(); !running) return running;
    generation = live->tables().generation.value();  // before somebody can replace the tables
    auto listening = Channel::open(arguments.socket, *handler);
    if (!listening) return tl::unexpected(listening.error());
    channel = *std::move(listening);
    return {};
}

Service::Service(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Service::~Service() = default;

api::Result<std::unique_ptr<Service>> Service::start(Arguments arguments) {
    if (auto found = find_steering_object(arguments); !found) return tl::unexpected(found.error());
    if (auto counted = count_queues(arguments); !counted) return tl::unexpected(counted.error());
    auto store = StateStore::open(arguments.state_dir);
    if (!store) return tl::unexpected(store.error());
    auto parts = std::make_unique<Parts>(*std::move(store), std::move(arguments));
    if (auto started = parts->start_fast_path(); !started) return tl::unexpected(started.error());
    return std::unique_ptr<Service>(new Service(std::move(parts)));
}

std::string Service::describe() const {
    return fmt::format("{} ports, {} workers, generation {}, control socket {}",
                       parts_->arguments.ports.size(), parts_->arguments.workers, parts_->generation,
                       parts_->arguments.socket);
}

}  // namespace detour::io
