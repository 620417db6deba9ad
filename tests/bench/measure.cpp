#include "tests/bench/measure.h"

#include <fmt/format.h>
#include <rte_cycles.h>
#include <rte_launch.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests/bench/rig.h"

namespace detour::bench {
namespace {

constexpr double kMostMissed = 0.001;

double share(std::uint64_t part, std::uint64_t whole) {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

/// Smallest, median and largest.
std::string spread(std::vector<double> values, int digits = 2) {
    if (values.empty()) values.push_back(0);
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    return fmt::format("[{:.{}f}, {:.{}f}, {:.{}f}]", *low, digits, median(values), digits, *high, digits);
}

/// Why the row does not count; empty when it does.
std::string void_because(const Scenario& s, const Outcome& o) {
    if (o.packets == 0) return "needs two CPUs";
    if (share(o.established_missed, o.established) > kMostMissed) return "established packets missed";
    if (s.kind == Kind::kFlood && o.established_missed != 0) return "the flood hurt established flows";
    if (s.plans && o.lost != 0) return "a plan cost packets";
    if (share(o.missed, o.packets) > kMostMissed) return "packets did not end as the scenario says";
    return "";
}

struct Row {
    std::vector<double> net;
    std::vector<double> total;
    std::vector<double> instructions;
    Outcome outcome;
    double occupancy = 0;
    bool counts_instructions = true;
    std::string more;  ///< members that only this kind of row has

    void add(const Rig::Round& round) {
        net.push_back(round.net_ns());
        total.push_back(round.on.ns());
        instructions.push_back(share(round.on.instructions, round.on.packets) -
                               share(round.off.instructions, round.off.packets));
    }
    void add(const Rig& rig) {
        const Outcome& o = rig.outcome();
        outcome.packets += o.packets;
        outcome.missed += o.missed;
        outcome.established += o.established;
        outcome.established_missed += o.established_missed;
        outcome.evictions += o.evictions;
        outcome.lost += o.lost;
        occupancy = rig.occupancy();
        counts_instructions &= rig.counts_instructions();
    }
};

std::string text_of(const Scenario& s, const Row& row) {
    const Outcome& o = row.outcome;
    const std::string why = void_because(s, o);
    return fmt::format(
        R"({{"scenario": "{}", "net_ns": {}, "total_ns": {}, "instructions": {}, "packets": {}, "flows": {}, )"
        R"("occupancy": {:.4f}, "missed": {:.6f}, "established": {}, "established_missed": {}, "evictions": {}, )"
        R"("encap": "{}", "pools": {}, "backends": {}, {}"void": {}}})",
        s.name, spread(row.net), spread(row.total),
        row.counts_instructions ? fmt::format("{:.0f}", median(row.instructions)) : "null", o.packets,
        s.flows, row.occupancy, share(o.missed, o.packets), o.established, o.established_missed, o.evictions,
        api::to_string(s.encap), s.pools, s.backends, row.more, why.empty() ? "null" : '"' + why + '"');
}

void check(const How& how) {
    if (how.interrupted != nullptr && *how.interrupted != 0) throw std::runtime_error("interrupted");
}

/// Runs one thing at a time on the second lcore.
class SecondLcore {
  public:
    ~SecondLcore() { rte_eal_wait_lcore(kSecondLcore); }
    void start(std::function<void()> work) {
        work_ = std::move(work);
        const auto call = [](void* self) -> int { return static_cast<SecondLcore*>(self)->call(); };
        if (rte_eal_remote_launch(call, this, kSecondLcore) != 0)
            throw std::runtime_error("the second worker's thread is busy");
    }
    void wait() {
        rte_eal_wait_lcore(kSecondLcore);
        if (failed_) std::rethrow_exception(std::exchange(failed_, nullptr));
    }
    void run(std::function<void()> work) {
        start(std::move(work));
        wait();
    }

  private:
    int call() noexcept {
        try {
            work_();
        } catch (...) {
            failed_ = std::current_exception();
        }
        return 0;
    }
    std::function<void()> work_;
    std::exception_ptr failed_;
};

/// ns a packet by stage, as a JSON object: the median burst's time less what reading the clock takes.
std::string stages_of(const std::vector<Rig::Step>& steps) {
    const auto ticks = [](const Rig::Step& step) {
        return median(std::vector<double>(step.ticks.begin(), step.ticks.end()));
    };
    const double ns_of_tick = 1e9 / static_cast<double>(rte_get_tsc_hz());
    std::string text;
    for (std::size_t i = 1; i < steps.size(); ++i) {
        const double net = std::max(ticks(steps[i]) - ticks(steps[0]), 0.0) * ns_of_tick / api::kMaxBurst;
        text += fmt::format(R"({}"{}": {:.2f})", text.empty() ? "" : ", ", steps[i].name, net);
    }
    return '{' + text + '}';
}

Row measure_one(const Scenario& s, const How& how, rte_mempool* pool) {
    Host host(s, 1);
    Rig rig(s, host, 0, pool);
    Row row;
    for (int i = 0; i < how.rounds; ++i) {
        check(how);
        row.add(rig.round(how.seconds, how.packets));
    }
    row.add(rig);
    row.more = fmt::format(R"("stages_ns": {}, )", stages_of(rig.profile(how.seconds, how.packets)));
    return row;
}

/// Each round without plans and with them.
Row measure_plans(const Scenario& s, const How& how, rte_mempool* pool) {
    Host host(s, 1);
    Rig rig(s, host, 0, pool);
    Planner planner(host, s, how.second.value_or(how.cpu));
    Row row;
    std::vector<double> throughput;
    for (int i = 0; i < how.rounds; ++i) {
        check(how);
        const Rig::Round quiet = rig.round(how.seconds, how.packets);
        planner.start();
        const Rig::Round busy = rig.round(how.seconds, how.packets);
        planner.stop();
        row.add(busy);
        throughput.push_back(quiet.on.ns() / busy.on.ns());
    }
    row.add(rig);
    row.more = fmt::format(R"("plans": {}, "throughput": {}, "lost": {}, )", planner.applied(),
                           spread(throughput, 4), row.outcome.lost);
    return row;
}

/// Each round one worker, the other, and both at once.
Row measure_two(const Scenario& s, const How& how, rte_mempool* pool) {
    Row row;
    if (!how.second) return row;
    Host host(s, 2);
    std::optional<Rig> second;
    SecondLcore lcore;
    Rig first(s, host, 0, pool);
    lcore.run([&] { second.emplace(s, host, 1, pool); });
    std::vector<double> speedup;
    for (int i = 0; i < how.rounds; ++i) {
        check(how);
        Rig::Round other;
        const double alone = 1 / first.round(how.seconds, how.packets).net_ns();
        lcore.run([&] { other = second->round(how.seconds, how.packets); });
        const double other_alone = 1 / other.net_ns();
        lcore.start([&] { other = second->round(how.seconds, how.packets); });
        const Rig::Round both = first.round(how.seconds, how.packets);
        lcore.wait();
        row.add(both);
        row.add(other);
        speedup.push_back(2 * (1 / both.net_ns() + 1 / other.net_ns()) / (alone + other_alone));
    }
    row.add(first);
    row.add(*second);
    row.more = fmt::format(R"("workers": 2, "speedup": {}, )", spread(speedup));
    return row;
}

}  // namespace

std::string measure(const Scenario& scenario, const How& how, rte_mempool* pool) {
    if (scenario.workers > 1) return text_of(scenario, measure_two(scenario, how, pool));
    if (scenario.plans) return text_of(scenario, measure_plans(scenario, how, pool));
    return text_of(scenario, measure_one(scenario, how, pool));
}

}  // namespace detour::bench
