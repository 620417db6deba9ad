// What a correct configuration turns into; files and folders; order; size.
#include "config/load.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "config/diff.h"
#include "config/files.h"
#include "tests/unit/config/base.h"

namespace detour::config::tests {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

/// A folder of its own, gone at the end.
class Folder {
  public:
    Folder() : path_(fs::temp_directory_path() / "detour-config-XXXXXX") {
        std::string name = path_.string();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~Folder() { fs::remove_all(path_); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    void write(const std::string& name, std::string_view text) const {
        fs::create_directories((path_ / name).parent_path());
        std::ofstream(path_ / name, std::ios::binary) << text;
    }
    [[nodiscard]] std::string path(const std::string& name = "") const { return (path_ / name).string(); }

  private:
    fs::path path_;
};

Config loaded(std::string_view text) {
    auto result = load_text(text, "f.toml");
    REQUIRE_MESSAGE(result.has_value(), (result.has_value() ? "" : result.error()[0].to_string()));
    return *result;
}

std::string first_message(const Loaded& result) {
    REQUIRE_FALSE(result.has_value());
    return result.error()[0].to_string();
}

/// The parts of the base text that may stand in any order.
struct Parts {
    std::vector<std::string> singletons;
    std::vector<std::string> lists;
};

Parts parts() {
    const std::string base(kBase);
    const std::size_t sites = base.find("[[site]]");
    const std::size_t second = base.find("[[site]]", sites + 1);
    const std::size_t talk = base.find("[[pool]]");
    const std::size_t login = base.find("[[pool]]", talk + 1);
    const auto part = [&](std::size_t from, std::size_t to) { return base.substr(from, to - from); };
    const auto start = [&](const char* header) { return base.find(header); };
    return {{part(start("[pop]"), start("[dataplane]")), part(start("[dataplane]"), start("[control]")),
             part(start("[control]"), start("[failover]")), part(start("[failover]"), sites)},
            {part(sites, second), part(second, talk), part(talk, login), base.substr(login)}};
}

std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    REQUIRE_MESSAGE(file.is_open(), path);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::string source_root() {
    const char* root = std::getenv("DETOUR_SOURCE_ROOT");
    REQUIRE_MESSAGE(root != nullptr, "DETOUR_SOURCE_ROOT must name the source folder (meson test sets it)");
    return root;
}

constexpr std::string_view kSeed = "5f1d7a3c9be24680a1c3e5f708192a3b";

}  // namespace

TEST_CASE("each value arrives in the model") {
    const Config config = loaded(kBase);
    CHECK(config.pop.name == "icn1");
    CHECK(config.pop.share == 0.25);
    CHECK(config.pop.fleet_seed == kSeed);
    CHECK(config.dataplane.ports == std::vector<std::string>{"eth1"});
    CHECK(config.dataplane.workers == 2);
    CHECK(config.dataplane.source_v4->to_string() == "192.0.2.1");
    CHECK(config.dataplane.source_v6->to_string() == "2001:db8::1");
    CHECK(config.dataplane.flows_per_worker == 4096);
    CHECK(config.dataplane.resets_per_second == 500);
    CHECK(config.dataplane.icmp_per_second == 100);
    CHECK(config.dataplane.socket == "/run/d/dataplane.sock");
    CHECK(config.dataplane.state_dir == "/var/lib/d/dataplane");
    CHECK(config.control.socket == "/run/d/control.sock");
    CHECK(config.control.state_dir == "/var/lib/d/control");
    CHECK(config.failover.panic_threshold == 0.4);
    CHECK(config.failover.dark_threshold == 0.1);
    CHECK(config.failover.max_dark_sites == 2);
    CHECK(config.failover.ramp == 120s);
    CHECK(config.failover.strand_after == 1500ms);
    CHECK(config.failover.auto_return_within == 1h);
    REQUIRE(config.sites.size() == 2);
    CHECK(config.sites[0].name == "pangyo");
    CHECK(config.sites[0].key == "p1");
    CHECK(config.sites[0].domain == std::vector<std::string>{"kr", "seongnam", "pangyo"});
    CHECK(config.sites[0].capacity.new_flows == 200'000);
    CHECK(config.sites[0].capacity.gbps == 40);
    REQUIRE(config.sites[0].bfd.size() == 1);
    CHECK(config.sites[0].bfd[0] == BfdPeer{*api::IpAddress::parse("10.1.0.1"),
                                            *api::IpAddress::parse("192.0.2.1"), "eth1", true, 250, 100ms,
                                            4});
    CHECK(config.failover.confirm_timeout == 150ms);
    CHECK(config.sites[0].origin.to_string() == "f.toml:29:1");
    CHECK(config.sites[1].key == "anyang");
    CHECK(config.sites[1].tier == SiteTier::kHot);
    CHECK(config.find_site("anyang") == &config.sites[1]);
    CHECK(config.find_site("nowhere") == nullptr);
}

TEST_CASE("a pool that goes by connection ids has its backends' server ids") {
    const std::string text = replaced(kBase, "name = \"login\"", "vip = [\"203.0.113.11:53/udp\"]",
                                      "vip = [\"203.0.113.11:443/udp\", \"203.0.113.11:443/tcp\"]\n"
                                      "hash = \"quic-cid\"") +
                             "server_id = [\"0A1F\", \"6:00\"]\n";
    const Config config = loaded(text);
    const Pool& pool = *config.find_pool("login");
    CHECK(pool.hash == api::HashKey::kQuicCid);
    REQUIRE(pool.backends.at(0).server_ids.size() == 2);
    CHECK(pool.backends[0].server_ids[0].to_string() == "0a1f");
    CHECK(pool.backends[0].server_ids[1].to_string() == "6:00");
    const auto changes = diff(loaded(text), loaded(replaced(text, "", "\"0A1F\"", "\"0a20\"")));
    REQUIRE(changes.size() == 1);
    CHECK(changes[0].path == "pool.login.backend.10.2.0.12.server_id");
}

TEST_CASE("each value of a pool arrives in the model") {
    const Config config = loaded(kBase);
    REQUIRE(config.find_pool("talk") != nullptr);
    const Pool& pool = *config.find_pool("talk");
    REQUIRE(pool.vips.size() == 2);
    CHECK(pool.vips[1].to_string() == "[2001:db8:f::10]:443/tcp");
    CHECK(pool.encap == api::Encap::kIpip);
    CHECK(pool.hash == api::HashKey::kSource);
    CHECK(pool.stranded == api::Stranded::kKeep);
    CHECK(pool.on_empty == api::Refusal::kReset);
    CHECK(pool.priority == 1);
    CHECK(pool.min_sites == 2);
    CHECK(pool.max_backends == 8);
    CHECK(pool.depends_on == std::vector<std::string>{"login"});
    REQUIRE(pool.site_weights.size() == 2);
    CHECK(pool.site_weights[0].site == "anyang");
    CHECK(pool.site_weights[0].weight == 150);
    const Health expected{.type = ProbeType::kHttp,
                          .port = api::Port{8080},
                          .path = "/healthz",
                          .host = "talk.example",
                          .status = {200, 204},
                          .interval = 200ms,
                          .timeout = 150ms,
                          .fast_interval = 50ms,
                          .fall = 2,
                          .rise = 4};
    CHECK(pool.health == expected);
    REQUIRE(pool.backends.size() == 2);
    CHECK(pool.backends[0].site == "pangyo");
    CHECK(pool.backends[0].address.to_string() == "10.1.0.11");
    CHECK(pool.backends[0].weight == 70);
    CHECK(pool.backends[0].origin.to_string() == "f.toml:77:1");
}

TEST_CASE("what is left out has the model's default") {
    const Config config = loaded(
        "pop = { name = \"p\", fleet_seed = \"5f1d7a3c9be24680\" }\ndataplane = { ports = [\"eth0\"], source "
        "= [\"192.0.2.1\"] }\n"
        "[[site]]\nname = \"a\"\n[[pool]]\nname = \"u\"\nvip = [\"203.0.113.1:53/udp\"]\n"
        "backend = [{ site = \"a\", address = \"10.0.0.1\" }]\n");
    const Config defaults;
    CHECK(config.pop.share == defaults.pop.share);
    CHECK(config.failover.ramp == defaults.failover.ramp);
    CHECK(config.dataplane.socket == defaults.dataplane.socket);
    const Pool& pool = config.pools.at(0);
    CHECK(pool.stranded == api::Stranded::kRehash);  // all its vips are UDP
    CHECK(pool.encap == api::Encap::kGue);
    CHECK(pool.health.type == ProbeType::kTcp);
    CHECK(pool.health.port == api::Port{53});
    CHECK(pool.health.status.empty());
    CHECK(pool.backends.at(0).weight == 100);
}

TEST_CASE("an empty file names what every file needs") {
    const Loaded result = load_text("", "f.toml");
    REQUIRE_FALSE(result.has_value());
    REQUIRE(result.error().size() == 4);
    CHECK(
        result.error()[0].to_string().starts_with("f.toml:1:1: found [pop] without name, expected 1 to 63"));
    CHECK(result.error()[1].to_string().starts_with("f.toml:1:1: found [pop] without fleet_seed"));
    CHECK(result.error()[2].to_string().starts_with("f.toml:1:1: found [dataplane] without ports"));
}

TEST_CASE("a backend whose family has no tunnel source is named") {
    const std::string text = replaced(kBase, "source", "\"192.0.2.1\", \"2001:db8::1\"", "\"192.0.2.1\"");
    CHECK(first_message(load_text(text, "f.toml"))
              .starts_with("f.toml:84:11: found address = \"2001:db8:2::11\", "
                           "expected an IPv6 address in `source`"));
}

TEST_CASE("a folder is read detour.toml first, then in name order, one level down, without hidden files") {
    const Folder folder;
    const Parts all = parts();
    std::string main;
    for (const std::string& text : all.singletons) main += text;
    folder.write("detour.toml", main);
    folder.write("a.toml", all.lists[2]);
    folder.write("pools.d/login.toml", all.lists[3]);
    folder.write("sites.d/1.toml", all.lists[0] + all.lists[1]);
    folder.write(".hidden.toml", "not toml");
    folder.write(".git/x.toml", "not toml");
    folder.write("pools.d/readme.md", "not toml");
    folder.write("pools.d/deep/x.toml", "not toml");
    const Loaded result = load(folder.path());
    REQUIRE_MESSAGE(result.has_value(), (result.has_value() ? "" : result.error()[0].to_string()));
    CHECK(flatten(*result) == flatten(loaded(kBase)));
    CHECK(result->pools.at(1).origin.to_string() == "pools.d/login.toml:1:1");
}

TEST_CASE("a singleton table twice in a folder names both places") {
    const Folder folder;
    folder.write("detour.toml", kBase);
    folder.write("z.toml", "\n  [failover]\nramp = \"1m\"\n");
    CHECK(first_message(load(folder.path())) ==
          "z.toml:2:3: found [failover] again, expected it once (the other is at detour.toml:20:1)");
}

TEST_CASE("a duplicate and a broken reference between files name the right file") {
    const Folder folder;
    folder.write("detour.toml", kBase);
    folder.write("pools.d/x.toml",
                 "[[pool]]\nname = \"x\"\nvip = [\"203.0.113.10:443/tcp\"]\nbackend = [{ site = \"pangyoo\", "
                 "address = "
                 "\"10.9.9.9\" }]\n");
    const Loaded result = load(folder.path());
    REQUIRE_FALSE(result.has_value());
    REQUIRE(result.error().size() == 2);
    CHECK(result.error()[0].to_string().starts_with(
        "pools.d/x.toml:3:8: found vip \"203.0.113.10:443/tcp\" again"));
    CHECK(result.error()[0].to_string().ends_with("(the other is at detour.toml:52:8)"));
    CHECK(result.error()[1].to_string().starts_with("pools.d/x.toml:4:21: found site = \"pangyoo\""));
}

TEST_CASE("a broken file among others is the only mistake") {
    const Folder folder;
    folder.write("detour.toml", kBase);
    folder.write("x.toml", "[[site]\n");
    const Loaded result = load(folder.path());
    REQUIRE_FALSE(result.has_value());
    REQUIRE(result.error().size() == 1);
    CHECK(result.error()[0].origin.to_string().starts_with("x.toml:1:"));
    CHECK(result.error()[0].expected == "valid TOML");
}

TEST_CASE("what can't be read is said with its name") {
    const Folder folder;
    CHECK(first_message(load(folder.path("none.toml"))) ==
          folder.path("none.toml") + ": found No such file or directory, expected a file that can be read");
    CHECK(first_message(load(folder.path())).find("found an empty folder, expected detour.toml in it") !=
          std::string::npos);
}

TEST_CASE("more than 16 MiB are refused, the last byte of 16 MiB is not") {
    const Folder folder;
    std::string text(kBase);
    text += "#" + std::string(kMaxConfigBytes - text.size() - 2, 'x') + "\n";
    REQUIRE(text.size() == kMaxConfigBytes);
    folder.write("f.toml", text);
    CHECK(load(folder.path("f.toml")).has_value());
    folder.write("f.toml", text + "\n");
    CHECK(first_message(load(folder.path("f.toml"))).find("at most 16 MiB") != std::string::npos);
    CHECK(first_message(load_text(text + "\n", "t")).find("at most 16 MiB") != std::string::npos);
}

TEST_CASE("the order of files, sites, pools and backends changes nothing") {
    const auto seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937 random(seed);
    const auto expected = flatten(loaded(kBase));
    for (int round = 0; round < 50; ++round) {
        Parts all = parts();
        std::shuffle(all.singletons.begin(), all.singletons.end(), random);
        std::shuffle(all.lists.begin(), all.lists.end(), random);
        const Folder folder;
        for (std::size_t i = 0; i < all.singletons.size(); ++i) {
            folder.write(fmt::format("{}.toml", random()), all.singletons[i]);
            folder.write(fmt::format("d/{}.toml", random()), all.lists[i]);
        }
        const Loaded result = load(folder.path());
        REQUIRE_MESSAGE(result.has_value(), (result.has_value() ? "" : result.error()[0].to_string()));
        CHECK(flatten(*result) == expected);
    }
}

TEST_CASE("the order of backends and of lists changes nothing") {
    std::string text = replaced(kBase, "vip", "\"203.0.113.10:443/tcp\", \"[2001:db8:f::10]:443/tcp\"",
                                "\"[2001:db8:f::10]:443/tcp\", \"203.0.113.10:443/tcp\"");
    text = replaced(text, "status", "200, 204", "204, 200");
    const std::string first = "site = \"pangyo\"\naddress = \"10.1.0.11\"\nweight = 70\n";
    const std::string second = "site = \"anyang\"\naddress = \"2001:db8:2::11\"\n";
    text = replaced(text, "", first, "%");
    text = replaced(text, "", second, first);
    text = replaced(text, "", "%", second);
    CHECK(diff(loaded(kBase), loaded(text)).empty());
}

TEST_CASE("a difference names its path and both values") {
    std::string text = replaced(kBase, "[[pool.backend]]", "weight = 70", "weight = 0");
    text = replaced(text, "ramp", "\"2m\"", "\"3m\"");
    text = replaced(text, "[[pool]]\nname = \"login\"", "address = \"10.2.0.12\"", "address = \"10.2.0.13\"");
    const std::vector<Change> expected{{"failover.ramp", "2m", "3m"},
                                       {"pool.login.backend.10.2.0.12.site", "anyang", ""},
                                       {"pool.login.backend.10.2.0.12.weight", "100", ""},
                                       {"pool.login.backend.10.2.0.13.site", "", "anyang"},
                                       {"pool.login.backend.10.2.0.13.weight", "", "100"},
                                       {"pool.talk.backend.10.1.0.11.weight", "70", "0"}};
    CHECK(diff(loaded(kBase), loaded(text)) == expected);
    CHECK(diff(loaded(kBase), loaded(kBase)).empty());
    const std::string reseeded = replaced(kBase, "fleet_seed", "5f1d", "5f1e");
    const std::vector<Change> changes = diff(loaded(kBase), loaded(reseeded));
    REQUIRE(changes.size() == 1);
    CHECK(changes[0].path == "pop.fleet_seed");
    CHECK(changes[0].after.find("5f1e7a3c") == std::string::npos);
}

TEST_CASE("the examples are correct once their seed is replaced, and refused before") {
    const std::string examples = source_root() + "/config/examples/";
    const auto seeded = [&](const std::string& path) {
        return replaced(read(path), "fleet_seed", "CHANGE ME: openssl rand -hex 32", kSeed);
    };
    const Loaded raw = load(examples + "detour.toml");
    REQUIRE_FALSE(raw.has_value());
    CHECK(raw.error().size() == 1);
    CHECK(raw.error()[0].found == "fleet_seed that is a placeholder");
    const Config one = loaded(seeded(examples + "detour.toml"));
    CHECK(one.sites.size() == 3);

    CHECK(load(examples + "folder").error().size() == 1);
    const Folder folder;
    fs::copy(examples + "folder", folder.path(),
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    folder.write("detour.toml", seeded(examples + "folder/detour.toml"));
    const Loaded many = load(folder.path());
    REQUIRE_MESSAGE(many.has_value(), (many.has_value() ? "" : many.error()[0].to_string()));
    CHECK(diff(one, *many).empty());
}

TEST_CASE("1,000 pools with 10,000 backends in 16 sites load in less than two seconds") {
    std::string text = fmt::format(
        "[pop]\nname = \"p\"\nfleet_seed = \"{}\"\n[dataplane]\nports = [\"e\"]\nsource = [\"192.0.2.1\"]\n",
        kSeed);
    for (int i = 0; i < 16; ++i) text += fmt::format("[[site]]\nname = \"site{}\"\n", i);
    for (int pool = 0; pool < 1000; ++pool) {
        text += fmt::format("[[pool]]\nname = \"pool{}\"\nvip = [\"203.0.{}.{}:443/tcp\"]\n", pool,
                            100 + pool / 250, 1 + pool % 250);
        if (pool > 0) text += fmt::format("depends_on = [\"pool{}\"]\n", pool - 1);
        for (int b = 0; b < 10; ++b) {
            text +=
                fmt::format("[[pool.backend]]\nsite = \"site{}\"\naddress = \"10.{}.{}.{}\"\nweight = 100\n",
                            (pool + b) % 16, pool / 250, pool % 250, b + 1);
        }
    }
    const auto start = std::chrono::steady_clock::now();
    const Config config = loaded(text);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    MESSAGE("1,000 pools, 10,000 backends: " << took.count() << " ms");
    CHECK(config.pools.size() == 1000);
    CHECK(took < 2s);
}

}  // namespace detour::config::tests
