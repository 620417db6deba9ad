// The switches: what is written is what is read, nothing else changes, and untouched memory admits all.
#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <random>
#include <thread>

#include "dataplane/core/host_state.h"
#include "tests/support/random_seed.h"

using namespace detour;
using core::BackendValue;
using core::HostState;
using core::SwitchValue;

TEST_CASE("a new state admits and keeps everything") {
    const auto host = std::make_unique<HostState>();
    for (const unsigned site : {0U, 1U, 254U})
        for (const unsigned pool : {0U, 1U, 4095U})
            CHECK(host->effective(api::PoolId{static_cast<std::uint16_t>(pool)},
                                  api::SiteId{static_cast<std::uint8_t>(site)}) == SwitchValue{});
    CHECK(host->backend(api::BackendId{0}) == BackendValue{});
    CHECK(host->backend(api::BackendId{65534}) == BackendValue{});
}

TEST_CASE("the host's and the pool's switch: the smaller admits count, and both must keep") {
    struct Row {
        const char* name;
        SwitchValue host;
        SwitchValue pool;
        SwitchValue effective;
    };
    const auto value = [](unsigned admit, unsigned mid, bool keep, bool end = false) {
        return SwitchValue{api::Admit{static_cast<std::uint16_t>(admit)},
                           api::Admit{static_cast<std::uint16_t>(mid)}, keep, end};
    };
    const Row rows[] = {
        {"host dark", value(0, 0, false), value(65535, 65535, true), value(0, 0, false)},
        {"pool dark", value(65535, 65535, true), value(0, 0, false), value(0, 0, false)},
        {"drain: new flows none, the rest stays", value(0, 65535, true), value(65535, 65535, true),
         value(0, 65535, true)},
        {"each threshold by itself", value(100, 7, true), value(50, 9, true), value(50, 7, true)},
        {"either may end flows", value(0, 0, false), value(9, 9, false, true), value(0, 0, false, true)},
        {"keep alone", value(1, 2, false), value(3, 4, true), value(1, 2, false)},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        const auto host = std::make_unique<HostState>();
        host->set_site(api::SiteId{9}, row.host);
        host->set_pool_site(api::PoolId{4095}, api::SiteId{9}, row.pool);
        CHECK(host->site(api::SiteId{9}) == row.host);
        CHECK(host->effective(api::PoolId{4095}, api::SiteId{9}) == row.effective);
        CHECK(host->effective(api::PoolId{4094}, api::SiteId{9}) == row.host);
        CHECK(host->effective(api::PoolId{4095}, api::SiteId{8}) == SwitchValue{});
        CHECK(host->effective(api::PoolId{4095}, api::SiteId{10}) == SwitchValue{});
    }
}

TEST_CASE("any switch is read as it was written") {
    std::mt19937_64 random(support::random_seed());
    const auto host = std::make_unique<HostState>();
    for (int round = 0; round < 1000; ++round) {
        const std::uint64_t r = random();
        const SwitchValue value{api::Admit{static_cast<std::uint16_t>(r)},
                                api::Admit{static_cast<std::uint16_t>(r >> 16U)}, (r >> 32U & 1U) != 0,
                                (r >> 33U & 1U) != 0};
        const api::SiteId site{static_cast<std::uint8_t>((r >> 40U) % 255)};
        host->set_site(site, value);
        CHECK(host->site(site) == value);
        const BackendValue backend{(r >> 50U & 1U) != 0, (r >> 51U & 1U) != 0, (r >> 52U & 1U) != 0};
        const api::BackendId id{static_cast<std::uint16_t>(r >> 48U)};
        host->set_backend(id, backend);
        CHECK(host->backend(id) == backend);
    }
}

TEST_CASE("every switch that strands is announced, others are not") {
    const auto host = std::make_unique<HostState>();
    const std::uint32_t before = host->strandings();
    host->set_site(api::SiteId{1}, {api::kAdmitNone, api::kAdmitAll, true});
    host->set_pool_site(api::PoolId{1}, api::SiteId{1}, {});
    host->set_backend(api::BackendId{1}, {.up = false, .keep = true});
    CHECK(host->strandings() == before);
    host->set_site(api::SiteId{1}, {api::kAdmitNone, api::kAdmitNone, false});
    CHECK(host->strandings() == before + 1);
    host->set_pool_site(api::PoolId{1}, api::SiteId{1}, {api::kAdmitNone, api::kAdmitNone, false, true});
    CHECK(host->strandings() == before + 2);
    host->set_backend(api::BackendId{1}, {.up = false, .keep = false});
    CHECK(host->strandings() == before + 3);
}

TEST_CASE("limits are read as they were written, and while there is none that is known at once") {
    const auto host = std::make_unique<HostState>();
    CHECK_FALSE(host->limits_flows());
    CHECK(host->limit(api::SiteId{254}) == core::LimitValue{});
    const core::LimitValue some{true, 7, api::Refusal::kReset};
    const core::LimitValue none{true, 0, api::Refusal::kDrop};
    host->set_limit(api::SiteId{254}, some);
    host->set_limit(api::PoolId{4095}, none);
    CHECK(host->limit(api::SiteId{254}) == some);
    CHECK(host->limit(api::PoolId{4095}) == none);
    CHECK(host->limit(api::PoolId{254}) == core::LimitValue{});
    host->set_limit(api::SiteId{254}, none);
    host->set_limit(api::SiteId{254}, {});
    CHECK(host->limits_flows());
    host->set_limit(api::PoolId{4095}, {});
    CHECK_FALSE(host->limits_flows());
}

TEST_CASE("a reader sees the old switch or the new one, never a mixture") {
    const auto host = std::make_unique<HostState>();
    const SwitchValue open{api::Admit{65535}, api::Admit{65535}, true};
    const SwitchValue dark{api::Admit{0}, api::Admit{0}, false};
    const api::SiteId site{3};
    std::atomic<bool> done{false};
    std::thread writer([&] {
        for (int i = 0; i < 200'000; ++i) host->set_site(site, i % 2 == 0 ? dark : open);
        done = true;
    });
    bool whole = true;
    while (!done) {
        const SwitchValue seen = host->site(site);
        whole = whole && (seen == open || seen == dark);
    }
    writer.join();
    CHECK(whole);
}
