#include "tools/decap/stats.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "tools/decap/kernel.h"

namespace detour::decap {

namespace {

struct FreeNames {
    void operator()(struct if_nameindex* names) const noexcept { if_freenameindex(names); }
};

[[nodiscard]] std::vector<std::string> every_interface() {
    std::vector<std::string> result;
    const std::unique_ptr<struct if_nameindex, FreeNames> names(::if_nameindex());
    if (!names) return result;
    for (const struct if_nameindex* entry = names.get(); entry->if_index != 0; ++entry) {
        result.emplace_back(entry->if_name);
    }
    return result;
}

[[nodiscard]] Result<void> add_counters(const Descriptor& map, CounterValues& counters) {
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 1) return api::fail(api::ErrorCode::kSystem, "counting the CPUs", std::strerror(-cpus));
    std::vector<std::uint64_t> values(static_cast<std::size_t>(cpus));
    for (std::uint32_t counter = 0; counter < DECAP_COUNTERS; ++counter) {
        if (bpf_map_lookup_elem(map.get(), &counter, values.data()) != 0) {
            return api::fail(api::ErrorCode::kSystem, "reading the counters", std::strerror(errno));
        }
        for (const auto value : values) counters[counter] += value;
    }
    return {};
}

/// Which of our programs on one interface count into which map; one run's programs share theirs.
class Collector {
  public:
    explicit Collector(std::string name) { stats_.interface = std::move(name), stats_.mode = "off"; }

    [[nodiscard]] Result<void> visit(int ifindex, Place place) {
        auto program = attached(ifindex, place);
        if (!program) return tl::unexpected(program.error());
        if (!*program || !is_ours(**program, place)) return {};
        found_ = true;
        note(place, **program);
        const auto map = find_map(**program, "decap_counters");
        bpf_map_info info{};
        std::uint32_t size = sizeof(info);
        if (!map || bpf_obj_get_info_by_fd(map->get(), &info, &size) != 0) {
            return api::fail(api::ErrorCode::kSystem, "finding the counters", std::strerror(errno));
        }
        return seen_.insert(info.id).second ? add_counters(*map, stats_.counters) : Result<void>{};
    }

    [[nodiscard]] bool found() const noexcept { return found_; }
    [[nodiscard]] const InterfaceStats& stats() const noexcept { return stats_; }

  private:
    void note(Place place, const AttachedProgram& program) {
        if (place == Place::kXdp)
            stats_.mode = program.xdp_flags == XDP_FLAGS_DRV_MODE ? "xdp" : "xdp-generic";
        if (place == Place::kIngress) stats_.mode = "tc";
        if (place == Place::kEgress) stats_.clamps = true;
    }

    InterfaceStats stats_;
    std::set<std::uint32_t> seen_;
    bool found_ = false;
};

}  // namespace

Result<std::vector<InterfaceStats>> read_stats(const std::string& interface) {
    std::vector<InterfaceStats> result;
    for (const auto& name : interface.empty() ? every_interface() : std::vector{interface}) {
        auto ifindex = interface_index(name);
        if (!ifindex) return tl::unexpected(ifindex.error());
        Collector collector(name);
        for (const Place place : {Place::kXdp, Place::kIngress, Place::kEgress}) {
            if (auto done = collector.visit(*ifindex, place); !done) return tl::unexpected(done.error());
        }
        if (collector.found()) result.push_back(collector.stats());
    }
    if (result.empty()) {
        return api::fail(
            api::ErrorCode::kNotFound, "reading the counters",
            interface.empty() ? "detour-decap is on no interface" : "detour-decap is not on " + interface);
    }
    return result;
}

std::string to_table(const std::vector<InterfaceStats>& stats) {
    std::string text;
    for (const auto& entry : stats) {
        fmt::format_to(std::back_inserter(text), "{}  mode {}  clamp {}\n", entry.interface, entry.mode,
                       entry.clamps ? "on" : "off");
        for (const auto& info : kCounters) {
            fmt::format_to(std::back_inserter(text), "  {:<18} {:>14}\n", info.name,
                           entry.counters[info.counter]);
        }
    }
    return text;
}

std::string to_json(const std::vector<InterfaceStats>& stats) {
    std::string text = "{\"interfaces\":[";
    for (std::size_t i = 0; i < stats.size(); ++i) {
        // Interface names may hold any byte but '/' and space; of these only two need care inside JSON.
        std::string name;
        for (const char c : stats[i].interface) {
            if (c == '"' || c == '\\') name += '\\';
            name += c;
        }
        fmt::format_to(std::back_inserter(text),
                       "{}{{\"interface\":\"{}\",\"mode\":\"{}\",\"clamp\":{},\"counters\":{{",
                       i == 0 ? "" : ",", name, stats[i].mode, stats[i].clamps);
        for (const auto& info : kCounters) {
            fmt::format_to(std::back_inserter(text), "{}\"{}\":{}", info.counter == 0 ? "" : ",", info.name,
                           stats[i].counters[info.counter]);
        }
        text += "}}";
    }
    return text + "]}\n";
}

}  // namespace detour::decap
