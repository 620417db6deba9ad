#include "config/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "config/duration.h"

namespace detour::config {
namespace {

using Map = std::map<std::string, std::string>;

std::string list(std::vector<std::string> items) {
    std::sort(items.begin(), items.end());
    return fmt::format("{}", fmt::join(items, ", "));
}

std::string tier_text(SiteTier tier) {
    constexpr std::array<const char*, 4> kNames{"active", "hot", "warm", "cold"};
    return kNames.at(static_cast<std::size_t>(tier));
}

/// 8 hex digits of what the seed turns into: tells seeds apart without telling the seed.
std::string fingerprint(const std::string& seed) {
    const auto bytes = api::FleetSeed::from_text("fingerprint:" + seed).bytes;
    std::string result;
    for (std::size_t i = 0; i < 4; ++i) result += fmt::format("{:02x}", bytes.at(i));
    return result;
}

void add_singletons(const Config& config, Map& out) {
    const Dataplane& dataplane = config.dataplane;
    out["pop.name"] = config.pop.name;
    out["pop.share"] = fmt::format("{}", config.pop.share);
    out["pop.fleet_seed"] = "fingerprint " + fingerprint(config.pop.fleet_seed);
    // The order of ports is their number: it has a meaning.
    out["dataplane.ports"] = fmt::format("{}", fmt::join(dataplane.ports, ", "));
    out["dataplane.workers"] = std::to_string(dataplane.workers);
    out["dataplane.source.v4"] = dataplane.source_v4 ? dataplane.source_v4->to_string() : "";
    out["dataplane.source.v6"] = dataplane.source_v6 ? dataplane.source_v6->to_string() : "";
    out["dataplane.flows_per_worker"] = std::to_string(dataplane.flows_per_worker);
    out["dataplane.resets_per_second"] = std::to_string(dataplane.resets_per_second);
    out["dataplane.icmp_per_second"] = std::to_string(dataplane.icmp_per_second);
    out["dataplane.socket"] = dataplane.socket;
    out["dataplane.state_dir"] = dataplane.state_dir;
    out["control.socket"] = config.control.socket;
    out["control.state_dir"] = config.control.state_dir;
    std::vector<std::string> sources;
    for (const api::IpAddress& source : config.control.probe_source) sources.push_back(source.to_string());
    out["control.probe_source"] = list(sources);
    out["control.probe_mark"] = std::to_string(config.control.probe_mark);
    out["failover.panic_threshold"] = fmt::format("{}", config.failover.panic_threshold);
    out["failover.dark_threshold"] = fmt::format("{}", config.failover.dark_threshold);
    out["failover.return_threshold"] = fmt::format("{}", config.failover.return_threshold);
    out["failover.overprovisioning"] = fmt::format("{}", config.failover.overprovisioning);
    out["failover.max_dark_sites"] = std::to_string(config.failover.max_dark_sites);
    out["failover.shed"] = api::to_string(config.failover.shed);
    out["failover.ramp"] = duration_text(config.failover.ramp);
    out["failover.strand_after"] = duration_text(config.failover.strand_after);
    out["failover.confirm_timeout"] = duration_text(config.failover.confirm_timeout);
    out["failover.auto_return_within"] = duration_text(config.failover.auto_return_within);
    out["failover.flap_hold"] = duration_text(config.failover.flap_hold);
    out["failover.flap_hold_most"] = duration_text(config.failover.flap_hold_most);
    out["failover.flap_forget"] = duration_text(config.failover.flap_forget);
}

void add_site(const Site& site, Map& out) {
    const std::string path = "site." + site.name + ".";
    out[path + "key"] = site.key;
    out[path + "domain"] = fmt::format("{}", fmt::join(site.domain, "/"));
    out[path + "tier"] = tier_text(site.tier);
    out[path + "capacity.new_flows"] = std::to_string(site.capacity.new_flows);
    out[path + "capacity.gbps"] = fmt::format("{}", site.capacity.gbps);
    out[path + "activation.command"] = fmt::format("{}", fmt::join(site.activation.command, " "));
    out[path + "activation.url"] = site.activation.url;
    out[path + "activation.ca_file"] = site.activation.ca_file;
    out[path + "activation.deadline"] = duration_text(site.activation.deadline);
    for (const BfdPeer& peer : site.bfd) {
        // What tells one session from another is its name here.
        const std::string source = peer.source ? " from " + peer.source->to_string() : "";
        const std::string interface = peer.interface.empty() ? "" : " on " + peer.interface;
        const std::string inner = path + "probe.bfd " + peer.address.to_string() + source + interface +
                                  (peer.multihop ? "" : " single hop") + ".";
        out[inner + "min_ttl"] = std::to_string(peer.min_ttl);
        out[inner + "interval"] = duration_text(peer.interval);
        out[inner + "multiplier"] = std::to_string(peer.multiplier);
    }
}

/// Plain as it is, anything else in hex: as the configuration has it.
std::string payload_text(const std::string& bytes) {
    const bool plain = std::ranges::all_of(bytes, [](char c) { return c >= 0x20 && c < 0x7f; });
    if (plain) return bytes;
    std::string result = "hex:";
    for (const char c : bytes) result += fmt::format("{:02x}", static_cast<unsigned char>(c));
    return result;
}

void add_health(const std::string& path, const Health& health, Map& out) {
    out[path + "type"] = to_string(health.type);
    out[path + "port"] = std::to_string(health.port.value());
    out[path + "method"] = to_string(health.method);
    out[path + "path"] = health.path;
    out[path + "host"] = health.host;
    std::vector<std::string> status;
    for (const std::uint16_t code : health.status) status.push_back(std::to_string(code));
    out[path + "status"] = list(status);
    out[path + "body"] = health.body;
    out[path + "payload"] = payload_text(health.payload);
    out[path + "expect"] = payload_text(health.expect);
    out[path + "query"] = health.query;
    out[path + "query_type"] = std::to_string(static_cast<unsigned>(health.query_type));
    out[path + "rcode"] = std::to_string(static_cast<unsigned>(health.rcode));
    out[path + "server_name"] = health.server_name;
    out[path + "verify"] = to_string(health.verify);
    out[path + "ca_file"] = health.ca_file;
    out[path + "service"] = health.service;
    out[path + "via"] = to_string(health.via);
    out[path + "full_size"] = health.full_size ? "true" : "false";
    out[path + "warn_days"] = std::to_string(health.warn_days);
    out[path + "interval"] = duration_text(health.interval);
    out[path + "timeout"] = duration_text(health.timeout);
    out[path + "fast_interval"] = duration_text(health.fast_interval);
    out[path + "jitter"] = fmt::format("{}", health.jitter);
    out[path + "fall"] = std::to_string(health.fall);
    out[path + "rise"] = std::to_string(health.rise);
}

void add_pool(const Pool& pool, Map& out) {
    const std::string path = "pool." + pool.name + ".";
    std::vector<std::string> vips;
    for (const api::Vip& vip : pool.vips) vips.push_back(vip.to_string());
    out[path + "vip"] = list(vips);
    out[path + "encap"] = api::to_string(pool.encap);
    out[path + "hash"] = api::to_string(pool.hash);
    out[path + "stranded"] = api::to_string(pool.stranded);
    out[path + "on_empty"] = api::to_string(pool.on_empty);
    out[path + "priority"] = std::to_string(pool.priority);
    out[path + "min_sites"] = std::to_string(pool.min_sites);
    out[path + "max_backends"] = std::to_string(pool.max_backends);
    out[path + "depends_on"] = list(pool.depends_on);
    out[path + "follow"] = pool.follow ? "true" : "false";
    out[path + "data"] = to_string(pool.data);
    for (const PoolSite& site : pool.site_weights) {
        if (site.weight != PoolSite{}.weight)
            out[path + "site_weight." + site.site] = std::to_string(site.weight);
    }
    add_health(path + "health.", pool.health, out);
    if (pool.data == Data::kSingleWriter) add_health(path + "ready.", pool.ready, out);
    for (const Backend& backend : pool.backends) {
        const std::string inner = path + "backend." + backend.address.to_string() + ".";
        out[inner + "site"] = backend.site;
        out[inner + "weight"] = std::to_string(backend.weight);
        std::vector<std::string> ids;
        for (const api::QuicServerId& id : backend.server_ids) ids.push_back(id.to_string());
        if (!ids.empty()) out[inner + "server_id"] = list(ids);
    }
}

}  // namespace

std::map<std::string, std::string> flatten(const Config& config) {
    Map result;
    add_singletons(config, result);
    for (const Site& site : config.sites) add_site(site, result);
    for (const Pool& pool : config.pools) add_pool(pool, result);
    return result;
}

std::vector<Change> diff(const Config& before, const Config& after) {
    const Map old_values = flatten(before);
    const Map new_values = flatten(after);
    std::vector<Change> changes;
    for (const auto& [path, value] : old_values) {
        const auto now = new_values.find(path);
        if (now == new_values.end()) changes.push_back({path, value, ""});
        if (now != new_values.end() && now->second != value) changes.push_back({path, value, now->second});
    }
    for (const auto& [path, value] : new_values) {
        if (!old_values.contains(path)) changes.push_back({path, "", value});
    }
    std::sort(changes.begin(), changes.end());
    return changes;
}

}  // namespace detour::config
