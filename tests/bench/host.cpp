#include "tests/bench/host.h"

#include <pthread.h>
#include <sched.h>

#include <stdexcept>

namespace detour::bench {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(100);

std::unique_ptr<const core::ForwardingTables> tables_of(const api::ForwardingPlan& plan,
                                                        const core::ForwardingTables* before) {
    auto built = core::build_tables(plan, before);
    if (!built) throw std::runtime_error(built.error().to_string());
    return std::move(*built);
}

}  // namespace

Host::Host(const Scenario& scenario, unsigned workers) : publication(workers) {
    if (auto done = publication.publish(tables_of(plan_of(scenario), nullptr)); !done)
        throw std::runtime_error(done.error().to_string());
    for (std::size_t s = 0; s < kSites; ++s)
        switches.set_site(api::SiteId{static_cast<std::uint8_t>(s)}, {.admit = scenario.admit});
    constexpr auto kAllButOneInAHundred = static_cast<std::uint16_t>(65'535 * 99 / 100);
    if (scenario.drill)
        switches.set_pool_site(api::PoolId{0}, api::SiteId{0}, {.admit = api::Admit{kAllButOneInAHundred}});
}

Planner::Planner(Host& host, const Scenario& scenario, unsigned cpu)
    : host_(host), cpu_(cpu), plan_(plan_of(scenario)) {}

void Planner::start() {
    thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
}

void Planner::halt() {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    thread_.join();
}

void Planner::stop() {
    halt();
    if (!problem_.empty()) throw std::runtime_error(problem_);
}

void Planner::work(std::stop_token stop) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu_, &set);
    ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);
    try {
        do {
            apply();
            std::unique_lock lock(mutex_);
            wake_.wait_for(lock, stop, kInterval, [] { return false; });
        } while (!stop.stop_requested());
    } catch (const std::exception& error) {
        problem_ = error.what();
    }
}

void Planner::apply() {
    plan_.generation = api::Generation{plan_.generation.value() + 1};
    api::PlanPool& pool = plan_.pools[applied_ % plan_.pools.size()];
    api::Weight& weight = pool.sites[0].backends[0].weight;
    weight = api::Weight{weight.value() == 100 ? 90U : 100U};
    auto done = host_.publication.publish(tables_of(plan_, &host_.publication.owned()));
    if (!done) throw std::runtime_error(done.error().to_string());
    ++applied_;
}

}  // namespace detour::bench
