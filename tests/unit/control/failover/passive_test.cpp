// The rule for a site whose way back to the clients is cut, case by case: 100 ms a reading.
#include "control/failover/passive.h"

#include <doctest/doctest.h>

#include <array>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/support/random_seed.h"

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
    double syns;                            ///< a reading
    double completes;                       ///< share of them
    std::uint64_t knock = kAllPrefixes;     ///< client prefixes that send them, one after the other
    std::uint64_t complete = kAllPrefixes;  ///< those whose handshakes complete
};

/// Backends that are fed at steady rates; fractions are carried over.
class Traffic {
  public:
    explicit Traffic(std::vector<Flow> flows)
        : flows_(std::move(flows)), sent_(flows_.size()), done_(flows_.size()) {}

    std::vector<Flow>& flows() { return flows_; }
    /// SYNs that the fast path could not remember: share of a site's, and how old they were.
    void forget(unsigned site, double share, double age_ms) { forgets_[id(site)] = {share, age_ms}; }

    void step(PassiveSignal& signal, nanoseconds interval = 100ms) {
        now_ += interval;
        for (std::size_t i = 0; i < flows_.size(); ++i) feed(i);
        HandshakeReading reading;
        for (std::size_t i = 0; i < flows_.size(); ++i) {
            reading.backends.push_back({api::BackendId{static_cast<std::uint16_t>(i)},
                                        api::PoolId{static_cast<std::uint16_t>(flows_[i].pool)},
                                        id(flows_[i].site), static_cast<std::uint64_t>(sent_[i]),
                                        static_cast<std::uint64_t>(done_[i])});
        }
        for (const auto& [site, count] : sites_) reading.sites.push_back(count);
        signal.read(reading, Monotonic{now_});
    }
    [[nodiscard]] nanoseconds now() const { return now_; }

  private:
    [[nodiscard]] static api::SiteId id(unsigned site) {
        return api::SiteId{static_cast<std::uint8_t>(site)};
    }
    void feed(std::size_t i) {
        const Flow& flow = flows_[i];
        SiteCount& count = sites_[id(flow.site)];
        count.site = id(flow.site);
        spread(sent_[i], flow.syns, flow.knock, count.prefixes.syns);
        spread(done_[i], flow.syns * flow.completes, flow.complete, count.prefixes.completed);
        const auto [share, age_ms] = forgets_[id(flow.site)];
        count.forgotten += static_cast<std::uint64_t>(flow.syns * share);
        count.forgotten_ms += static_cast<std::uint64_t>(flow.syns * share * age_ms);
    }
    static void spread(double& sum, double more, std::uint64_t prefixes,
                       std::array<std::uint32_t, api::kPrefixBuckets>& buckets) {
        std::vector<unsigned> set;
        for (unsigned i = 0; i < 64; ++i)
            if ((prefixes >> i & 1U) != 0) set.push_back(i * 29 % 64);
        const auto before = static_cast<std::uint64_t>(sum);
        sum += more;
        if (set.empty()) return;
        for (std::uint64_t n = before; n < static_cast<std::uint64_t>(sum); ++n)
            ++buckets[set[n % set.size()]];
    }

    std::vector<Flow> flows_;
    std::vector<double> sent_, done_;
    std::map<api::SiteId, SiteCount> sites_;
    std::map<api::SiteId, std::pair<double, double>> forgets_;
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
        bool lost;
    };
    const std::vector<Row> rows{
        {"no traffic at all", {}, false},
        {"all well", three_sites(10), false},
        {"nothing completes here, all of it elsewhere",
         {{0, 0, 5, 0}, {0, 0, 5, 0}, {1, 0, 10, 1}, {2, 0, 10, 1}},
         true},
        {"a tenth completes", {{0, 0, 5, 0.1}, {0, 0, 5, 0.1}, {1, 0, 10, 1}}, false},
        {"a twentieth completes", {{0, 0, 50, 0.05}, {0, 0, 50, 0.05}, {1, 0, 99, 1}}, true},
        {"a quiet pool: 5 SYNs a second", {{0, 0, 0.25, 0}, {0, 0, 0.25, 0}, {1, 0, 0.5, 1}}, false},
        {"a flood from forged sources, in every site",
         {{0, 0, 5000, 0.002}, {0, 0, 5000, 0.002}, {1, 0, 9999, 0.002}, {2, 0, 9999, 0.002}},
         false},
        {"such a flood, and the way back is cut as well",
         {{0, 0, 5000, 0}, {0, 0, 5000, 0}, {1, 0, 9999, 0.01}, {2, 0, 9999, 0.01}},
         true},
        {"a flood from one source that knows where its SYNs go; the others' clients complete",
         {{0, 0, 5000, 0, 1}, {0, 0, 5, 1}, {1, 0, 10, 1}, {2, 0, 10, 1}},
         false},
        {"a flood from a few sources at all backends here",
         {{0, 0, 5000, 0, 0x3ff},
          {0, 0, 5000, 0, 0x3ff},
          {0, 0, 10, 1, 0xfff000, 0xfff000},
          {0, 0, 10, 1, 0xfff000, 0xfff000},
          {1, 0, 10, 1},
          {2, 0, 10, 1}},
         false},
        {"few clients, whatever they send", {{0, 0, 50, 0, 0x7f}, {0, 0, 50, 0, 0x7f}, {1, 0, 99, 1}}, false},
        {"eight client prefixes", {{0, 0, 50, 0, 0xff}, {0, 0, 50, 0, 0xff}, {1, 0, 99, 1}}, true},
        {"a busy site of which 5 % are left, thinly of all prefixes",
         {{0, 0, 1000, 0.05}, {0, 0, 1000, 0.05}, {1, 0, 2000, 0.97}, {2, 0, 2000, 0.97}},
         true},
        {"the same, and what is left comes from three prefixes",
         {{0, 0, 1000, 0.05, kAllPrefixes, 7}, {0, 0, 1000, 0.05, kAllPrefixes, 7}, {1, 0, 2000, 0.97}},
         true},
        {"a busy site that loses some of its clients, but not nine tenths",
         {{0, 0, 1000, 0.15}, {0, 0, 1000, 0.15}, {1, 0, 2000, 0.97}, {2, 0, 2000, 0.97}},
         false},
        {"a flood from a quarter of all prefixes at a busy site that is well",
         {{0, 0, 20000, 0, 0xffff}, {0, 0, 20000, 0, 0xffff}, {0, 0, 1000, 1}, {1, 0, 2000, 1}},
         false},
        {"one slow backend of two", {{0, 0, 10, 0}, {0, 0, 10, 1}, {1, 0, 10, 1}}, false},
        {"one slow backend that gets nearly all SYNs", {{0, 0, 95, 0}, {0, 0, 5, 1}, {1, 0, 50, 1}}, false},
        {"one slow backend, and too little traffic at the other to tell",
         {{0, 0, 20, 0}, {0, 0, 0.1, 0}, {1, 0, 20, 1}},
         false},
        {"a site of one backend", {{0, 0, 20, 0}, {1, 0, 20, 1}}, true},
        {"one pool fails here, the other is well",
         {{0, 0, 20, 0}, {0, 0, 20, 0}, {0, 1, 2, 1}, {0, 1, 2, 1}, {1, 0, 20, 1}, {1, 1, 4, 1}},
         false},
        {"both pools fail here",
         {{0, 0, 20, 0}, {0, 0, 20, 0}, {0, 1, 2, 0}, {0, 1, 2, 0}, {1, 0, 20, 1}, {1, 1, 4, 1}},
         true},
        {"a pool that no other site serves", {{0, 0, 20, 0}, {0, 0, 20, 0}, {1, 1, 20, 1}}, false},
        {"the pool completes nowhere", {{0, 0, 20, 0}, {0, 0, 20, 0}, {1, 0, 20, 0}, {2, 0, 20, 0}}, false},
        {"two of three sites are cut", {{0, 0, 10, 0}, {0, 0, 10, 0}, {1, 0, 20, 0}, {2, 0, 20, 1}}, true},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        PassiveSignal signal;
        Traffic traffic(row.flows);
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
        for (int i = 0; i < 50; ++i) traffic.step(signal);
        CHECK_FALSE(signal.evidence(kHere).lost);
        for (Flow& flow : traffic.flows())
            if (flow.site == 0) flow.completes = 0;
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

TEST_CASE("what is on its way to the other sites lowers no share: 20 SYNs are 20 completions to expect") {
    // 33 SYNs a second here, 66 elsewhere, whose handshakes take most of a reading's time.
    PassiveSignal signal;
    std::uint64_t syns = 0;
    HandshakeReading reading;
    for (std::uint16_t i = 0; i < 3; ++i) reading.backends.push_back({api::BackendId{i}, {}, {}, 0, 0});
    for (std::uint8_t i = 0; i < 3; ++i) {
        reading.backends[i].site = api::SiteId{i};
        reading.sites.push_back({api::SiteId{i}, {}, 0, 0});
    }
    int lost_after = 0;
    for (int i = 1; i <= 30 && lost_after == 0; ++i) {
        const std::uint64_t before = syns;
        syns = static_cast<std::uint64_t>(i) * 10 / 3;
        for (std::size_t s = 0; s < 3; ++s) {
            const bool cut = s == 0 && i > 20;
            reading.backends[s].syns = syns;
            if (!cut) reading.backends[s].completed = before;
            for (std::uint64_t n = before; n < syns; ++n) ++reading.sites[s].prefixes.syns[n * 29 % 64];
            for (std::uint64_t n = 0; n < before && !cut; ++n)
                reading.sites[s].prefixes.completed[n * 29 % 64] = 1;
        }
        signal.read(reading, Monotonic{1000s + i * 100ms});
        if (i > 20 && signal.evidence(kHere, {}, 90ms).lost) lost_after = i - 20;
        if (i <= 20) CHECK_FALSE(signal.evidence(kHere, {}, 90ms).lost);
    }
    CHECK(lost_after > 0);
    CHECK(lost_after <= 6);
}

TEST_CASE("a fast path that was started anew, or a first reading, makes no evidence") {
    PassiveSignal signal;
    HandshakeReading reading;
    reading.sites.push_back({kHere, {}, 0, 0});
    const auto more = [&](std::uint64_t syns) {
        for (HandshakeCount& count : reading.backends) {
            count.syns += syns;
            if (count.site != kHere) count.completed += syns;
        }
        for (std::uint32_t& count : reading.sites[0].prefixes.syns) count += 10;
    };
    for (std::uint16_t i = 0; i < 4; ++i)
        reading.backends.push_back(
            {api::BackendId{i}, api::PoolId{0}, api::SiteId{static_cast<std::uint8_t>(i / 2)}, 0, 0});
    more(10'000);
    signal.read(reading, Monotonic{1s});
    CHECK_FALSE(signal.evidence(kHere).lost);  // from before we looked
    more(100);
    signal.read(reading, Monotonic{2s});
    CHECK_FALSE(signal.evidence(kHere).lost);  // those that knocked may yet complete
    more(100);
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
    for (int i = 0; i < 10; ++i) traffic.step(signal);
    CHECK(signal.evidence(kHere, Monotonic{traffic.now() - 600ms}).held);
    CHECK_FALSE(signal.evidence(kHere, Monotonic{traffic.now() - 300ms}).held);
    CHECK(signal.evidence(kHere, Monotonic{traffic.now() - 300ms}).lost);
    CHECK_FALSE(signal.evidence(kHere, Monotonic{traffic.now()}).lost);
}

TEST_CASE("old evidence ends") {
    PassiveSignal signal;
    Traffic traffic({{0, 0, 50, 0}, {0, 0, 50, 0}, {1, 0, 99, 1}});
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
    constexpr std::uint64_t kOthers = kAllPrefixes >> 1U;
    for (unsigned i = 0; i < 2; ++i) {
        flows[i] = {0, 0, 1.5, 1, kOthers, kOthers};
        flows.push_back({0, 0, 30, 0, ~kOthers});
    }
    Traffic traffic(std::move(flows));
    PassiveSignal signal;
    for (unsigned step = 0; step < 100; ++step) {
        traffic.step(signal);
        CHECK_FALSE(signal.evidence(kHere).lost);
    }
}

TEST_CASE(
    "a flood of forged SYNs, and one completion at a small site: that predicts nothing of a large one") {
    Traffic traffic({{0, 0, 1000, 0.001}, {0, 0, 1000, 0.001}, {1, 0, 20, 0}});
    PassiveSignal signal;
    for (unsigned step = 0; step < 30; ++step) {
        traffic.flows()[2].completes = step == 20 ? 0.05 : 0;
        traffic.step(signal);
        CHECK_FALSE(signal.evidence(kHere).lost);
    }
}

TEST_CASE("a site whose SYNs are forgotten before its handshakes can come is not judged; a near one is") {
    struct Row {
        const char* name;
        double share;   ///< of its SYNs that were forgotten
        double age_ms;  ///< when
        nanoseconds round_trip;
        bool lost;
    };
    const std::vector<Row> rows{
        {"nothing is forgotten", 0, 0, 250ms, true},
        {"a far site, all forgotten after 130 ms", 1, 130, 250ms, false},
        {"a near site, the same", 1, 130, 5ms, true},
        {"a far site, all forgotten after 800 ms", 1, 800, 250ms, true},
        {"a far site, a third forgotten after 130 ms", 0.3, 130, 250ms, true},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        PassiveSignal signal;
        Traffic traffic({{0, 0, 5000, 0}, {0, 0, 5000, 0}, {1, 0, 9999, 0.01}, {2, 0, 9999, 0.01}});
        traffic.forget(0, row.share, row.age_ms);
        for (int i = 0; i < 20; ++i) traffic.step(signal);
        const Evidence evidence = signal.evidence(kHere, {}, row.round_trip);
        CHECK(evidence.lost == row.lost);
        CHECK(evidence.blind == !row.lost);
    }
}

TEST_CASE("a far site is given its round trip: many clients that come at once don't make it suspect") {
    Traffic traffic(three_sites(1));
    PassiveSignal signal;
    for (int i = 0; i < 40; ++i) traffic.step(signal);
    for (Flow& flow : traffic.flows()) flow.syns *= 100;
    for (int i = 0; i < 20; ++i) {
        for (Flow& flow : traffic.flows())
            if (flow.site == 0) flow.completes = i < 3 ? 0.01 : 1;  // as from 300 ms ago
        traffic.step(signal);
        CHECK_FALSE(signal.evidence(kHere, {}, 300ms).lost);
    }
}

TEST_CASE("backends that come and go change nothing of what the others show") {
    PassiveSignal signal;
    Traffic traffic({{0, 0, 50, 0}, {0, 0, 50, 0}, {1, 0, 99, 1}});
    for (int i = 0; i < 6; ++i) traffic.step(signal);
    const Evidence before = signal.evidence(kHere);
    CHECK(before.held);
    // One more at each site, with a past that nobody has seen.
    HandshakeReading reading;
    nanoseconds now = traffic.now();
    const auto read = [&](std::vector<std::uint16_t> ids) {
        reading.backends.clear();
        for (const std::uint16_t id : ids) {
            const bool here = id < 2 || id == 7;
            const std::uint64_t count = id < 2 ? 300 : id == 2 ? 594 : 1'000'000;
            reading.backends.push_back({api::BackendId{id}, api::PoolId{0},
                                        api::SiteId{here ? std::uint8_t{0} : std::uint8_t{1}}, count,
                                        here ? 0 : count});
        }
        reading.sites = {{kHere, {}, 0, 0}};
        for (std::size_t i = 0; i < api::kPrefixBuckets; ++i) reading.sites[0].prefixes.syns[i] = 12;
        now += 100ms;
        signal.read(reading, Monotonic{now});
    };
    read({0, 1, 2, 7, 9});
    CHECK(signal.evidence(kHere).lost);
    CHECK(signal.evidence(kHere).expected <= before.expected + 1);
    read({0, 2, 9});
    CHECK(signal.evidence(kHere).completed == 0);
    CHECK(signal.evidence(kHere).expected <= before.expected / 2 + 1);
}

TEST_CASE("random traffic: a healthy site is never suspect, a cut one always is, however few are left") {
    const std::uint64_t seed = support::random_seed();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    struct Row {
        double syns;  ///< a reading and site
        double left;  ///< share of the clients who still get through
        bool lost;
    };
    for (const Row& row :
         {Row{2000, 0.05, true}, Row{2000, 0, true}, Row{200, 0.03, true}, Row{20, 0, true},
          Row{2000, 1, false}, Row{200, 1, false}, Row{2, 1, false}, Row{2000, 0.3, false}}) {
        CAPTURE(row.syns);
        CAPTURE(row.left);
        for (int run = 0; run < 5; ++run) {
            HandshakeReading reading;
            for (std::uint16_t i = 0; i < 6; ++i)
                reading.backends.push_back(
                    {api::BackendId{i}, api::PoolId{0}, api::SiteId{static_cast<std::uint8_t>(i / 2)}, 0, 0});
            reading.sites = {{kHere, {}, 0, 0}};
            PassiveSignal signal;
            bool lost = false;
            std::poisson_distribution<unsigned> many(row.syns / 2);
            for (int step = 0; step < 12; ++step) {
                for (HandshakeCount& count : reading.backends) {
                    const bool here = count.site == kHere;
                    for (unsigned n = many(random); n > 0; --n) {
                        const std::size_t prefix = random() % api::kPrefixBuckets;
                        const double through = here ? row.left : 1;
                        const bool completes = std::generate_canonical<double, 53>(random) < 0.97 * through;
                        count.syns += 1;
                        count.completed += completes ? 1 : 0;
                        if (!here) continue;
                        reading.sites[0].prefixes.syns[prefix] += 1;
                        reading.sites[0].prefixes.completed[prefix] += completes ? 1 : 0;
                    }
                }
                signal.read(reading, Monotonic{1000s + step * 100ms});
                lost |= signal.evidence(kHere).lost;
            }
            CHECK(lost == row.lost);
        }
    }
}
