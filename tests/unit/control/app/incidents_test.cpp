// Incidents: what failures leave behind, in memory and on disk.
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>
#include <random>

#include "control/api/json.h"
#include "control/app/durable_file.h"
#include "control/app/event_text.h"
#include "control/app/incident_book.h"
#include "control/app/incident_files.h"
#include "tests/support/random_seed.h"
#include "tests/unit/control/app/world.h"

using namespace detour;
using namespace detour::test;
using app::IncidentBook;

namespace {

/// Feeds what has happened in the world since the last call.
void feed(World& world, IncidentBook& book) {
    for (const Event& event : world.events) (void)book.on_event(app::to_api(event));
    world.events.clear();
}

std::vector<std::string> kinds(const control::Incident& incident) {
    std::vector<std::string> result;
    for (const control::IncidentLine& line : incident.lines) {
        if (result.empty() || result.back() != line.kind) result.push_back(line.kind);
    }
    return result;
}

bool in_order(const std::vector<std::string>& all, const std::vector<std::string>& wanted) {
    auto at = all.begin();
    for (const std::string& kind : wanted) {
        at = std::find(at, all.end(), kind);
        if (at == all.end()) return false;
        ++at;
    }
    return true;
}

control::Event event_of(const std::string& kind, const std::string& site, const std::string& to = "",
                        std::int64_t ms = 0) {
    control::Event event;
    event.kind = kind;
    event.site = site;
    event.time = control::Time(std::chrono::milliseconds(1'700'000'000'000 + ms));
    event.text = site + " " + kind + " " + to;
    event.data["monotonic_us"] = ms * 1000;
    if (!to.empty()) event.data["to"] = to;
    return event;
}

struct Folder {
    std::string path = "/tmp/detour-incidents." + std::to_string(::getpid());
    Folder() { std::filesystem::remove_all(path); }
    ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("a power cut and its end are one incident, from the first missed probe to healthy") {
    World world(sample_config());
    world.boot();
    IncidentBook book;
    const nanoseconds cut = world.time();
    world.behave("pangyo", Cause::kTimeout);
    world.run(10s);
    feed(world, book);
    REQUIRE(book.list().size() == 1);
    CHECK(book.open() == 1);
    book.on_flows("pangyo", 12, app::to_api(world.now().wall));
    book.on_flows("pangyo", 0, app::to_api(world.now().wall));
    book.on_flows("pangyo", 0, app::to_api(world.now().wall));
    world.behave("pangyo", Cause::kOk);
    world.run(30s);
    feed(world, book);
    CHECK(book.open() == 0);
    REQUIRE(book.list().size() == 1);
    const control::Incident& incident = *book.find(1);
    CHECK(incident.site == "pangyo");
    CHECK(incident.text == "pangyo is dark");
    CHECK(incident.closed.has_value());
    const auto all = kinds(incident);
    CAPTURE(control::to_json(incident));
    CHECK(all.front() == "probe_missed");
    CHECK(in_order(all, {"probe_missed", "suspect", "backend_down", "switch", "strand", "flows_gone",
                         "ramp_started", "ramp_done", "closed"}));
    CHECK(std::count(all.begin(), all.end(), "flows_gone") == 1);
    double last = 0;
    for (const control::IncidentLine& line : incident.lines) {
        CHECK(line.at_ms >= last);
        last = line.at_ms;
        if (line.kind != "verdict" || line.text.find("is dark") == std::string::npos) continue;
        CHECK(line.at_ms < 300);  // after the first miss
        CHECK_FALSE(line.rule.empty());
    }
    CHECK(incident.opened >= app::to_api(world.now().wall) - (world.time() - cut));
}

/// The rule by which pangyo went dark in the first incident.
std::string rule_of_dark(World& world) {
    IncidentBook book;
    feed(world, book);
    REQUIRE(book.find(1) != nullptr);
    for (const control::IncidentLine& line : book.find(1)->lines) {
        if (line.kind == "verdict" && line.text.find("pangyo: is dark") == 0) return line.rule;
    }
    return "never dark";
}

TEST_CASE("the timeline names the rule: probes, BFD, or the clients' handshakes") {
    config::Config config = sample_config();
    config.sites[0].bfd.resize(1);
    config.sites[0].bfd[0].address = ip("10.1.0.1");
    World world(config);
    world.boot();
    SUBCASE("probes") {
        world.behave("pangyo", Cause::kTimeout);
        world.run(2s);
        CHECK(rule_of_dark(world).find("the burst failed") == 0);
    }
    SUBCASE("BFD") {
        world.bfd("pangyo", 0, failover::BfdPath::kUp);
        world.behave("pangyo", Cause::kTimeout);
        world.bfd("pangyo", 0, failover::BfdPath::kDown);
        world.run(2s);
        CHECK(rule_of_dark(world).find("BFD") == 0);
    }
    SUBCASE("handshakes") {
        for (const config::Site& site : world.config().sites) world.clients[site.name] = {10, 1};
        world.run(2s);
        world.clients["pangyo"] = {10, 0};
        world.run(2s);
        CHECK(rule_of_dark(world).find("passive signal") == 0);
    }
}

TEST_CASE("a lost probe is no incident") {
    World world(sample_config());
    world.boot();
    IncidentBook book;
    world.behaviour[backend_address(0, 0, 0)] = Cause::kTimeout;
    world.run(250ms);
    world.behaviour.clear();
    world.run(10s);
    CHECK(world.count(EventKind::kProbeMissed) >= 1);
    feed(world, book);
    CHECK(book.list().empty());
    CHECK(book.take_changed().empty());
}

TEST_CASE("a restart in the middle goes on with the same incident") {
    World world(sample_config());
    world.boot();
    IncidentBook book;
    world.behave("pangyo", Cause::kTimeout);
    world.run(5s);
    feed(world, book);
    IncidentBook next({*book.find(1)});
    world.restart_control();
    world.run(5s);
    feed(world, next);
    CHECK(next.list().size() == 1);
    CHECK(next.open_sites() == std::vector<std::string>{"pangyo"});
    world.behave("pangyo", Cause::kOk);
    world.run(30s);
    feed(world, next);
    CHECK(next.open() == 0);
    CHECK(in_order(kinds(*next.find(1)), {"suspect", "switch", "adopted", "ramp_started", "closed"}));
    double last = 0;
    for (const control::IncidentLine& line : next.find(1)->lines) {
        CHECK(line.at_ms >= last);
        last = line.at_ms;
    }
    world.behave("pangyo", Cause::kTimeout);
    world.run(5s);
    feed(world, next);
    CHECK(next.list().front().number == 2);
}

TEST_CASE("two sites have an incident each; what names no site goes to both") {
    IncidentBook book;
    CHECK(book.on_event(event_of("verdict", "pangyo", "dark", 10)) == 1);
    CHECK(book.on_event(event_of("verdict", "anyang", "dark", 20)) == 2);
    CHECK(book.on_event(event_of("hold", "", "", 30)) == 2);
    CHECK(book.on_event(event_of("alarm", "pangyo", "", 35)) == 2);
    CHECK(book.on_event(event_of("alarm", "chuncheon", "", 37)) == 2);  // it may have no more room
    CHECK(book.on_event(event_of("drain", "chuncheon", "", 40)) == 0);
    CHECK(book.on_event(event_of("activation", "chuncheon", "", 45)) == 2);  // made ready because of them
    CHECK(book.on_event(event_of("verdict", "pangyo", "healthy", 50)) == 1);
    CHECK(kinds(*book.find(1)) ==
          std::vector<std::string>{"verdict", "hold", "alarm", "activation", "verdict", "closed"});
    CHECK(kinds(*book.find(2)) == std::vector<std::string>{"verdict", "hold", "alarm", "activation"});
    book.keep_sites({"pangyo"}, control::Time{});
    CHECK(book.open() == 0);
}

TEST_CASE("a lost fast path is an incident of this host until it is adopted again") {
    IncidentBook book;
    CHECK(book.on_event(event_of("fast_path_lost", "", "", 10)) == 1);
    CHECK(book.open() == 1);
    CHECK(book.on_event(event_of("adopted", "", "", 900)) == 1);
    CHECK(book.open() == 0);
    CHECK(book.find(1)->lines.back().at_ms == doctest::Approx(890));
}

TEST_CASE("the time from the first missed probe to the switch of the dark site") {
    IncidentBook book;
    (void)book.on_event(event_of("probe_missed", "pangyo", "", 100));
    (void)book.on_event(event_of("suspect", "pangyo", "", 100));
    (void)book.on_event(event_of("backend_down", "pangyo", "", 390));
    (void)book.on_event(event_of("switch_done", "pangyo", "", 391));  // of a backend
    (void)book.on_event(event_of("verdict", "pangyo", "dark", 400));
    (void)book.on_event(event_of("switch_done", "pangyo", "", 402));
    (void)book.on_event(event_of("switch_done", "pangyo", "", 2402));
    REQUIRE(book.find(1)->switched_ms.has_value());
    CHECK(*book.find(1)->switched_ms == doctest::Approx(302));
}

TEST_CASE("bounded: lines of one incident, and incidents, open ones last") {
    IncidentBook book({}, {.incidents = 3, .lines = 20});
    (void)book.on_event(event_of("backend_down", "pangyo"));
    for (int i = 0; i < 100; ++i) (void)book.on_event(event_of("backend_down", "pangyo", "", i));
    CHECK(book.find(1)->lines.size() == 10);
    CHECK(book.find(1)->left_out == 91);
    for (int i = 0; i < 100; ++i) (void)book.on_event(event_of("switch", "pangyo", "", i));
    CHECK(book.find(1)->lines.size() == 20);
    for (int i = 0; i < 5; ++i) {
        (void)book.on_event(event_of("verdict", "anyang", "dark"));
        (void)book.on_event(event_of("verdict", "anyang", "healthy"));
    }
    CHECK(book.list().size() == 3);
    CHECK(book.find(1) != nullptr);
    CHECK(book.find(2) == nullptr);
    CHECK(book.find(6) != nullptr);
    CHECK(book.take_forgotten() == std::set<std::uint64_t>{2, 3, 4});
}

TEST_CASE("random events: numbers grow, bounds hold, one open incident a site, what is stored is what was") {
    const std::uint64_t seed = support::random_seed();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const std::vector<std::string> words{"probe_missed", "suspect",     "backend_down", "backend_up",
                                         "switch",       "switch_done", "alarm",        "fast_path_lost",
                                         "adopted",      "drain",       "plan",         "ramp_done"};
    IncidentBook book({}, {.incidents = 20, .lines = 30});
    for (int i = 0; i < 20'000; ++i) {
        const std::string site = random() % 5 == 0 ? "" : "site" + std::to_string(random() % 4);
        const bool verdict = random() % 3 == 0 && !site.empty();
        const char* to = random() % 2 == 0 ? "dark" : "healthy";
        const std::uint64_t before = book.last();
        (void)book.on_event(verdict ? event_of("verdict", site, to, i)
                                    : event_of(words[random() % words.size()], site, "", i));
        REQUIRE(book.last() - before <= 1);
        REQUIRE(book.open() <= 5);
        REQUIRE(book.list().size() <= 20);
        if (random() % 500 != 0) continue;
        std::vector<control::Incident> stored;
        for (const auto& summary : book.list()) {
            const control::Incident& incident = *book.find(summary.number);
            REQUIRE(incident.lines.size() <= 31);
            stored.push_back(control::from_json<control::Incident>(control::to_json(incident)).value());
        }
        std::shuffle(stored.begin(), stored.end(), random);
        const IncidentBook again(stored, {.incidents = 20, .lines = 30});
        CHECK(again.open_sites() == book.open_sites());
        CHECK(again.last() == book.last());
    }
}

TEST_CASE("on disk: written, read again, forgotten; a damaged file is set aside and its number stays used") {
    const Folder folder;
    boost::asio::io_context io;
    std::vector<std::string> reports;
    const auto files = [&] {
        return std::make_unique<app::IncidentFiles>(
            io, folder.path,
            [](const std::string& path, const std::string& content) {
                return app::write_durably(path, content);
            },
            [&](const api::Error& error) { reports.push_back(error.to_string()); });
    };
    {
        auto one = files();
        IncidentBook book(one->read(), {.incidents = 2, .lines = 20});
        for (int i = 0; i < 3; ++i) {
            (void)book.on_event(event_of("verdict", "pangyo", "dark", i));
            (void)book.on_event(event_of("verdict", "pangyo", "healthy", i));
            one->save(book);
            io.restart();
            io.run();
        }
        (void)book.on_event(event_of("verdict", "anyang", "dark", 9));
        one->save(book);
        (void)book.on_event(event_of("strand", "anyang", "", 10));
        one->save(book);
        one->stop(book);  // the loop does not run any more
    }
    CHECK_FALSE(std::filesystem::exists(folder.path + "/incident-000001.json"));
    {
        auto two = files();
        const IncidentBook book(two->read());
        REQUIRE(book.list().size() == 2);
        CHECK(book.find(4)->lines.size() == 2);
        CHECK(book.open_sites() == std::vector<std::string>{"anyang"});
        two->stop(book);
    }
    std::ofstream(folder.path + "/incident-000004.json") << "{\"number\":4";
    std::ofstream(folder.path + "/notes.json") << "mine";
    auto three = files();
    IncidentBook book(three->read());
    CHECK(reports.size() == 1);
    CHECK(book.open() == 0);
    CHECK(book.last() == 4);
    CHECK(std::filesystem::exists(folder.path + "/incident-000004.json.damaged"));
    CHECK(std::filesystem::exists(folder.path + "/notes.json"));
    three->stop(book);
}
