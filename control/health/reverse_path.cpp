#include "control/health/reverse_path.h"

#include <algorithm>
#include <fstream>
#include <system_error>

namespace detour::health {

namespace {

int filter_of(const std::filesystem::path& folder) {
    std::ifstream file(folder / "rp_filter");
    int value = 0;
    return file >> value ? value : 0;
}

}  // namespace

std::vector<std::string> strict_reverse_path(const std::filesystem::path& conf) {
    // The greater of both counts (Linux: Documentation/networking/ip-sysctl.rst).
    const int all = filter_of(conf / "all");
    std::vector<std::string> strict;
    std::error_code error;
    for (std::filesystem::directory_iterator at(conf, error), end; !error && at != end; at.increment(error)) {
        const std::string name = at->path().filename().string();
        if (name == "all" || name == "default" || name == "lo") continue;
        if (std::max(all, filter_of(at->path())) == 1) strict.push_back(name);
    }
    std::ranges::sort(strict);
    return strict;
}

}  // namespace detour::health
