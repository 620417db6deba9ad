// Arbitrary bytes as a message of the control channel. The first byte chooses the message.
//
// Beside what the sanitizers see: what decode() accepts, check() accepts, survives encoding unchanged, and
// builds.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "dataplane.pb.h"
#include "dataplane/api/wire.h"
#include "dataplane/core/tables.h"

using namespace detour;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

template <class Message>
void round_trip(const std::string& bytes) {
    Message message;
    if (!message.ParseFromString(bytes)) return;
    const auto value = api::decode(message);
    if (!value) return require(!value.error().what.empty());
    Message again;
    api::encode(*value, again);
    const auto repeated = api::decode(again);
    require(repeated.has_value() && *repeated == *value);
}

/// Few and small enough to build thousands of times a second.
bool small(const api::ForwardingPlan& plan) {
    std::size_t parts = 0;
    for (const api::PlanPool& pool : plan.pools) {
        parts += pool.sites.size();
        if (pool.max_backends > 16) return false;
    }
    return parts <= 4;
}

void build(const std::string& bytes) {
    wire::Plan message;
    if (!message.ParseFromString(bytes)) return;
    const auto plan = api::decode(message);
    if (!plan) return;
    require(api::check(*plan).has_value());
    if (!small(*plan)) return;
    const auto tables = core::build_tables(*plan, nullptr);
    require(tables.has_value() && (*tables)->pools.size() == plan->pools.size());
    for (const core::PoolEntry& pool : (*tables)->pools) {
        for (unsigned rank = 0; rank < 8; ++rank) {
            const std::uint8_t site = core::SiteTable::site_at(pool.sites->ranks(0), rank);
            require(site == core::kNoSiteId || pool.site_index[site] < pool.per_site.size());
        }
        for (const core::PoolSiteEntry& site : pool.per_site)
            require((*tables)->has_backend(site.backends->at(site.backends->size() - 1)));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    switch (data[0] % 5) {
        case 0:
            round_trip<wire::Plan>(bytes);
            build(bytes);
            break;
        case 1:
            round_trip<wire::SiteSwitch>(bytes);
            break;
        case 2:
            round_trip<wire::BackendSwitch>(bytes);
            break;
        case 3:
            round_trip<wire::FlowLimit>(bytes);
            break;
        default: {
            wire::Failure message;
            if (message.ParseFromString(bytes)) (void)api::decode(message);
        }
    }
    return 0;
}
