// docs/config.md documents every key of the loader and no other, with the defaults that the loader has.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "config/diff.h"
#include "config/load.h"
#include "tests/unit/config/base.h"

namespace detour::config::tests {
namespace {

struct Row {
    std::string header;  ///< "[pop]", "[[pool.backend]]"
    std::string key;
    std::string default_value;  ///< TOML, "" when it is words
    std::vector<std::string> cells;

    [[nodiscard]] std::string path() const {
        const std::size_t brackets = header.find_first_not_of('[');
        return header.substr(brackets, header.size() - 2 * brackets) + "." + key;
    }
};

std::string trimmed(const std::string& text) {
    const std::size_t begin = text.find_first_not_of(' ');
    if (begin == std::string::npos) return "";
    return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

std::vector<std::string> cells_of(const std::string& line) {
    std::vector<std::string> cells;
    for (std::size_t at = 1; at < line.size();) {
        const std::size_t end = std::min(line.find('|', at), line.size());
        cells.push_back(trimmed(line.substr(at, end - at)));
        at = end + 1;
    }
    return cells;
}

/// "`x`" or "`x`, or …" or "`x`; …" -> "x"; words -> "".
std::string code_at_start(const std::string& cell) {
    if (!cell.starts_with('`')) return "";
    return cell.substr(1, cell.find('`', 1) - 1);
}

std::vector<Row> documented() {
    const char* root = std::getenv("DETOUR_SOURCE_ROOT");
    REQUIRE_MESSAGE(root != nullptr, "DETOUR_SOURCE_ROOT must name the source folder (meson test sets it)");
    std::ifstream file(std::string(root) + "/docs/config.md");
    REQUIRE(file.is_open());
    std::vector<Row> rows;
    std::string header;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("## ")) header = line.starts_with("## [") ? line.substr(3) : "";
        if (header.empty() || !line.starts_with("| `")) continue;
        const std::vector<std::string> cells = cells_of(line);
        REQUIRE(cells.size() == 5);
        rows.push_back({header, code_at_start(cells[0]), code_at_start(cells[1]), cells});
    }
    REQUIRE(rows.size() > 40);
    return rows;
}

constexpr std::string_view kMinimal = R"([pop]
name = "p"
fleet_seed = "5f1d7a3c9be24680a1c3e5f708192a3b"
[dataplane]
ports = ["eth0"]
source = ["192.0.2.1"]
[control]
[failover]
[[site]]
name = "a"
[site.capacity]
[site.activation]
[[site.probe]]
type = "bfd"
address = "10.0.0.9"
[[pool]]
name = "t"
vip = ["203.0.113.1:443/tcp"]
[pool.health]
[[pool.backend]]
site = "a"
address = "10.0.0.1"
)";

Config loaded(const std::string& text) {
    CAPTURE(text);
    auto result = load_text(text, "f.toml");
    REQUIRE_MESSAGE(result.has_value(), (result.has_value() ? "" : result.error()[0].to_string()));
    return *result;
}

}  // namespace

TEST_CASE("docs/config.md has exactly the loader's keys") {
    std::set<std::string> in_docs;
    for (const Row& row : documented()) {
        CAPTURE(row.path());
        CHECK(in_docs.insert(row.path()).second);
        if (row.header == "[pool.health]") in_docs.insert("pool.ready." + row.key);
        in_docs.insert(
            row.path().substr(0, row.path().rfind('.')));  // the section, where it is a key of its parent
    }
    for (const char* top : {"pop", "dataplane", "control", "failover", "site", "pool"}) in_docs.erase(top);
    in_docs.insert("pool.ready");
    const std::vector<std::string> keys = known_keys();
    const std::set<std::string> in_loader(keys.begin(), keys.end());
    CHECK(in_docs == in_loader);
}

TEST_CASE("the documented default is what a missing key means") {
    std::size_t checked = 0;
    for (const Row& row : documented()) {
        if (row.default_value.empty()) continue;
        CAPTURE(row.path());
        std::string plain(kMinimal);
        const std::map<std::string, std::string> types{{"method", "http"},
                                                       {"path", "http"},
                                                       {"status", "http"},
                                                       {"verify", "tls"},
                                                       {"warn_days", "tls"},
                                                       {"full_size", "http"},
                                                       {"query_type", "dns\"\nquery = \"talk.example"},
                                                       {"rcode", "dns\"\nquery = \"talk.example"}};
        if (const auto type = types.find(row.key); type != types.end())
            plain =
                replaced(plain, "", "[pool.health]\n", "[pool.health]\ntype = \"" + type->second + "\"\n");
        const std::string said = replaced(plain, "", row.header + "\n",
                                          row.header + "\n" + row.key + " = " + row.default_value + "\n");
        CHECK(diff(loaded(plain), loaded(said)).empty());
        ++checked;
    }
    CHECK(checked > 30);
}

TEST_CASE("every documented key says its range") {
    for (const Row& row : documented()) {
        CAPTURE(row.path());
        CHECK_FALSE(row.cells[1].empty());
        CHECK_FALSE(row.cells[3].empty());
    }
}

}  // namespace detour::config::tests
