// Configurations on trial, what another one would move, and files that change.
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>

#include "control/app/config_preview.h"
#include "control/app/config_trial.h"
#include "control/app/config_watch.h"
#include "tests/unit/control/app/world.h"

using namespace detour;
using namespace detour::test;

namespace {

struct Folder {
    static inline int count = 0;
    std::string path =
        "/tmp/detour-config-test." + std::to_string(::getpid()) + "." + std::to_string(++count);
    Folder() { std::filesystem::create_directories(path); }
    ~Folder() { std::filesystem::remove_all(path); }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(path + "/" + name) << text;
    }
};

std::string toml(const Folder& folder, int weight) {
    return "[pop]\nname = \"icn1\"\nfleet_seed = \"0123456789abcdef0123456789abcdef\"\n"
           "[dataplane]\nports = [\"lo\"]\nsource = [\"192.0.2.1\"]\n"
           "[control]\nstate_dir = \"" +
           folder.path +
           "/state\"\n"
           "[[site]]\nname = \"pangyo\"\ndomain = [\"kr\", \"pangyo\"]\n"
           "[[pool]]\nname = \"talk\"\nvip = [\"203.0.113.10:443/tcp\"]\n"
           "health = { type = \"tcp\" }\n"
           "[[pool.backend]]\nsite = \"pangyo\"\naddress = \"10.0.0.11\"\nweight = " +
           std::to_string(weight) + "\n";
}

health::WallTime at(int second) {
    return {std::chrono::seconds{second}};
}

app::PreviewInput input_of(World& world, config::Config next) {
    return {world.engine().snapshot(world.now()), world.config(), std::move(next), {}};
}

}  // namespace

TEST_CASE("a trial is kept on disk and a start in the middle goes on with it") {
    const Folder folder;
    const std::string path = folder.path + "/my.toml";
    folder.write("my.toml", toml(folder, 1));
    std::filesystem::create_directories(folder.path + "/state");
    const auto before = app::read_config_text(path);
    REQUIRE(before.size() == 1);
    folder.write("my.toml", toml(folder, 2));
    const app::Trial trial{app::text_mark(app::read_config_text(path)), at(1000), false};
    CHECK(trial.text != app::text_mark(before));
    REQUIRE(app::begin_trial(folder.path + "/state", before, trial));
    const auto weight = [](const app::StartConfig& start) {
        return start.loaded->pools[0].backends[0].weight;
    };
    const auto during = app::load_for_start(path, at(999));
    REQUIRE(during.loaded);
    CHECK(weight(during) == 2);
    CHECK(during.trial == trial);
    SUBCASE("its time was up while nobody was there") {
        for (const int second : {1001, 1002}) {
            const auto late = app::load_for_start(path, at(second));
            REQUIRE(late.loaded);
            CHECK(weight(late) == 1);
            CHECK(late.trial->taken_back);
            CHECK(late.alarm.find("not confirmed") != std::string::npos);
            CHECK(app::text_mark(late.text) == app::text_mark(before));
        }
    }
    SUBCASE("the disk holds another configuration by then: that one counts") {
        folder.write("my.toml", toml(folder, 3));
        const auto other = app::load_for_start(path, at(1001));
        CHECK(weight(other) == 3);
        CHECK_FALSE(other.trial.has_value());
        CHECK_FALSE(app::read_trial(folder.path + "/state")->has_value());
    }
    SUBCASE("confirmed") {
        REQUIRE(app::end_trial(folder.path + "/state"));
        CHECK(weight(app::load_for_start(path, at(1001))) == 2);
    }
    SUBCASE("a damaged trial: what is on disk is in force, with an alarm") {
        folder.write("state/config-trial", "detour-trial 1\ntrial 1 2 0\nchecksum 0\n");
        const auto odd = app::load_for_start(path, at(1001));
        CHECK(weight(odd) == 2);
        CHECK_FALSE(odd.alarm.empty());
    }
}

TEST_CASE("a folder of files is kept with its folders") {
    const Folder folder;
    std::filesystem::create_directories(folder.path + "/conf/pools.d");
    const std::string whole = toml(folder, 1);
    const std::size_t cut = whole.find("[[pool]]");
    folder.write("conf/detour.toml", whole.substr(0, cut));
    folder.write("conf/pools.d/talk.toml", whole.substr(cut));
    const auto text = app::read_config_text(folder.path + "/conf");
    REQUIRE(text.size() == 2);
    REQUIRE(app::begin_trial(folder.path, text, {1, at(1), false}));
    CHECK(app::text_mark(app::read_config_text(app::config_before(folder.path))) == app::text_mark(text));
    CHECK(config::load(app::config_before(folder.path)));
    CHECK(app::read_trial(folder.path)->value() == app::Trial{1, at(1), false});
    REQUIRE(app::end_trial(folder.path));
    CHECK_FALSE(std::filesystem::exists(app::config_before(folder.path)));
}

TEST_CASE("a preview of the same configuration, in another order, says that nothing happens") {
    World world(sample_config({.pools = 3}));
    world.boot();
    config::Config next = world.config();
    std::swap(next.pools[0], next.pools[2]);
    std::swap(next.sites[0], next.sites[1]);
    const auto diff = app::preview(input_of(world, next));
    REQUIRE(diff);
    CHECK_FALSE(diff->changed);
    CHECK(diff->moves.empty());
}

TEST_CASE("a preview shows what then happens, by pool and site") {
    World world(sample_config({.pools = 2}));
    world.boot();
    config::Config next = world.config();
    next.pools[1].site_weights.push_back({"pangyo", 0});
    auto input = input_of(world, next);
    const auto diff = app::preview(input);
    REQUIRE(diff);
    CHECK(diff->changed);
    REQUIRE(diff->pools.size() == 1);
    CHECK(diff->pools[0].pool == "pool1");
    CHECK(diff->pools[0].moved == doctest::Approx(1.0 / 3).epsilon(0.1));
    double to_others = 0;
    for (const control::Move& move : diff->moves) {
        CHECK(move.pool == "pool1");
        // The table is apportioned anew: up to 2 % of the others' flows may move with it.
        if (move.from != "pangyo") CHECK(move.share < 0.02);
        to_others += move.share;
    }
    CHECK(to_others == doctest::Approx(diff->pools[0].moved));
    REQUIRE(diff->sites.size() == 3);
    double before = 0;
    double after = 0;
    for (const control::PoolSiteDiff& site : diff->sites) {
        CHECK(site.pool == "pool1");
        CHECK(site.before == doctest::Approx(1.0 / 3).epsilon(0.1));
        CHECK(site.after == doctest::Approx(site.site == "pangyo" ? 0 : 0.5).epsilon(0.1));
        CHECK_FALSE(site.flows);  // nobody has counted
        before += site.before;
        after += site.after;
    }
    CHECK(before == doctest::Approx(1));
    CHECK(after == doctest::Approx(1));
    // The plan that the engine then makes is the one that was asked.
    world.reload(next);
    const auto again = app::preview({world.engine().snapshot(world.now()), input.now, next, {}});
    REQUIRE(again);
    CHECK(again->pools.empty());
}

TEST_CASE("a preview counts the established flows of backends that go, and minds drains and weights") {
    World world(sample_config());
    world.boot();
    REQUIRE(world.drain("anyang").has_value());
    config::Config next = world.config();
    const api::IpAddress gone = next.pools[0].backends[0].address;
    next.pools[0].backends.erase(next.pools[0].backends.begin());
    auto input = input_of(world, next);
    for (const app::BackendStatus& backend : input.snapshot.backends) input.flows[backend.id] = 10;
    const auto diff = app::preview(input);
    REQUIRE(diff);
    REQUIRE(diff->pools.size() == 1);
    CHECK(diff->pools[0].flows_lost == 10U);
    REQUIRE(diff->sites.size() == 1);  // of the others nothing changes
    CHECK(diff->sites[0].site == "pangyo");
    CHECK(diff->sites[0].flows == 20U);
    CHECK(diff->sites[0].flows_lost == 10U);
    CHECK(diff->pools[0].moved < 0.02);
    CHECK(diff->pools[0].reshuffled == doctest::Approx(0.25).epsilon(0.3));
    CHECK(diff->changes.front().find(gone.to_string()) != std::string::npos);

    next = world.config();
    next.pools.pop_back();
    next.pools.push_back(world.config().pools[0]);
    next.pools[0].vips = {vip("203.0.113.99:443/tcp")};
    const auto other = app::preview(input_of(world, next));
    REQUIRE(other);
    CHECK(other->warnings.size() == 1);
    CHECK(other->pools[0].moved == 1);
    for (const control::PoolSiteDiff& site : other->sites) CHECK(site.after == 0);
    CHECK(other->sites.size() == 2);  // anyang is drained
}

TEST_CASE("files that change are noticed once, whatever way they are replaced; others are not") {
    const Folder folder;
    folder.write("detour.toml", "1");
    std::filesystem::create_directories(folder.path + "/pools.d");
    boost::asio::io_context io;
    for (const bool whole_folder : {false, true}) {
        CAPTURE(whole_folder);
        int changes = 0;
        app::ConfigWatch watch(io, whole_folder ? folder.path : folder.path + "/detour.toml",
                               [&] { ++changes; });
        REQUIRE(watch.start());
        const auto wait_for = [&](int wanted) {
            const auto limit = std::chrono::steady_clock::now() + 20s;
            io.restart();
            while (changes < wanted && std::chrono::steady_clock::now() < limit) io.run_one_for(100ms);
            CHECK(changes == wanted);
        };
        folder.write(".detour.toml.swp", "no");
        folder.write("notes.txt", "no");
        folder.write("detour.toml", "2");
        folder.write("detour.toml", "3");
        wait_for(1);
        folder.write("new", "4");
        std::filesystem::rename(folder.path + "/new", folder.path + "/detour.toml");
        wait_for(2);
        if (whole_folder) {
            folder.write("pools.d/talk.toml", "5");
            wait_for(3);
        }
        watch.stop();
        io.restart();
        io.run();
    }
    app::ConfigWatch nowhere(io, "/nonexistent/detour.toml", [] {});
    CHECK_FALSE(nowhere.start());
}
