// Plans applied as fast as they can be built, while two workers forward: no packet sees half a plan.
//
//     rcu SECONDS
//
// The real publication (io/publication.h) and the real stages, all compiled with AddressSanitizer, so that
// tables freed while a worker reads them end the test. Every plan writes its number into everything that a
// packet shows: the backends' addresses, the tunnel's source, the neighbour's address, the encapsulation. A
// frame must show one number throughout, that of the tables that the worker held for its burst, and a SYN
// must go where the slow model of that plan says.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/io/publication.h"
#include "dataplane/stages/pipeline.h"
#include "tests/support/fast_path.h"
#include "tests/support/model.h"
#include "tests/support/packets.h"
#include "tests/support/random_seed.h"

using namespace detour;
using namespace detour::support;
using std::chrono::steady_clock;

namespace {

constexpr std::size_t kPlans = 8;
constexpr std::size_t kFlows = 512;
constexpr unsigned kWorkers = 2;
constexpr std::uint32_t kBurst = 32;
constexpr std::size_t kHeadroom = 128;
constexpr std::size_t kFrameRoom = 256;

/// Where the number of a plan is to be seen in a frame that it sent.
std::string backend(std::size_t site, std::size_t plan, std::size_t index) {
    return fmt::format("10.{}.{}.{}", site, plan, index + 10);
}
std::string tunnel_source(std::size_t plan) {
    return fmt::format("192.0.2.{}", plan + 1);
}

api::ForwardingPlan numbered_plan(std::size_t number) {
    constexpr std::array kEncaps{api::Encap::kGue, api::Encap::kIpip, api::Encap::kGre};
    api::ForwardingPlan plan =
        make_plan({.encap = kEncaps[number % 3], .sites = 2 + number % 4, .backends = 1 + number * 5 % 7});
    plan.source_v4 = *api::IpAddress::parse(tunnel_source(number));
    plan.next_hops[0].destination.bytes[5] = static_cast<std::uint8_t>(number);
    for (api::PlanPool& pool : plan.pools) {
        for (api::PlanPoolSite& site : pool.sites) {
            for (std::size_t i = 0; i < site.backends.size(); ++i)
                site.backends[i].address = *api::IpAddress::parse(backend(site.site.value(), number, i));
        }
    }
    return plan;
}

struct Flow {
    model::Flow flow;
    Bytes syn;
    Bytes segment;
};

std::vector<Flow> make_flows(std::mt19937_64& random) {
    std::vector<Flow> flows;
    for (std::size_t i = 0; i < kFlows; ++i) {
        const bool v6 = i % 2 == 1;
        const bool udp = i % 8 == 0;
        const std::string client = v6 ? fmt::format("2001:db8:{:x}::{:x}", random() % 65536, i + 1)
                                      : fmt::format("198.18.{}.{}", i / 256, i % 256);
        const std::string vip = v6 ? "2001:db8:f::10" : "203.0.113.10";
        const auto port = static_cast<std::uint16_t>(1024 + random() % 60000);
        const auto frame = [&](std::uint8_t flags) {
            Frame out;
            out.ether(kRouterMac, kHostMac);
            v6 ? out.ipv6(client, vip) : out.ipv4(client, vip);
            udp ? out.udp(port, 53) : out.tcp({port, 443, flags, 1000, 1});
            return out.bytes();
        };
        const std::string text =
            fmt::format(fmt::runtime(v6 ? "[{}]:{}" : "{}:{}"), vip, udp ? "53/udp" : "443/tcp");
        flows.push_back({{*api::IpAddress::parse(client), api::Port{port}, *api::Vip::parse(text)},
                         udp ? Bytes{} : frame(kSyn),
                         frame(kAck)});
    }
    return flows;
}

/// What every plan does with every flow's SYN: the outer destination.
struct Numbered {
    api::ForwardingPlan plan;
    std::vector<Bytes> destinations;  // by flow; empty for UDP, whose packets may be pinned
};

std::vector<Numbered> make_plans(const std::vector<Flow>& flows) {
    std::vector<Numbered> plans;
    for (std::size_t number = 0; number < kPlans; ++number) {
        Numbered made{numbered_plan(number), {}};
        const model::Model model(made.plan);
        for (const Flow& flow : flows) {
            if (flow.syn.empty()) {
                made.destinations.emplace_back();
                continue;
            }
            // Backend ids are pool x 1000 + site x 100 + index: fast_path.cpp.
            const std::uint16_t id = model.choose(flow.flow, {})->backend.value().value();
            made.destinations.push_back(address_bytes(backend(id % 1000 / 100, number, id % 100)));
        }
        plans.push_back(std::move(made));
    }
    return plans;
}

/// One worker: its own buffers and state, as io/worker.cpp has them.
class Forwarder {
  public:
    Forwarder(io::Publication& publication, unsigned index, const std::vector<Flow>& flows,
              const std::vector<Numbered>& plans, std::uint64_t seed)
        : publication_(publication), index_(index), flows_(flows), plans_(plans), random_(seed) {}

    void run(const std::atomic<bool>& stop) {
        publication_.online(index_);
        while (!stop.load(std::memory_order_relaxed)) {
            const core::ForwardingTables& tables = publication_.read();
            state_.set_time(static_cast<std::uint64_t>(steady_clock::now().time_since_epoch() /
                                                       std::chrono::nanoseconds(1)));
            if (tables.generation.value() != 0) burst(tables);
            state_.sweep(tables, 16);
            publication_.pass(index_);
            // As an idle worker does before it sleeps.
            if (random_() % 64 == 0) {
                publication_.offline(index_);
                std::this_thread::yield();
                publication_.online(index_);
            }
        }
        publication_.offline(index_);
    }

    std::uint64_t forwarded = 0;
    std::uint64_t plans_seen = 0;
    std::string wrong;  ///< the first mistake; empty: none

  private:
    void burst(const core::ForwardingTables& tables) {
        plans_seen += tables.generation.value() != last_generation_ ? 1 : 0;
        last_generation_ = tables.generation.value();
        batch_.count = kBurst;
        for (std::uint32_t i = 0; i < kBurst; ++i) {
            chosen_[i] = random_() % flows_.size();
            const Flow& flow = flows_[chosen_[i]];
            syn_[i] = !flow.syn.empty() && random_() % 2 == 0;
            load(batch_.packets[i], i, syn_[i] ? flow.syn : flow.segment);
        }
        stages::run(batch_, {tables, host_, state_});
        const std::size_t number = tables.generation.value() % kPlans;
        for (std::uint32_t i = 0; i < kBurst; ++i) check(batch_.packets[i], i, number);
    }

    void load(core::Packet& packet, std::uint32_t i, const Bytes& frame) {
        packet = {};
        packet.data = buffers_[i].data() + kHeadroom;
        packet.length = static_cast<std::uint16_t>(frame.size());
        packet.headroom = kHeadroom;
        std::copy(frame.begin(), frame.end(), packet.data);
        if (!syn_[i]) return;
        // A sequence number of its own: no repetition of an earlier SYN, which would go where that went.
        const auto isn = static_cast<std::uint32_t>(random_());
        const std::size_t tcp = frame[12] == 0x86 ? 54 : 34;
        std::memcpy(packet.data + tcp + 4, &isn, sizeof isn);
    }

    void check(const core::Packet& packet, std::uint32_t i, std::size_t number) {
        // A segment of a flow whose backend this plan has not.
        const bool stranded = packet.reason == api::Reason::kStranded ||
                              packet.reason == api::Reason::kResetOverBudget ||
                              packet.reason == api::Reason::kResetSent;
        if (stranded && !syn_[i]) return;
        if (packet.verdict != core::Verdict::kTransmit) return fail(i, number, "was not sent");
        const std::uint8_t* frame = packet.data;
        const Bytes destination(frame + 30, frame + 34);
        const Bytes source(frame + 26, frame + 30);
        if (frame[5] != number) return fail(i, number, "has the neighbour of another plan");
        if (source != address_bytes(tunnel_source(number)))
            return fail(i, number, "has another plan's source");
        if (destination[2] != number) return fail(i, number, "goes to a backend of another plan");
        if (syn_[i] && destination != plans_[number].destinations[chosen_[i]])
            return fail(i, number, "goes elsewhere than the model says");
        ++forwarded;
    }

    void fail(std::uint32_t i, std::size_t number, const char* what) {
        if (wrong.empty()) {
            wrong = fmt::format("worker {}, plan {}, flow {}, {}: the frame {}", index_, number, chosen_[i],
                                syn_[i] ? "SYN" : "segment", what);
        }
    }

    io::Publication& publication_;
    const unsigned index_;
    const std::vector<Flow>& flows_;
    const std::vector<Numbered>& plans_;
    std::mt19937_64 random_;
    core::HostState host_;
    stages::WorkerState state_{
        stages::WorkerLimits{.flows_v4 = 1024, .flows_v6 = 1024, .syns = 1024, .workers = kWorkers}};
    core::Batch batch_;
    std::array<std::array<std::uint8_t, kFrameRoom>, kBurst> buffers_{};
    std::array<std::size_t, kBurst> chosen_{};
    std::array<bool, kBurst> syn_{};
    std::uint64_t last_generation_ = 0;
};

/// Returns how many plans were applied. Every second one is the plan before it with another generation, which
/// shares its tables.
std::uint64_t apply_plans(io::Publication& publication, std::vector<Numbered>& plans, std::mt19937_64& random,
                          steady_clock::time_point until) {
    std::uint64_t applied = 0;
    for (std::uint64_t generation = 0; steady_clock::now() < until; ++applied) {
        generation += random() % 2 == 0 ? kPlans : 1 + random() % (kPlans - 1);
        api::ForwardingPlan& plan = plans[generation % kPlans].plan;
        plan.generation = api::Generation{generation};
        auto tables = core::build_tables(plan, &publication.owned());
        if (!tables) throw std::runtime_error(tables.error().to_string());
        auto published = publication.publish(*std::move(tables));
        if (!published) throw std::runtime_error(published.error().to_string());
    }
    return applied;
}

}  // namespace

int main(int argc, char** argv) {
    const std::chrono::seconds duration(argc > 1 ? std::atoi(argv[1]) : 30);
    std::mt19937_64 random(support::random_seed());
    const std::vector<Flow> flows = make_flows(random);
    std::vector<Numbered> plans = make_plans(flows);
    io::Publication publication(kWorkers);
    std::vector<std::unique_ptr<Forwarder>> workers;
    for (unsigned i = 0; i < kWorkers; ++i)
        workers.push_back(std::make_unique<Forwarder>(publication, i, flows, plans, random()));
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (const auto& worker : workers) threads.emplace_back([&] { worker->run(stop); });
    const std::uint64_t applied = apply_plans(publication, plans, random, steady_clock::now() + duration);
    stop = true;
    for (std::thread& thread : threads) thread.join();

    bool good = applied > 100;
    std::printf("%lu plans applied in %ld s\n", applied, static_cast<long>(duration.count()));
    for (unsigned i = 0; i < kWorkers; ++i) {
        const Forwarder& w = *workers[i];
        std::printf("worker %u: %lu packets forwarded and compared, %lu plans met%s%s\n", i, w.forwarded,
                    w.plans_seen, w.wrong.empty() ? "" : "; ", w.wrong.c_str());
        good = good && w.wrong.empty() && w.forwarded > 10'000 && w.plans_seen > 100;
    }
    std::printf("%d passed, %d failed, 0 skipped\n", good ? 1 : 0, good ? 0 : 1);
    return good ? 0 : 1;
}
