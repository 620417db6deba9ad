// The pure parts of the shell: shares, rates, what the timeline says.
#include <doctest/doctest.h>

#include "control/app/api_view.h"
#include "control/app/event_text.h"
#include "control/app/fast_path_figures.h"
#include "control/app/forecast.h"
#include "dataplane.pb.h"

using namespace detour;
using app::SitePart;

TEST_CASE("shares follow tiers, weights and admits, and add up to one or nothing") {
    struct Row {
        const char* name;
        std::vector<SitePart> parts;
        std::vector<double> shares;
    };
    const std::vector<Row> rows = {
        {"none", {}, {}},
        {"one", {{"a", 100, 0, 1}}, {1}},
        {"by weight", {{"a", 100, 0, 1}, {"b", 300, 0, 1}}, {0.25, 0.75}},
        {"dark site", {{"a", 100, 0, 0}, {"b", 300, 0, 1}}, {0, 1}},
        {"standby takes nothing", {{"a", 100, 0, 1}, {"b", 100, 1, 1}}, {1, 0}},
        {"standby takes all", {{"a", 100, 0, 0}, {"b", 100, 1, 1}}, {0, 1}},
        {"ramp spills to the standby", {{"a", 100, 0, 0.25}, {"b", 100, 1, 1}}, {0.25, 0.75}},
        {"ramp beside a full site", {{"a", 100, 0, 0.5}, {"b", 100, 0, 1}}, {1.0 / 3, 2.0 / 3}},
        {"a ramp alone takes all", {{"a", 100, 0, 0.1}}, {1}},
        {"weight 0", {{"a", 0, 0, 1}, {"b", 1, 0, 1}}, {0, 1}},
        {"all dark", {{"a", 100, 0, 0}, {"b", 100, 1, 0}}, {0, 0}},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const auto shares = app::shares(row.parts);
        REQUIRE(shares.size() == row.shares.size());
        for (std::size_t i = 0; i < shares.size(); ++i) CHECK(shares[i] == doctest::Approx(row.shares[i]));
    }
}

namespace {

wire::StatsReply stats(std::uint64_t at_ms, std::uint64_t syns, std::uint64_t acknowledged = 5) {
    wire::StatsReply reply;
    reply.set_now_ns(at_ms * 1'000'000);
    for (const std::uint64_t extra : {0, 2}) {
        auto& worker = *reply.add_workers();
        worker.set_acknowledged(acknowledged + extra);
        worker.set_scanned(extra);
        auto& site = *worker.add_sites();
        site.set_site(3);
        site.set_syns(syns);
        site.set_bytes(syns * 100);
        site.set_ack_advanced(7);
        site.set_syns_forgotten(3);
        site.set_forgotten_ms(300);
    }
    for (const std::uint32_t id : {3U, 5U, 999U}) {  // 5: known to no worker
        auto& prefixes = *reply.add_prefixes();
        prefixes.set_site(id);
        for (std::uint32_t i = 0; i < 70; ++i) {  // more than there are: passed over
            prefixes.add_syns(1000 + i);
            prefixes.add_handshakes(i);
        }
    }
    reply.mutable_workers(0)->add_sites()->set_site(999);  // no site of ours: passed over
    return reply;
}

}  // namespace

TEST_CASE("signals are summed over workers, generations are the lowest") {
    const auto signals = app::signals_of(stats(0, 1));
    REQUIRE(signals.sites.size() == 1);
    CHECK(signals.sites[0].site == api::SiteId(3));
    CHECK(signals.sites[0].ack_advanced == 14);
    CHECK(signals.sites[0].count.site == api::SiteId(3));
    CHECK(signals.sites[0].count.forgotten == 6);
    CHECK(signals.sites[0].count.forgotten_ms == 600);
    CHECK(signals.sites[0].count.prefixes.syns.front() == 1000);
    CHECK(signals.sites[0].count.prefixes.completed.back() == 63);
    CHECK(signals.acknowledged == api::Generation(5));
    CHECK(signals.scanned == api::Generation(0));
    CHECK(app::signals_of({}).acknowledged == api::Generation(0));
}

TEST_CASE("rates span about a second and never go below zero") {
    app::FastPathFigures figures;
    wire::HelloReply hello;
    hello.set_instance(1);
    figures.on_up(hello);
    CHECK_FALSE(figures.rates(api::SiteId(3)));
    for (std::uint64_t i = 0; i <= 50; ++i) figures.on_stats(stats(100 * i, 10 * i));
    REQUIRE(figures.rates(api::SiteId(3)));
    CHECK(figures.rates(api::SiteId(3))->new_flows == doctest::Approx(200));
    CHECK(figures.rates(api::SiteId(3))->bits == doctest::Approx(160'000));
    CHECK(figures.rates(api::SiteId(4))->new_flows == 0);
    figures.on_stats(stats(5'100, 0));  // counters began anew
    CHECK(figures.rates(api::SiteId(3))->new_flows == 0);
    hello.set_instance(2);
    figures.on_up(hello);
    CHECK_FALSE(figures.rates(api::SiteId(3)));
}

TEST_CASE("what a flow table lost reaches metrics and status") {
    wire::StatsReply reply = stats(0, 1);
    wire::FlowTableStats& table = *reply.mutable_workers(0)->mutable_flow_table();
    table.set_entries_v4(2048);
    table.set_entries_v6(512);
    table.set_evicted_confirmed(3);
    table.set_evicted_unconfirmed(4);
    table.set_evicted_idle_s(3600);
    table.set_no_place(5);
    for (std::uint64_t i = 0; i < 7; ++i) table.add_idle(10 + i);  // more than there are: passed over
    reply.mutable_workers(0)->set_not_inserted(6);
    app::FastPathFigures figures;
    figures.on_up(wire::HelloReply{});
    figures.on_stats(std::move(reply));
    const app::Snapshot snapshot;
    const config::Config config;
    const app::ServiceCounters counters;
    const app::ServiceOptions options;
    const publish::NextHops next_hops;
    const app::IncidentBook incidents;
    const app::ViewInput in{.snapshot = snapshot,
                            .config = config,
                            .figures = figures,
                            .counters = counters,
                            .options = options,
                            .next_hops = next_hops,
                            .incidents = incidents};
    const control::MetricsInput metrics = app::view_metrics(in);
    REQUIRE(metrics.workers.size() == 2);
    const control::WorkerMetrics& worker = metrics.workers[0];
    CHECK(worker.entries_v4 == 2048);
    CHECK(worker.entries_v6 == 512);
    CHECK(worker.evicted_confirmed == 3);
    CHECK(worker.evicted_unconfirmed == 4);
    CHECK(worker.evicted_idle_seconds == 3600);
    CHECK(worker.no_place == 5);
    CHECK(worker.not_inserted == 6);
    CHECK(worker.idle == decltype(worker.idle){10, 11, 12, 13, 14});
    CHECK(metrics.workers[1].idle == decltype(worker.idle){});
    const control::WorkerStatus shown = app::view_status(in).dataplane.workers.at(0);
    CHECK(shown.entries_v4 == 2048);
    CHECK(shown.entries_v6 == 512);
    CHECK(shown.evicted_confirmed == 3);
    CHECK(shown.evicted_unconfirmed == 4);
    CHECK(shown.evicted_idle_seconds == 3600);
}

TEST_CASE("a state that is not a plan is an error, an empty one is none") {
    wire::HelloReply hello;
    hello.set_instance(9);
    wire::StateReply state;
    const auto empty = app::read_state(hello, state);
    REQUIRE(empty);
    CHECK(empty->instance == 9);
    CHECK_FALSE(empty->plan);
    state.mutable_plan()->set_generation(3);
    CHECK_FALSE(app::read_state(hello, state));
}

TEST_CASE("the timeline says what happened to whom, and how bad it is") {
    struct Row {
        app::Event event;
        const char* severity;
        const char* text;
    };
    using app::EventKind;
    const health::Now at{{std::chrono::nanoseconds(5'000)}, {std::chrono::nanoseconds(7'000'000)}};
    const std::vector<Row> rows = {
        {{at, EventKind::kVerdict, "pangyo", "", "", "healthy", "dark", "2 of 2 backends down: timeout"},
         "alarm",
         "pangyo: is dark, it was healthy (2 of 2 backends down: timeout)"},
        {{at, EventKind::kVerdict, "pangyo", "", "", "dark", "recovering", ""},
         "info",
         "pangyo: is recovering, it was dark"},
        {{at, EventKind::kBackendDown, "pangyo", "talk", "10.1.0.11", "", "", "timeout"},
         "warning",
         "10.1.0.11 (talk@pangyo): is down (timeout)"},
        {{at, EventKind::kSwitchDone, "", "", "", "", "", ""},
         "info",
         "this host: every worker passed the switches"},
    };
    for (const auto& row : rows) {
        const auto event = app::to_api(row.event);
        CHECK(event.severity == row.severity);
        CHECK(event.text == row.text);
        CHECK(event.kind == to_string(row.event.kind));
        CHECK(event.time.time_since_epoch() == std::chrono::milliseconds(7));
    }
}
