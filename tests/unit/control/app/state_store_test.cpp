#include "control/app/state_store.h"

#include <doctest/doctest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "control/app/durable_file.h"
#include "tests/unit/control/sample_config.h"

using namespace detour;
using namespace detour::app;

namespace {

StoredState sample_state() {
    StoredState state;
    state.generation = api::Generation{42};
    config::Config config = test::sample_config({.sites = {"판교", "with space", "100%"}, .pools = 3});
    config.pools[0].vips.push_back(test::vip("[2001:db8::1]:53/udp"));
    REQUIRE(state.ids.assign(config, api::Generation{1}, api::Generation{0}).has_value());
    config.pools.pop_back();
    config.sites.pop_back();
    for (config::Pool& pool : config.pools) pool.backends.resize(4);
    REQUIRE(state.ids.assign(config, api::Generation{2}, api::Generation{0}).has_value());
    failover::AdmissionRecord record;
    record.phase = failover::Phase::kDark;
    record.trickle = true;
    record.stranded = record.bad_answers = true;
    record.dark_since.value = health::nanoseconds{1'700'000'000'123'456'789};
    record.mid_before = api::Admit{123};
    state.sites["판교"] = record;
    state.sites["with space"] = {};
    state.flaps["with space"] = failover::Flaps(1.001, record.dark_since);
    return state;
}

StoredIntents sample_intents() {
    StoredIntents intents;
    failover::Drain drain;
    drain.target.kind = failover::TargetKind::kPoolSite;
    drain.target.site = "with space";
    drain.target.pool = "talk";
    drain.reason = "line one\nline two\t100% \x01";
    drain.since.value = health::nanoseconds{5};
    drain.until.value = health::nanoseconds{99};
    drain.forced = true;
    intents.drains.push_back(drain);
    drain = {};
    drain.target.kind = failover::TargetKind::kBackend;
    drain.target.address = test::ip("2001:db8::11");
    drain.last_resort = true;
    drain.by = "kim";
    intents.drains.push_back(drain);
    drain.target = {};
    drain.target.kind = failover::TargetKind::kDomain;
    drain.target.domain = "kr/seongnam";
    drain.percent = 25;
    drain.here = true;
    drain.deadline = health::WallTime{health::nanoseconds{77}};
    drain.stamp = {health::WallTime{health::nanoseconds{6}}, "icn 1"};
    intents.drains.push_back(drain);
    intents.hold.emplace();
    intents.hold->reason = "100 %";
    intents.hold->until.value = health::nanoseconds{1};
    failover::WeightOverride weight;
    weight.target = intents.drains[1].target;
    weight.weight = 65535;
    weight.configured = ~std::uint64_t{0};
    weight.by = "kim (root)";
    intents.weights.push_back(weight);
    intents.removed.push_back({"drain talk@with space", {health::nanoseconds{8}}, drain.stamp});
    return intents;
}

struct Folder {
    std::string path;
    Folder() {
        char name[] = "/tmp/detour-store-XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        path = name;
    }
    ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("what is written is what is read") {
    const auto state = decode_state(encode(sample_state()));
    REQUIRE_MESSAGE(state.has_value(), (state ? "" : state.error().to_string()));
    CHECK(*state == sample_state());
    CHECK(*decode_state(encode(StoredState{})) == StoredState{});
    const auto intents = decode_intents(encode(sample_intents()));
    REQUIRE_MESSAGE(intents.has_value(), (intents ? "" : intents.error().to_string()));
    CHECK(*intents == sample_intents());
    CHECK(*decode_intents(encode(StoredIntents{})) == StoredIntents{});
}

TEST_CASE("a file that is cut or changed anywhere is refused") {
    const std::string intents = encode(sample_intents());
    for (std::size_t length = 0; length < intents.size(); ++length) {
        CHECK_FALSE(decode_intents(intents.substr(0, length)).has_value());
    }
    for (std::size_t i = 0; i < intents.size(); ++i) {
        std::string broken = intents;
        broken[i] = static_cast<char>(broken[i] ^ 1);
        CHECK_FALSE(decode_intents(broken).has_value());
    }
    const std::string state = encode(sample_state());
    for (std::size_t length = 0; length < state.size(); length += 7) {
        CHECK_FALSE(decode_state(state.substr(0, length)).has_value());
    }
    CHECK_FALSE(decode_state(intents).has_value());
    CHECK_FALSE(decode_intents(state).has_value());
    CHECK_FALSE(decode_state(state + state).has_value());
}

TEST_CASE("a file is replaced as a whole and keeps no temporary") {
    const Folder folder;
    const std::string path = folder.path + "/intents";
    CHECK(read_file(path).error().code == api::ErrorCode::kNotFound);
    REQUIRE(write_durably(path, "one").has_value());
    CHECK(*read_file(path) == "one");
    const std::string large(300'000, 'x');
    REQUIRE(write_durably(path, large).has_value());
    CHECK(*read_file(path) == large);
    REQUIRE(write_durably(path, "").has_value());
    CHECK(read_file(path)->empty());
    CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST_CASE("a file that can't be written says so and stays as it was") {
    const Folder folder;
    const std::string path = folder.path + "/intents";
    REQUIRE(write_durably(path, "one").has_value());
    // A folder in the temporary's place: works for root too, unlike permissions.
    REQUIRE(std::filesystem::create_directory(path + ".tmp"));
    const auto failed = write_durably(path, "two");
    REQUIRE_FALSE(failed.has_value());
    CHECK(failed.error().code == api::ErrorCode::kSystem);
    CHECK(*read_file(path) == "one");
    CHECK(write_durably(folder.path + "/missing/intents", "x").error().code == api::ErrorCode::kSystem);
}
