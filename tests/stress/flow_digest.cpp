// Prints a digest of where a million random flows go: what two processes must agree on.
//
//     flow_digest SEED straight|shuffled
//
// `shuffled` builds the same plan with its sites and backends in another order and other ids.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>

#include "dataplane/core/bytes.h"
#include "dataplane/core/hash.h"
#include "tests/stress/random_flows.h"

using namespace detour;

namespace {

constexpr std::size_t kFlows = 1'000'000;

/// Every host numbers its sites and backends as it meets them.
void shuffle(api::ForwardingPlan& plan) {
    std::mt19937_64 random(std::random_device{}());
    std::map<api::SiteId, api::SiteId> sites;
    std::shuffle(plan.sites.begin(), plan.sites.end(), random);
    std::uint8_t number = 100;
    for (api::PlanSite& site : plan.sites) {
        sites[site.id] = api::SiteId{number};
        site.id = api::SiteId{number++};
    }
    std::uint16_t backend = 1000;
    for (api::PlanPool& pool : plan.pools) {
        std::shuffle(pool.sites.begin(), pool.sites.end(), random);
        for (api::PlanPoolSite& part : pool.sites) {
            part.site = sites.at(part.site);
            std::shuffle(part.backends.begin(), part.backends.end(), random);
            for (api::PlanBackend& b : part.backends) b.id = api::BackendId{backend++};
        }
    }
}

/// By backend id: a number of its address, which every process gives it.
std::map<std::uint16_t, std::uint64_t> addresses(const api::ForwardingPlan& plan) {
    std::map<std::uint16_t, std::uint64_t> numbers;
    for (const api::PlanPoolSite& part : plan.pools[0].sites) {
        for (const api::PlanBackend& b : part.backends)
            numbers[b.id.value()] = core::load<std::uint32_t>(b.address.bytes().data());
    }
    return numbers;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const std::uint64_t seed = std::strtoull(argv[1], nullptr, 0);
    stress::Fleet fleet(seed, {.sites = 7, .backends = 40, .max_backends = 64, .weights = {100, 50, 75}});
    if (std::string(argv[2]) == "shuffled") {
        shuffle(fleet.plan);
        auto built = core::build_tables(fleet.plan, nullptr);
        if (!built) return 1;
        fleet.tables = *std::move(built);
    }
    const auto address_of = addresses(fleet.plan);
    std::mt19937_64 random(seed);
    std::uint64_t digest = 0;
    for (std::size_t i = 0; i < kFlows; ++i) {
        const auto client = static_cast<std::uint32_t>(random());
        const auto ports = static_cast<std::uint32_t>(random());
        const std::uint64_t hash = core::hash_v4(fleet.tables->seed, client, 0x0a7100cbU, ports, 6);
        digest = core::mix64(digest ^ address_of.at(stress::choose(fleet, hash).backend));
    }
    std::printf("%016llx\n", static_cast<unsigned long long>(digest));
    return 0;
}
