// `detour-decap stats`: reads the counters of the programs that are attached, whoever attached them.
//
// Finds them through the interfaces, so it needs no running process and no file. Blocking calls, any thread.
#pragma once

#include <string>
#include <vector>

#include "dataplane/api/result.h"
#include "tools/decap/counters.h"

namespace detour::decap {

using api::Result;

struct InterfaceStats {
    std::string interface;
    std::string mode;  ///< "xdp" (in the driver), "xdp-generic", "tc", or "off" when it only clamps
    bool clamps = false;
    CounterValues counters{};
};

/// Of `interface`, or of every interface when it is empty; those without a program of ours are left out.
/// Error kNotFound: no such interface, or a program of ours nowhere; kRefused: no permission; kSystem.
[[nodiscard]] Result<std::vector<InterfaceStats>> read_stats(const std::string& interface);

[[nodiscard]] std::string to_table(const std::vector<InterfaceStats>& stats);
/// {"interfaces":[{"interface":"eth0","mode":"xdp","clamp":true,"counters":{"passed":1,…}}]}
[[nodiscard]] std::string to_json(const std::vector<InterfaceStats>& stats);

}  // namespace detour::decap
