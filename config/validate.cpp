#include "config/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <unordered_map>

#include "config/server_ids.h"
#include "config/suggest.h"
#include "dataplane/api/limits.h"

namespace detour::config {
namespace {

std::string also(const char* what, const Origin& first) {
    return fmt::format("{} (the other is at {})", what, first.to_string());
}

std::string unknown_name(std::string_view kind, std::string_view name,
                         const std::vector<std::string>& known) {
    const std::string near = nearest(name, known);
    if (near.empty()) return fmt::format("the name of a [[{}]]", kind);
    return fmt::format("the name of a [[{}]] (did you mean \"{}\"?)", kind, near);
}

/// One run over a Config. Every function checks one rule.
class Checker {
  public:
    Checker(const Config& config, const Places& places, Mistakes& mistakes)
        : config_(config), places_(places), mistakes_(mistakes) {
        for (const Site& site : config.sites) site_names_.push_back(site.name);
        for (std::size_t i = 0; i < config.pools.size(); ++i) {
            pool_names_.push_back(config.pools[i].name);
            pool_index_.emplace(config.pools[i].name, i);
        }
        sites_.insert(site_names_.begin(), site_names_.end());
    }

    void run() {
        check_totals();
        check_site_names();
        check_site_keys();
        check_bfd_peers();
        check_pool_names();
        check_vips();
        for (std::size_t i = 0; i < config_.pools.size(); ++i) {
            check_backends(i);
            check_site_weights(i);
            check_min_sites(i);
            check_stranded(i);
            check_depends_on(i);
        }
        check_cycles();
    }

  private:
    void check_totals() {
        const auto limit = [&](std::size_t count, std::size_t most, const char* what, const Origin& where) {
            if (count > most)
                mistakes_.add(where, fmt::format("{} {}", count, what), fmt::format("at most {}", most));
        };
        std::size_t vips = 0;
        std::size_t backends = 0;
        for (const Pool& pool : config_.pools) {
            vips += pool.vips.size();
            backends += pool.backends.size();
        }
        if (!config_.sites.empty()) {
            limit(config_.sites.size(), api::kMaxSites, "sites", config_.sites.back().origin);
        }
        if (config_.pools.empty()) return;
        const Origin& last = config_.pools.back().origin;
        limit(config_.pools.size(), api::kMaxPools, "pools", last);
        limit(vips, api::kMaxVips, "vips in all pools", last);
        limit(backends, api::kMaxBackends, "backends in all pools", last);
    }

    void check_site_names() {
        std::unordered_map<std::string, std::size_t> first;
        for (std::size_t i = 0; i < config_.sites.size(); ++i) {
            const std::string& name = config_.sites[i].name;
            if (name.empty()) continue;
            const auto [seen, is_new] = first.emplace(name, i);
            if (is_new) continue;
            mistakes_.add(places_.sites[i].name, fmt::format("name = \"{}\" again", name),
                          also("a site name used once", places_.sites[seen->second].name));
        }
    }

    void check_site_keys() {
        std::unordered_map<std::string, std::size_t> first;
        for (std::size_t i = 0; i < config_.sites.size(); ++i) {
            const Site& site = config_.sites[i];
            if (site.key.empty()) continue;
            const auto [seen, is_new] = first.emplace(site.key, i);
            // Two sites of one name have one key too: said once is enough.
            if (is_new || config_.sites[seen->second].name == site.name) continue;
            mistakes_.add(
                places_.sites[i].key, fmt::format("key \"{}\" again", site.key),
                also("a site key (by default the name) used once", places_.sites[seen->second].key));
        }
    }

    /// As the session table has it: a packet must belong to one session.
    static bool same_path(const BfdPeer& a, const BfdPeer& b) {
        const bool sources = !a.source || !b.source || *a.source == *b.source;
        const bool interfaces = a.interface.empty() || b.interface.empty() || a.interface == b.interface;
        return a.address == b.address && a.multihop == b.multihop && sources && interfaces;
    }

    void check_bfd_peers() {
        std::vector<std::pair<const BfdPeer*, const Origin*>> before;
        for (std::size_t s = 0; s < config_.sites.size(); ++s) {
            const std::vector<BfdPeer>& peers = config_.sites[s].bfd;
            for (std::size_t i = 0; i < peers.size(); ++i) {
                const Origin& where = places_.sites[s].bfd[i];
                check_bfd_peer(peers[i], where, i);
                for (const auto& [peer, first] : before) {
                    if (!same_path(*peer, peers[i])) continue;
                    mistakes_.add(where, fmt::format("address = \"{}\" again", peers[i].address.to_string()),
                                  also("a BFD session with a router once", *first));
                    break;
                }
                before.emplace_back(&peers[i], &where);
                if (before.size() == kMaxBfdPeers + 1) {
                    mistakes_.add(where, fmt::format("{} bfd probes in all sites", kMaxBfdPeers + 1),
                                  fmt::format("at most {}", kMaxBfdPeers));
                }
            }
        }
    }

    void check_bfd_peer(const BfdPeer& peer, const Origin& where, std::size_t index) {
        if (peer.source && peer.source->is_v6() != peer.address.is_v6()) {
            mistakes_.add(where,
                          fmt::format("address = \"{}\" with source = \"{}\"", peer.address.to_string(),
                                      peer.source->to_string()),
                          "both of one address family");
        }
        if (index == kMaxBfdPeersPerSite) {
            mistakes_.add(where, fmt::format("bfd probe {} of a site", kMaxBfdPeersPerSite + 1),
                          fmt::format("at most {}", kMaxBfdPeersPerSite));
        }
    }

    void check_pool_names() {
        for (std::size_t i = 0; i < config_.pools.size(); ++i) {
            const std::string& name = config_.pools[i].name;
            const std::size_t first = pool_index_.at(name);
            if (name.empty() || first == i) continue;
            mistakes_.add(places_.pools[i].name, fmt::format("name = \"{}\" again", name),
                          also("a pool name used once", places_.pools[first].name));
        }
    }

    void check_vips() {
        std::map<api::Vip, Origin> first;
        for (std::size_t i = 0; i < config_.pools.size(); ++i) {
            const Pool& pool = config_.pools[i];
            for (std::size_t v = 0; v < pool.vips.size(); ++v) {
                const Origin& where = places_.pools[i].vips[v];
                const auto [seen, is_new] = first.emplace(pool.vips[v], where);
                if (is_new) continue;
                mistakes_.add(where, fmt::format("vip \"{}\" again", pool.vips[v].to_string()),
                              also("a vip used once", seen->second));
            }
        }
        for (const auto& [vip, where] : first) vip_addresses_.insert(vip.address);
    }

    void check_backends(std::size_t index) {
        const Pool& pool = config_.pools[index];
        const PoolPlaces& places = places_.pools[index];
        std::map<api::IpAddress, std::size_t> first;
        std::map<std::string, std::uint32_t> per_site;
        for (std::size_t b = 0; b < pool.backends.size(); ++b) {
            const Backend& backend = pool.backends[b];
            check_site_reference(backend.site, places.backends[b].site);
            check_backend_address(backend.address, places.backends[b].address);
            const auto [seen, is_new] = first.emplace(backend.address, b);
            if (!is_new) {
                mistakes_.add(places.backends[b].address,
                              fmt::format("address = \"{}\" again", backend.address.to_string()),
                              also("a backend once in a pool", places.backends[seen->second].address));
            }
            if (++per_site[backend.site] == pool.max_backends + 1) {
                mistakes_.add(
                    backend.origin,
                    fmt::format("backend {} in site \"{}\"", pool.max_backends + 1, backend.site),
                    fmt::format("at most {} (max_backends of pool \"{}\")", pool.max_backends, pool.name));
            }
        }
        check_server_ids(pool, places, mistakes_);
        if (pool.backends.empty() && places_.all_backends_read) {
            mistakes_.add(pool.origin, fmt::format("pool \"{}\" without a backend", pool.name),
                          "at least one [[pool.backend]]");
        }
    }

    void check_site_reference(const std::string& name, const Origin& where) {
        if (name.empty() || !places_.all_sites_read || sites_.contains(name)) return;
        mistakes_.add(where, fmt::format("site = \"{}\"", name), unknown_name("site", name, site_names_));
    }

    void check_backend_address(const api::IpAddress& address, const Origin& where) {
        if (vip_addresses_.contains(address)) {
            mistakes_.add(where, fmt::format("address = \"{}\", which is a vip", address.to_string()),
                          "the backend's own address: packets sent to a vip would come back");
        }
        const Dataplane& dataplane = config_.dataplane;
        const bool have = (address.is_v6() ? dataplane.source_v6 : dataplane.source_v4).has_value();
        if (have || !places_.source_read || said_no_source_[address.is_v6()]) return;
        said_no_source_[address.is_v6()] = true;  // once: hundreds of backends share the cause
        const char* family = address.is_v6() ? "IPv6" : "IPv4";
        mistakes_.add(
            where, fmt::format("address = \"{}\"", address.to_string()),
            fmt::format("an {} address in `source` of [dataplane] first: tunnels to it have none", family));
    }

    void check_site_weights(std::size_t index) {
        const Pool& pool = config_.pools[index];
        for (std::size_t i = 0; i < pool.site_weights.size(); ++i) {
            const std::string& name = pool.site_weights[i].site;
            if (!places_.all_sites_read || sites_.contains(name)) continue;
            mistakes_.add(places_.pools[index].site_weights[i], fmt::format("site_weight of \"{}\"", name),
                          unknown_name("site", name, site_names_));
        }
    }

    void check_min_sites(std::size_t index) {
        const Pool& pool = config_.pools[index];
        std::set<std::string> sites;
        for (const Backend& backend : pool.backends) sites.insert(backend.site);
        if (!places_.all_backends_read || sites.empty() || pool.min_sites <= sites.size()) return;
        mistakes_.add(places_.pools[index].min_sites, fmt::format("min_sites = {}", pool.min_sites),
                      fmt::format("at most {}: the pool has backends in no more sites", sites.size()));
    }

    void check_stranded(std::size_t index) {
        const Pool& pool = config_.pools[index];
        const auto is_udp = [](const api::Vip& vip) { return vip.protocol == api::Protocol::kUdp; };
        if (pool.stranded != api::Stranded::kReset || pool.vips.empty()) return;
        if (!std::ranges::all_of(pool.vips, is_udp)) return;
        mistakes_.add(places_.pools[index].stranded, "stranded = \"reset\" with udp vips alone",
                      "\"rehash\" or \"keep\": only tcp has resets");
    }

    void check_depends_on(std::size_t index) {
        const Pool& pool = config_.pools[index];
        const PoolPlaces& places = places_.pools[index];
        std::set<std::string> seen;
        for (std::size_t i = 0; i < pool.depends_on.size(); ++i) {
            const std::string& name = pool.depends_on[i];
            if (!seen.insert(name).second) {
                mistakes_.add(places.depends_on[i], fmt::format("depends_on \"{}\" again", name),
                              "each pool once");
            } else if (places_.all_pools_read && !pool_index_.contains(name)) {
                mistakes_.add(places.depends_on[i], fmt::format("depends_on \"{}\"", name),
                              unknown_name("pool", name, pool_names_));
            }
        }
    }

    // Depth first without recursion, as a chain may be as long as there are pools. A way back to a pool on
    // the current path is a cycle, reported at the word that closes it.
    void check_cycles() {
        enum class Mark : std::uint8_t { kNew, kOnPath, kDone };
        struct Step {
            std::size_t pool;
            std::size_t next;
        };
        std::vector<Mark> marks(config_.pools.size(), Mark::kNew);
        for (std::size_t start = 0; start < config_.pools.size(); ++start) {
            std::vector<Step> path;
            if (marks[start] == Mark::kNew) path.push_back({start, 0});
            while (!path.empty()) {
                const std::size_t at = path.back().pool;
                const Pool& pool = config_.pools[at];
                marks[at] = Mark::kOnPath;
                if (path.back().next == pool.depends_on.size()) {
                    marks[at] = Mark::kDone;
                    path.pop_back();
                    continue;
                }
                const std::size_t word = path.back().next++;
                const auto to = pool_index_.find(pool.depends_on[word]);
                if (to == pool_index_.end()) continue;
                if (marks[to->second] == Mark::kNew) path.push_back({to->second, 0});
                if (marks[to->second] != Mark::kOnPath) continue;
                report_cycle(places_.pools[at].depends_on[word], pool.name, to->first);
            }
        }
    }

    void report_cycle(const Origin& where, const std::string& from, const std::string& to) {
        const std::string way =
            from == to ? "itself" : fmt::format("\"{}\", which depends on \"{}\"", to, from);
        mistakes_.add(where, fmt::format("depends_on {}", way), "no circle of dependencies");
    }

    const Config& config_;
    const Places& places_;
    Mistakes& mistakes_;
    std::vector<std::string> site_names_;
    std::vector<std::string> pool_names_;
    std::set<std::string, std::less<>> sites_;
    std::unordered_map<std::string, std::size_t> pool_index_;
    std::set<api::IpAddress> vip_addresses_;
    std::array<bool, 2> said_no_source_{};
};

}  // namespace

void validate(const Config& config, const Places& places, Mistakes& mistakes) {
    Checker(config, places, mistakes).run();
}

}  // namespace detour::config
