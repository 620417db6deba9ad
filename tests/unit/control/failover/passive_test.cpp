// The rule for a site whose way back to the clients is cut, case by case: 100 ms a reading.
#include "control/failover/passive.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

using namespace detour;
using namespace detour::failover;
using namespace std::chrono_literals;
using health::Monotonic;
using health::nanoseconds;

namespace {

constexpr api::SiteId kHere{0};
constexpr std::uint64_t kAllPrefixes = ~std::uint64_t{0};

/// What one backend gets in each reading.
struct Flow {
    unsigned site;
    unsigned pool;
    double syns;       ///< a reading
    double completes;  ///< share of them
};

/// Backends that are fed at steady rates; fractions are carried over.
class Traffic {
  public:
    explicit Traffic(std::vector<Flow> flows)
        : flows_(std::move(flows)), sent_(flows_.size()), done_(flows_.size()) {}

    std::vector<Flow>& flows() { return flows_; }
    std::map<api::SiteId, PrefixSets>& prefixes() { return prefixes_; }

    void step(PassiveSignal& signal, nanoseconds interval = 100ms) {
        now_ += interval;
        HandshakeReading reading;
        reading.prefixes = prefixes_;
        for (std::size_t i = 0; i < flows_.size(); ++i) {
            sent_[i] += flows_[i].syns;
            done_[i] += flows_[i].syns * flows_[i].completes;
            reading.backends.push_back({api::BackendId{static_cast<std::uint16_t>(i)},
                                        api::PoolId{static_cast<std::uint16_t>(flows_[i].pool)},
                                        api::SiteId{static_cast<std::uint8_t>(flows_[i].site)},
                                        static_cast<std::uint64_t>(sent_[i]),
                                        static_cast<std::uint64_t>(done_[i])});
        }
        signal.read(reading, Monotonic{now_});
    }
    [[nodiscard]] nanoseconds now() const { return now_; }

  private:
    std::vector<Flow> flows_;
    std::vector<double> sent_, done_;
    std::map<api::SiteId, PrefixSets> prefixes_;
    nanoseconds now_ = 1000s;
};

/// `count` backends in each of three sites, one pool, all well.
std::vector<Flow> three_sites(double syns, unsigned count = 2) {
    std::vector<Flow> flows;
    for (unsigned site = 0; site < 3; ++site) {
        for (unsigned i = 0; i < count; ++i) flows.push_back({site, 0, syns / count, 1});
    }
    return flows;
}

}  // namespace

TEST_CASE("what makes a way back lost, and what does not") {
    struct Row {
        std::string name;
        std::vector<Flow> flows;
        PrefixSets here;  ///< client prefixes of the site in question
        bool lost;
    };
    const PrefixSets none_complete{kAllPrefixes, 0};
    const PrefixSets all_complete{kAllPrefixes, kAllPrefixes};
    const std::vector<Row> rows{
        {"no traffic at all", {}, {}, false},
        {"all well", three_sites(10), all_complete, false},
        {"nothing completes here, all of it elsewhere",
         {{0, 0, 5, 0}, {0, 0, 5, 0}, {1, 0, 10, 1}, {2, 0, 10, 1}},
         none_complete,
         true},
        {"a tenth completes", {{0, 0, 5, 0.1}, {0, 0, 5, 0.1}, {1, 0, 10, 1}}, none_complete, false},
        {"a twentieth completes", {{0, 0, 50, 0.05}, {0, 0, 50, 0.05}, {1, 0, 99, 1}}, none_complete, true},
        {"a quiet pool: 5 SYNs a second",
         {{0, 0, 0.25, 0}, {0, 0, 0.25, 0}, {1, 0, 0.5, 1}},
         none_complete,
         false},
        {"a flood from forged sources, in every site",
         {{0, 0, 5000, 0.002}, {0, 0, 5000, 0.002}, {1, 0, 9999, 0.002}, {2, 0, 9999, 0.002}},
         all_complete,
         false},
        {"such a flood, and the way back is cut as well",
         {{0, 0, 5000, 0}, {0, 0, 5000, 0}, {1, 0, 9999, 0.01}, {2, 0, 9999, 0.01}},
         none_complete,
         true},
        {"a flood from one source that knows where its SYNs go; the others' clients complete",
         {{0, 0, 5000, 0.002}, {0, 0, 5, 1}, {1, 0, 10, 1}, {2, 0, 10, 1}},
         {kAllPrefixes, kAllPrefixes & ~1ULL},
         false},
        {"a flood from a few sources at all backends here",
         {{0, 0, 5000, 0.002}, {0, 0, 5000, 0.002}, {1, 0, 10, 1}, {2, 0, 10, 1}},
         {0x3ff | 0xfff000, 0xfff000},
         false},
        {"few clients, whatever they send", {{0, 0, 50, 0}, {0, 0, 50, 0}, {1, 0, 99, 1}}, {0x7f, 0}, false},
        {"eight client prefixes", {{0, 0, 50, 0}, {0, 0, 50, 0}, {1, 0, 99, 1}}, {0xff, 0}, true},
        {"one slow backend of two", {{0, 0, 10, 0}, {0, 0, 10, 1}, {1, 0, 10, 1}}, none_complete, false},
        {"one slow backend that gets nearly all SYNs",
         {{0, 0, 95, 0}, {0, 0, 5, 1}, {1, 0, 50, 1}},
         none_complete,
         false},
        {"one slow backend, and too little traffic at the other to tell",
         {{0, 0, 20, 0}, {0, 0, 0.1, 0}, {1, 0, 20, 1}},
         none_complete,
         false},
        {"a site of one backend", {{0, 0, 20, 0}, {1, 0, 20, 1}}, none_complete, true},
        {"one pool fails here, the other is well",
         {{0, 0, 20, 0}, {0, 0, 20, 0}, {0, 1, 2, 1}, {0, 1, 2, 1}, {1, 0, 20, 1}, {1, 1, 4, 1}},
         none_complete,
         false},
        {"both pools fail here",
         {{0, 0, 20, 0}, {0, 0, 20, 0}, {0, 1, 2, 0}, {0, 1, 2, 0}, {1, 0, 20, 1}, {1, 1, 4, 1}},
         none_complete,
         true},
        {"a pool that no other site serves",
         {{0, 0, 20, 0}, {0, 0, 20, 0}, {1, 1, 20, 1}},
         none_complete,
         false},
        {"the pool completes nowhere",
         {{0, 0, 20, 0}, {0, 0, 20, 0}, {1, 0, 20, 0}, {2, 0, 20, 0}},
         none_complete,
         false},
        {"two of three sites are cut",
         {{0, 0, 10, 0}, {0, 0, 10, 0}, {1, 0, 20, 0}, {2, 0, 20, 1}},
         none_complete,
         true},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        PassiveSignal signal;
        Traffic traffic(row.flows);
        traffic.prefixes()[kHere] = row.here;
        for (int i = 0; i < 40; ++i) traffic.step(signal);
        const Evidence evidence = signal.evidence(kHere);
        CAPTURE(evidence.to_string());
        CHECK(evidence.lost == row.lost);
        CHECK(evidence.held == row.lost);
    }
}

TEST_CASE(
    "the cut is seen as soon as 20 completions are missing, two readings at the least; held after 0.5 s") {
    struct Row {
        double per_reading;  ///< SYNs to this site
        int lost_after;      ///< readings
        int held_after;
    };
    for (const Row& row : {Row{100, 2, 5}, Row{10, 3, 5}, Row{10.0 / 3, 7, 7}}) {
        CAPTURE(row.per_reading);
        PassiveSignal signal;
        Traffic traffic(three_sites(row.per_reading));
        for (unsigned site = 0; site < 3; ++site)
            traffic.prefixes()[api::SiteId{static_cast<std::uint8_t>(site)}] = {kAllPrefixes, kAllPrefixes};
        for (int i = 0; i < 50; ++i) traffic.step(signal);
        CHECK_FALSE(signal.evidence(kHere).lost);
        for (Flow& flow : traffic.flows())
            if (flow.site == 0) flow.completes = 0;
        traffic.prefixes()[kHere] = {kAllPrefixes, 0};
        int lost = 0;
        int held = 0;
        for (int i = 1; i <= 10; ++i) {
            traffic.step(signal);
            if (lost == 0 && signal.evidence(kHere).lost) lost = i;
            if (held == 0 && signal.evidence(kHere).held) held = i;
        }
        CHECK(lost > 0);
        CHECK(lost <= row.lost_after);
        CHECK(held > 0);
        CHECK(held <= row.held_after);
        CHECK_FALSE(signal.evidence(api::SiteId{1}).lost);
        for (Flow& flow : traffic.flows()) flow.completes = 1;
        for (int i = 0; i < 4; ++i) traffic.step(signal);
        CHECK_FALSE(signal.evidence(kHere).lost);
    }
}

TEST_CASE("a fast path that was started anew, or a first reading, makes no evidence") {
    PassiveSignal signal;
    HandshakeReading reading;
    reading.prefixes[kHere] = {kAllPrefixes, 0};
    for (std::uint16_t i = 0; i < 4; ++i)
        reading.backends.push_back({api::BackendId{i}, api::PoolId{0},
                                    api::SiteId{static_cast<std::uint8_t>(i / 2)}, 10'000,
                                    i / 2 == 0 ? 0U : 10'000U});
    signal.read(reading, Monotonic{1s});
    CHECK_FALSE(signal.evidence(kHere).lost);  // from before we looked
    for (HandshakeCount& count : reading.backends) count.syns += 100;
    reading.backends[2].completed += 100;
    reading.backends[3].completed += 100;
    signal.read(reading, Monotonic{2s});
    CHECK_FALSE(signal.evidence(kHere).lost);  // those that knocked may yet complete
    for (HandshakeCount& count : reading.backends) count.syns += 100;
    reading.backends[2].completed += 100;
    reading.backends[3].completed += 100;
    signal.read(reading, Monotonic{2050ms});
    CHECK(signal.evidence(kHere).lost);
    for (HandshakeCount& count : reading.backends) count.syns = count.completed = 1;
    signal.read(reading, Monotonic{2100ms});
    CHECK_FALSE(signal.evidence(kHere).lost);
    CHECK(signal.completed(kHere) == 0);
}

TEST_CASE("evidence from before a moment does not count") {
    PassiveSignal signal;
    Traffic traffic({{0, 0, 50, 0}, {0, 0, 50, 0}, {1, 0, 99, 1}});
    traffic.prefixes()[kHere] = {kAllPrefixes, 0};
    for (int i = 0; i < 10; ++i) traffic.step(signal);
    CHECK(signal.evidence(kHere, Monotonic{traffic.now() - 600ms}).held);
    CHECK_FALSE(signal.evidence(kHere, Monotonic{traffic.now() - 300ms}).held);
    CHECK(signal.evidence(kHere, Monotonic{traffic.now() - 300ms}).lost);
    CHECK_FALSE(signal.evidence(kHere, Monotonic{traffic.now()}).lost);
}

TEST_CASE("old evidence ends") {
    PassiveSignal signal;
    Traffic traffic({{0, 0, 50, 0}, {0, 0, 50, 0}, {1, 0, 99, 1}});
    traffic.prefixes()[kHere] = {kAllPrefixes, 0};
    for (int i = 0; i < 10; ++i) traffic.step(signal);
    CHECK(signal.evidence(kHere).held);
    for (Flow& flow : traffic.flows()) flow.syns = 0;
    for (int i = 0; i < 31; ++i) traffic.step(signal);
    CHECK_FALSE(signal.evidence(kHere).lost);
}

TEST_CASE("a trickle that completes is well; one that fails, or is quiet, is not") {
    struct Row {
        const char* name;
        std::vector<std::pair<double, std::uint64_t>> readings;  ///< expected, completed
        bool well;
    };
    const std::vector<Row> rows{
        {"nothing", {}, false},
        {"fails", {{1, 0}, {1, 0}, {1, 0}, {50, 0}}, false},
        {"two complete", {{1, 1}, {1, 1}}, false},
        {"three complete", {{1, 1}, {1, 1}, {1, 1}}, true},
        {"three complete after a hundred that failed", {{50, 0}, {50, 0}, {1, 1}, {0, 0}, {1, 2}}, true},
        {"a third completes", {{3, 1}, {3, 1}, {3, 1}}, false},
        {"a third completes for long, then all", {{3, 1}, {3, 1}, {3, 1}, {3, 1}, {2, 2}, {2, 2}}, true},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        TrickleWatch watch;
        for (const auto& [expected, completed] : row.readings) watch.add(expected, completed);
        CHECK(watch.well() == row.well);
    }
}

TEST_CASE("one source that knows its ports to a healthy site can't make it look lost") {
    // 3 clients in 100 ms, each of another prefix, all complete; one prefix more knocks twenty times as
    // often.
    std::vector<Flow> flows = three_sites(3);
    for (unsigned i = 0; i < 2; ++i) flows[i] = {0, 0, 31.5, 1.5 / 31.5};
    Traffic traffic(std::move(flows));
    PassiveSignal signal;
    for (unsigned step = 0; step < 100; ++step) {
        const auto of = [](unsigned number) { return std::uint64_t{1} << (number * 29 % 63); };
        std::uint64_t complete = 0;
        for (unsigned n = 0; n < 6; ++n) complete |= of(3 * step + n);  // of this reading and the one before
        traffic.prefixes()[kHere] = {complete | std::uint64_t{1} << 63U, complete};
        traffic.step(signal);
        CHECK_FALSE(signal.evidence(kHere).lost);
    }
}

TEST_CASE(
    "a flood of forged SYNs, and one completion at a small site: that predicts nothing of a large one") {
    Traffic traffic({{0, 0, 1000, 0.001}, {0, 0, 1000, 0.001}, {1, 0, 20, 0}});
    PassiveSignal signal;
    traffic.prefixes()[kHere] = {kAllPrefixes, 3};
    for (unsigned step = 0; step < 30; ++step) {
        traffic.flows()[2].completes = step == 20 ? 0.05 : 0;
        traffic.step(signal);
        CHECK_FALSE(signal.evidence(kHere).lost);
    }
}
