// Which flows move when something changes, and who agrees about it: the promises of the choice, at the sizes
// of production, over many random fleets.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "dataplane/core/select.h"
#include "dataplane/core/site_table.h"
#include "tests/stress/random_flows.h"
#include "tests/support/fast_path.h"
#include "tests/support/random_seed.h"

using namespace detour;
using namespace detour::support;
using stress::choose;
using stress::Fleet;

namespace {

constexpr std::size_t kFlows = 200'000;

api::SiteId site_id(std::size_t number) {
    return api::SiteId{static_cast<std::uint8_t>(number)};
}

std::vector<std::uint64_t> random_hashes(std::mt19937_64& random, std::size_t count) {
    std::vector<std::uint64_t> hashes(count);
    for (std::uint64_t& hash : hashes) hash = random();
    return hashes;
}

/// The TCP segment of client number `i`.
Bytes segment(std::size_t i, std::uint8_t flags) {
    return Frame()
        .ether(kRouterMac, kHostMac)
        .ipv4(fmt::format("198.18.{}.{}", i / 250 % 250, 1 + i % 250), "203.0.113.10")
        .tcp({static_cast<std::uint16_t>(1024 + i % 50'000), 443, flags, flags == kSyn ? 1000U : 1001U, 1})
        .bytes();
}

void establish(FastPath& fast, std::size_t client) {
    REQUIRE(fast.send(segment(client, kSyn)).reason == api::Reason::kForwardedNew);
    REQUIRE(fast.send(segment(client, kAck)).reason == api::Reason::kForwardedHandshake);
}

/// Of the slots of all sites but `gone`: how many have another first site without it.
double percent_moved(const std::vector<core::RankedSite>& with, const std::vector<core::RankedSite>& without,
                     std::uint8_t gone, std::uint64_t seed) {
    const auto before = core::SiteTable::build(with, seed);
    const auto after = core::SiteTable::build(without, seed);
    unsigned others = 0;
    unsigned moved = 0;
    for (std::uint32_t slot = 0; slot < api::kSiteSlots; ++slot) {
        const std::uint8_t site = core::SiteTable::site_at(before->ranks(slot), 0);
        if (site == gone) continue;
        ++others;
        moved += core::SiteTable::site_at(after->ranks(slot), 0) != site ? 1U : 0U;
    }
    return others == 0 ? 0 : 100.0 * moved / others;
}

}  // namespace

TEST_CASE("one backend added to a hundred: at most 1.5 % of new flows move that need not") {
    std::mt19937_64 random(random_seed());
    double worst = 0;
    double sum = 0;
    constexpr int kRounds = 25;
    for (int round = 0; round < kRounds; ++round) {
        Fleet before(random(), {.sites = 1, .backends = 100, .max_backends = 101});
        Fleet after(before.seed, {.sites = 1, .backends = 101, .max_backends = 101});
        std::size_t moved = 0;
        for (const std::uint64_t hash : random_hashes(random, kFlows)) {
            const auto old_backend = choose(before, hash).backend;
            const auto new_backend = choose(after, hash).backend;
            if (new_backend != old_backend && new_backend != after.last_backend()) ++moved;
        }
        const double percent = 100.0 * static_cast<double>(moved) / kFlows;
        worst = std::max(worst, percent);
        sum += percent;
    }
    std::printf("one of 101 backends added: %.2f %% of new flows move beyond its share, %.2f %% at worst\n",
                sum / kRounds, worst);
    CHECK(worst <= 1.5);
}

TEST_CASE("one backend added to a hundred: no established flow moves") {
    const auto plan_of = [](std::size_t backends, std::uint64_t generation) {
        auto plan = make_plan({.sites = 1, .backends = backends});
        for (auto& pool : plan.pools) pool.max_backends = 128;
        plan.generation = api::Generation{generation};
        return plan;
    };
    FastPath fast(plan_of(100, 1), 16384);
    std::vector<std::uint16_t> backends;
    constexpr std::size_t kClients = 4000;
    for (std::size_t i = 0; i < kClients; ++i) {
        establish(fast, i);
        backends.push_back(fast.send(segment(i, kAck)).backend);
    }
    fast.apply(plan_of(101, 2));
    fast.sweep();
    for (std::size_t i = 0; i < kClients; ++i) REQUIRE(fast.send(segment(i, kAck)).backend == backends[i]);
    fast.apply(plan_of(100, 3));
    fast.sweep();
    for (std::size_t i = 0; i < kClients; ++i) REQUIRE(fast.send(segment(i, kAck)).backend == backends[i]);
}

TEST_CASE("a site dark, drained or ramping moves its own flows alone, and each of them once each way") {
    std::mt19937_64 random(random_seed());
    for (int round = 0; round < 10; ++round) {
        Fleet fleet(random(), {.sites = 2 + random() % 15, .backends = 1 + random() % 8, .max_backends = 16});
        const std::size_t drained = 1 + random() % fleet.sites();
        const auto hashes = random_hashes(random, kFlows / 10);
        std::vector<core::Choice> home;
        for (const std::uint64_t hash : hashes) home.push_back(choose(fleet, hash));
        std::vector<char> left(hashes.size(), 0);
        // Down in steps to nothing, as a percentage drain does; then up again, as a ramp does.
        for (int step = 0; step <= 20; ++step) {
            const bool down = step <= 10;
            const int tenths = down ? 10 - step : step - 10;
            fleet.host.set_site(site_id(drained),
                                {.admit = api::Admit{static_cast<std::uint16_t>(65535 * tenths / 10)}});
            for (std::size_t i = 0; i < hashes.size(); ++i) {
                const core::Choice now = choose(fleet, hashes[i]);
                if (home[i].site != drained) {
                    REQUIRE(now.site == home[i].site);
                    REQUIRE(now.backend == home[i].backend);
                    continue;
                }
                const bool away = now.site != drained;
                REQUIRE((down ? away >= (left[i] != 0) : away <= (left[i] != 0)));
                if (!away) REQUIRE(now.backend == home[i].backend);
                left[i] = away ? 1 : 0;
            }
            if (tenths == 0) {
                for (std::size_t i = 0; i < hashes.size(); ++i)
                    REQUIRE((left[i] != 0) == (home[i].site == drained));
            }
        }
        REQUIRE(std::count(left.begin(), left.end(), 1) == 0);
    }
}

TEST_CASE("a site deleted moves under 1 % of the others' new flows on average, and 2 % at worst") {
    std::mt19937_64 random(random_seed());
    double worst = 0;
    double sum = 0;
    constexpr int kRounds = 60;
    for (int round = 0; round < kRounds; ++round) {
        const std::size_t sites = 2 + random() % 15;
        const Fleet before(random(), {.sites = sites, .backends = 1, .max_backends = 1});
        const Fleet after(before.seed, {.sites = sites - 1, .backends = 1, .max_backends = 1});
        std::size_t moved = 0;
        std::size_t others = 0;
        for (const std::uint64_t hash : random_hashes(random, kFlows / 4)) {
            const auto old_site = choose(before, hash).site;
            if (old_site == sites) continue;
            ++others;
            moved += choose(after, hash).site != old_site ? 1U : 0U;
        }
        const double percent = 100.0 * static_cast<double>(moved) / static_cast<double>(others);
        worst = std::max(worst, percent);
        sum += percent;
    }
    std::printf("one of 2 to 16 sites deleted: %.2f %% of the others' flows move, %.2f %% at worst\n",
                sum / kRounds, worst);
    CHECK(worst <= 2.0);
    CHECK(sum / kRounds <= 1.0);
}

TEST_CASE("a site deleted from 1,000 tables of 2 to 40 sites of any weights and tiers: 2 % at worst") {
    std::mt19937_64 random(random_seed());
    double worst = 0;
    double sum = 0;
    constexpr int kRounds = 1'000;
    for (int round = 0; round < kRounds; ++round) {
        const std::uint32_t heaviest = round % 3 == 0 ? 1 : 100;
        const unsigned tiers = round % 4 == 0 ? 3 : 1;
        std::vector<core::RankedSite> sites;
        for (std::size_t i = 0, count = 2 + random() % 39; i < count; ++i)
            sites.push_back({random(), static_cast<std::uint8_t>(i),
                             static_cast<std::uint32_t>(1 + random() % heaviest),
                             static_cast<std::uint8_t>(random() % tiers)});
        auto fewer = sites;
        const auto gone = static_cast<std::uint8_t>(random() % sites.size());
        fewer.erase(fewer.begin() + gone);
        const double percent = percent_moved(sites, fewer, gone, random());
        worst = std::max(worst, percent);
        sum += percent;
    }
    std::printf("one of 2 to 40 sites deleted: %.2f %% of the others' slots move, %.2f %% at worst of %d\n",
                sum / kRounds, worst, kRounds);
    CHECK(worst <= 2.0);
    CHECK(sum / kRounds <= 0.9);
}

TEST_CASE("mid-drain: flows that come to a worker or host without their state stay where they were") {
    const auto plan = make_plan({.sites = 4, .backends = 8});
    FastPath first(plan, 16384);
    FastPath second(plan, 16384);
    constexpr std::size_t kClients = 4000;
    std::vector<std::uint16_t> backends;
    for (std::size_t i = 0; i < kClients; ++i) {
        establish(first, i);
        backends.push_back(first.send(segment(i, kAck)).backend);
    }
    // A drain in progress: a third admitted, mid-flow packets as before it began.
    const core::SwitchValue draining{api::Admit{21845}, api::kAdmitAll, true};
    for (FastPath* fast : {&first, &second}) fast->host.set_site(site_id(2), draining);
    std::size_t of_drained = 0;
    for (std::size_t i = 0; i < kClients; ++i) {
        REQUIRE(first.send(segment(i, kAck)).backend == backends[i]);
        const Out there = second.send(segment(i, kAck));
        REQUIRE(there.reason == api::Reason::kForwardedMid);
        REQUIRE(there.backend == backends[i]);
        of_drained += there.site == 2 ? 1U : 0U;
    }
    CHECK(of_drained > kClients / 8);
}

TEST_CASE("mid-ramp: flows from before the ramp that lose their state stay where they were") {
    const auto plan = make_plan({.sites = 4, .backends = 8});
    FastPath first(plan, 16384);
    FastPath second(plan, 16384);
    for (FastPath* fast : {&first, &second})
        fast->host.set_site(site_id(2), {api::kAdmitNone, api::kAdmitNone});
    constexpr std::size_t kClients = 4000;
    std::vector<std::uint16_t> backends;
    for (std::size_t i = 0; i < kClients; ++i) {
        establish(first, i);
        backends.push_back(first.send(segment(i, kAck)).backend);
    }
    // The ramp: half admitted, mid-flow packets as at its start.
    for (FastPath* fast : {&first, &second})
        fast->host.set_site(site_id(2), {api::Admit{32768}, api::kAdmitNone});
    for (std::size_t i = 0; i < kClients; ++i) {
        REQUIRE(first.send(segment(i, kAck)).backend == backends[i]);
        const Out there = second.send(segment(i, kAck));
        REQUIRE(there.reason == api::Reason::kForwardedMid);
        REQUIRE(there.backend == backends[i]);
    }
    // New clients meanwhile do go to the ramping site.
    std::size_t ramped = 0;
    for (std::size_t i = kClients; i < 2 * kClients; ++i) ramped += second.send(segment(i, kSyn)).site == 2;
    CHECK(ramped > kClients / 16);
}

TEST_CASE("each backend's share is within 2 % of its weight") {
    std::mt19937_64 random(random_seed());
    double worst = 0;
    for (const std::size_t count : {2U, 10U, 64U, 100U, 1000U}) {
        const Fleet fleet(random(), {.sites = 1,
                                     .backends = count,
                                     .max_backends = static_cast<std::uint32_t>(count),
                                     .weights = {50, 100, 200}});
        const auto table = fleet.tables->pools[0].per_site[0].backends;
        std::map<std::uint16_t, double> entries;
        for (std::uint32_t i = 0; i < table->size(); ++i) ++entries[table->at(i)];
        double total = 0;
        for (const auto& member : table->built_from()) total += member.weight;
        for (const auto& member : table->built_from()) {
            const double off = entries[member.backend] / table->size() / (member.weight / total) - 1;
            worst = std::max(worst, std::abs(off));
            // Half an entry is what a table of whole entries may be off by.
            const double rounding = 0.5 / (table->size() * member.weight / total);
            CHECK(std::abs(off) < std::max(0.02, 1.1 * rounding));
        }
    }
    std::printf("shares are within %.2f %% of the weights\n", 100 * worst);
    CHECK(worst < 0.02);
}

TEST_CASE("two processes with the same plan and seed agree on a million random flows") {
    const char* program = std::getenv("DETOUR_FLOW_DIGEST");
    REQUIRE_MESSAGE(program != nullptr, "DETOUR_FLOW_DIGEST names the program of the test's folder");
    const auto digest = [&](std::uint64_t flows, const char* order) {
        const std::string command = fmt::format("{} {} {}", program, flows, order);
        std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
        std::array<char, 256> line{};
        REQUIRE(std::fgets(line.data(), line.size(), pipe.get()) != nullptr);
        return std::string(line.data());
    };
    const std::uint64_t seed = random_seed();
    const std::string straight = digest(seed, "straight");
    CHECK(straight == digest(seed, "shuffled"));
    CHECK(straight != digest(seed + 1, "straight"));
}
