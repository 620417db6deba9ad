#include "control/health/reverse_path.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <fstream>
#include <map>

namespace detour::health {
namespace {

std::vector<std::string> strict(const std::map<std::string, std::string>& filters) {
    const auto folder = std::filesystem::temp_directory_path() / ("rp_filter" + std::to_string(::getpid()));
    for (const auto& [name, value] : filters) {
        std::filesystem::create_directories(folder / name);
        std::ofstream(folder / name / "rp_filter") << value << '\n';
    }
    auto names = strict_reverse_path(folder);
    std::filesystem::remove_all(folder);
    return names;
}

using Names = std::vector<std::string>;

TEST_CASE("the greater of an interface's own filter and that of all counts, and 1 alone is strict") {
    CHECK(strict({{"all", "0"}, {"eth0", "0"}, {"eth1", "1"}, {"eth2", "2"}}) == Names{"eth1"});
    CHECK(strict({{"all", "1"}, {"eth1", "0"}, {"eth0", "1"}, {"eth2", "2"}}) == Names{"eth0", "eth1"});
    CHECK(strict({{"all", "2"}, {"eth0", "0"}, {"eth1", "1"}}).empty());
    CHECK(strict({{"all", "0"}, {"default", "1"}, {"lo", "1"}}).empty());
}

TEST_CASE("what can't be read is not strict") {
    CHECK(strict({{"eth0", "x"}, {"eth1", ""}}).empty());
    CHECK(strict_reverse_path("/nonexistent").empty());
}

}  // namespace
}  // namespace detour::health
