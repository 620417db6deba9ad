#include "config/load.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <span>

#include "config/duration.h"
#include "config/files.h"
#include "config/load_pool.h"
#include "config/mistakes.h"
#include "config/places.h"
#include "config/rules.h"
#include "config/section.h"
#include "config/suggest.h"
#include "config/validate.h"
#include "config/words.h"
#include "dataplane/api/limits.h"

namespace detour::config {
namespace {

// ---- sections, one function each; pools have a file of their own

constexpr std::string_view kSocketRule = "an absolute path of at most 107 bytes, without blanks";
constexpr std::string_view kFolderRule = "an absolute path without blanks";

void read_socket(Section& section, std::string& socket, std::string& folder) {
    section.text("socket", socket, Need::kOptional, kSocketRule,
                 plain_rule(107, '/', std::string(kSocketRule)));
    section.text("state_dir", folder, Need::kOptional, kFolderRule,
                 plain_rule(4000, '/', std::string(kFolderRule)));
}

void read_pop(Section& section, Pop& pop) {
    section.text("name", pop.name, Need::kRequired, kNameRule, name_rule);
    section.real("share", pop.share, 1e-6, 1.0, "a number above 0 and at most 1");
    constexpr std::string_view kExpected =
        "16 to 256 random characters, the same on every host; make one with: openssl rand -hex 32";
    const toml::node* node = section.ask("fleet_seed");
    if (node == nullptr) {
        section.missing("fleet_seed", kExpected);
    } else if (!node->is_string()) {
        section.wrong(*node, "fleet_seed", std::string(kExpected));
    } else if (const auto fault = seed_fault(node->as_string()->get())) {
        section.wrong_found(*node, "fleet_seed that is " + *fault, std::string(kExpected));
    } else {
        pop.fleet_seed = node->as_string()->get();
    }
    section.finish();
}

void read_dataplane(Section& section, Dataplane& dataplane, Places& places) {
    constexpr std::string_view kPort =
        "a list of interface names, PCI addresses or DPDK device strings, each once";
    section.texts("ports", 1, api::kMaxPorts, kPort, plain_rule(255, 0, std::string(kPort)),
                  [&](const toml::node& node, const std::string& port) {
                      if (std::ranges::find(dataplane.ports, port) != dataplane.ports.end()) {
                          section.wrong_found(node, quoted(port) + " again", "each port once");
                      }
                      dataplane.ports.push_back(port);
                  });
    section.integer("workers", dataplane.workers, 1, api::kMaxWorkers);
    std::size_t sources = 0;
    section.texts("source", 1, 2, "a list of one IPv4 address, one IPv6 address, or both", source_rule,
                  [&](const toml::node& node, const std::string& text) {
                      const api::IpAddress address = *api::IpAddress::parse(text);
                      auto& slot = address.is_v6() ? dataplane.source_v6 : dataplane.source_v4;
                      if (slot) return section.wrong(node, "source", "at most one address of each family");
                      slot = address;
                      ++sources;
                  });
    // Missing or with a wrong item: said already, no need to say it at a backend too.
    places.source_read = sources == section.items("source") && sources > 0;
    section.integer("flows_per_worker", dataplane.flows_per_worker, 1 << 10, 1 << 26);
    section.integer("resets_per_second", dataplane.resets_per_second, 0, 10'000'000);
    section.integer("icmp_per_second", dataplane.icmp_per_second, 0, 10'000'000);
    read_socket(section, dataplane.socket, dataplane.state_dir);
    section.finish();
}

void read_control(Section& section, Control& control) {
    read_socket(section, control.socket, control.state_dir);
    section.texts("probe_source", 0, 2, "a list of one IPv4 address, one IPv6 address, or both", address_rule,
                  [&](const toml::node& node, const std::string& text) {
                      const api::IpAddress address = *api::IpAddress::parse(text);
                      const auto same = [&](const api::IpAddress& a) { return a.is_v6() == address.is_v6(); };
                      if (std::ranges::any_of(control.probe_source, same))
                          return section.wrong(node, "probe_source", "at most one address of each family");
                      control.probe_source.push_back(address);
                  });
    section.integer("probe_mark", control.probe_mark, 256, 0x7fffffff);
    section.finish();
}

void read_failover(Section& section, Failover& failover) {
    using namespace std::chrono_literals;
    section.real("panic_threshold", failover.panic_threshold, 0, 1, "a number from 0 to 1");
    section.real("dark_threshold", failover.dark_threshold, 0, 1, "a number from 0 to 1");
    section.real("return_threshold", failover.return_threshold, 0, 1, "a number from 0 to 1");
    section.real("overprovisioning", failover.overprovisioning, 1, 10, "a number from 1 to 10");
    section.integer("max_dark_sites", failover.max_dark_sites, 0, api::kMaxSites);
    (void)section.choice<api::Refusal>("shed", failover.shed, kRefusals);
    section.duration("ramp", failover.ramp, 0ms, 24h);
    section.duration("strand_after", failover.strand_after, 0ms, 10min);
    section.duration("auto_return_within", failover.auto_return_within, 0ms, 24h);
    section.duration("flap_hold", failover.flap_hold, 0ms, 1h);
    failover.flap_hold_most = std::max(failover.flap_hold_most, failover.flap_hold);
    section.duration("flap_hold_most", failover.flap_hold_most, failover.flap_hold, 24h);
    section.duration("flap_forget", failover.flap_forget, 1s, 24h);
    section.duration("confirm_timeout", failover.confirm_timeout, 10ms, 10s);
    section.finish();
}

/// BFD alone; other probes of a site come with a later version.
void read_site_probe(Section section, Site& site, std::vector<Origin>& places) {
    using namespace std::chrono_literals;
    BfdPeer peer;
    std::string address;
    std::string source;
    SiteProbe type = SiteProbe::kBfd;
    const bool known = section.choice<SiteProbe>("type", type, kSiteProbes);
    if (!section.has("type")) section.missing("type", "\"bfd\"");
    section.text("address", address, Need::kRequired, kAddressRule, address_rule);
    section.text("source", source, Need::kOptional, kAddressRule, address_rule);
    section.text("interface", peer.interface, Need::kOptional, kInterfaceRule,
                 plain_rule(15, 0, std::string(kInterfaceRule)));
    section.boolean("multihop", peer.multihop);
    section.integer("min_ttl", peer.min_ttl, 0, 255);
    section.duration("interval", peer.interval, 10ms, 10s);
    section.integer("multiplier", peer.multiplier, 1, 255);
    section.finish();
    if (!peer.multihop && peer.min_ttl != 0) {
        section.reading().mistakes->add(section.place_or_header("min_ttl"), "min_ttl with multihop = false",
                                        "multihop = true beside it: a single hop is always 255");
    }
    if (!known || address.empty()) return;
    peer.address = *api::IpAddress::parse(address);
    if (!source.empty()) peer.source = *api::IpAddress::parse(source);
    site.bfd.push_back(std::move(peer));
    places.push_back(section.place_or_header("address"));
}

void read_activation(Section section, Site& site) {
    using namespace std::chrono_literals;
    constexpr std::string_view kCommand = "a list of a program's absolute path and its arguments, at most 64";
    constexpr std::string_view kUrl = "a URL of at most 1024 bytes that starts with http:// or https://";
    constexpr std::string_view kFile = "an absolute path of a PEM file, without blanks";
    Activation& activation = site.activation;
    section.texts("command", 0, 64, kCommand, argument_rule,
                  [&](const toml::node& node, const std::string& text) {
                      if (activation.command.empty() && !text.starts_with('/'))
                          return section.wrong_found(node, quoted(text), std::string(kCommand));
                      activation.command.push_back(text);
                  });
    section.text("url", activation.url, Need::kOptional, kUrl, url_rule);
    section.text("ca_file", activation.ca_file, Need::kOptional, kFile,
                 plain_rule(4000, '/', std::string(kFile)));
    section.duration("deadline", activation.deadline, 1s, 24h);
    const auto wrong = [&](std::string_view key, const char* found, const char* expected) {
        section.reading().mistakes->add(section.place_or_header(key), found, expected);
    };
    if (!activation.command.empty() && !activation.url.empty())
        wrong("url", "command and url", "one of them");
    if (section.has("ca_file") && !activation.url.starts_with("https://"))
        wrong("ca_file", "ca_file without an https:// url", "url = \"https://…\" beside it");
    const bool lower = site.tier == SiteTier::kWarm || site.tier == SiteTier::kCold;
    if (activation.configured() && !lower)
        section.reading().mistakes->add(section.header(),
                                        "activation of a site that is neither warm nor cold",
                                        "tier = \"warm\" or \"cold\" beside it");
    section.finish();
}

void read_site(Section section, Config& config, Places& places) {
    Site site;
    site.origin = section.header();
    section.text("name", site.name, Need::kRequired, kNameRule, name_rule);
    site.key = site.name;
    section.text("key", site.key, Need::kOptional, kNameRule, name_rule);
    section.texts("domain", 0, 16, "a list of failure domains, widest first", name_rule,
                  [&](const toml::node& node, const std::string& text) {
                      if (std::ranges::find(site.domain, text) != site.domain.end()) {
                          section.wrong_found(node, quoted(text) + " again", "each domain once");
                      }
                      site.domain.push_back(text);
                  });
    (void)section.choice<SiteTier>("tier", site.tier, kTiers);
    Section capacity = section.table("capacity");
    capacity.integer("new_flows", site.capacity.new_flows, 1, 1'000'000'000);
    capacity.real("gbps", site.capacity.gbps, 0.001, 1e6, "a number from 0.001 to 1000000");
    capacity.finish();
    read_activation(section.table("activation"), site);
    std::vector<Origin> bfd;
    (void)section.tables("probe", [&](Section probe) { read_site_probe(std::move(probe), site, bfd); });
    section.finish();
    if (site.name.empty()) places.all_sites_read = false;
    const bool has_key = site.key != site.name;
    places.sites.push_back({section.place_or_header("name"),
                            has_key ? section.place_or_header("key") : section.place_or_header("name"),
                            std::move(bfd)});
    config.sites.push_back(std::move(site));
}

// ---- documents

/// All documents of one load.
class Loader {
  public:
    explicit Loader(std::set<std::string>* keys = nullptr) : keys_(keys) {}

    Mistakes& mistakes() { return mistakes_; }

    void add(const Document& document) {
        const Reading reading{document.name, &mistakes_, keys_};
        if (first_.file.empty()) first_ = {document.name, 1, 1};
        if (document.text.size() > kMaxConfigBytes) {
            mistakes_.add({document.name, 0, 0}, "more text than is read", "at most 16 MiB");
            return fail_parse();
        }
        if (const std::uint32_t line = too_deep_line(document.text); line != 0) {
            mistakes_.add({document.name, line, 1}, "a key of many parts",
                          fmt::format("at most {} parts between dots", kMaxKeyDepth));
            return fail_parse();
        }
        try {
            const toml::table root =
                toml::parse(std::string_view(document.text), std::string_view(document.name));
            read_root(reading, root);
        } catch (const toml::parse_error& error) {
            mistakes_.add(origin_at(reading, error.source().begin), std::string(error.description()),
                          "valid TOML");
            fail_parse();
        }
    }

    Loaded finish() && {
        if (parsed_all_) report_left_out();
        if (parsed_all_) validate(config_, places_, mistakes_);
        if (!mistakes_.empty()) return tl::unexpected(std::move(mistakes_).take());
        return std::move(config_);
    }

  private:
    void fail_parse() { parsed_all_ = false; }

    void read_root(const Reading& reading, const toml::table& root) {
        Section top(reading, "", &root, {reading.file, 1, 1});
        read_singleton(top, "pop", [&](Section& s) { read_pop(s, config_.pop); });
        read_singleton(top, "dataplane", [&](Section& s) { read_dataplane(s, config_.dataplane, places_); });
        read_singleton(top, "control", [&](Section& s) { read_control(s, config_.control); });
        read_singleton(top, "failover", [&](Section& s) { read_failover(s, config_.failover); });
        if (!top.tables("site", [&](Section s) { read_site(std::move(s), config_, places_); })) {
            places_.all_sites_read = false;
        }
        if (!top.tables("pool", [&](Section s) { read_pool(std::move(s), config_, places_); })) {
            places_.all_pools_read = false;
        }
        top.finish();
    }

    template <class F>
    void read_singleton(Section& top, const std::string& key, F read) {
        const toml::node* node = top.ask(key);
        if (node == nullptr) return;
        const auto [seen, is_new] = seen_.emplace(key, top.place(*node));
        if (!is_new) {
            top.wrong_found(*node, fmt::format("[{}] again", key),
                            fmt::format("it once (the other is at {})", seen->second.to_string()));
            return;
        }
        if (!node->is_table()) return top.wrong(*node, key, fmt::format("a table: [{}]", key));
        Section section(top.reading(), key, node->as_table(), top.place(*node));
        read(section);
    }

    /// Whole sections that no file has: their required keys are missing at the first file's start.
    void report_left_out() {
        const Reading reading{first_.file, &mistakes_, keys_};
        const auto absent = [&](const char* key) { return Section(reading, key, nullptr, first_); };
        const auto left_out = [&](const char* key) { return keys_ != nullptr || !seen_.contains(key); };
        if (left_out("pop")) read_absent(absent("pop"), [&](Section& s) { read_pop(s, config_.pop); });
        if (left_out("dataplane")) {
            read_absent(absent("dataplane"),
                        [&](Section& s) { read_dataplane(s, config_.dataplane, places_); });
        }
        if (keys_ == nullptr) return;
        read_absent(absent("control"), [&](Section& s) { read_control(s, config_.control); });
        read_absent(absent("failover"), [&](Section& s) { read_failover(s, config_.failover); });
    }
    template <class F>
    static void read_absent(Section section, F read) {
        read(section);
    }

    std::set<std::string>* keys_;
    Mistakes mistakes_;
    Config config_;
    Places places_;
    std::map<std::string, Origin> seen_;
    Origin first_;
    bool parsed_all_ = true;
};

}  // namespace

Loaded load(const std::string& path) {
    Loader loader;
    const std::vector<Document> documents = read_documents(path, loader.mistakes());
    // A file that can't be read would make every reference into it a mistake too.
    if (!loader.mistakes().empty()) return tl::unexpected(std::move(loader.mistakes()).take());
    for (const Document& document : documents) loader.add(document);
    return std::move(loader).finish();
}

Loaded load_text(std::string_view text, std::string_view name) {
    Loader loader;
    loader.add({std::string(name), std::string(text)});
    return std::move(loader).finish();
}

std::vector<std::string> known_keys() {
    std::set<std::string> keys;
    Loader loader(&keys);
    loader.add({"", ""});
    const Loaded ignored = std::move(loader).finish();
    std::erase_if(keys, [](const std::string& key) { return key.starts_with('.'); });
    return {keys.begin(), keys.end()};
}

}  // namespace detour::config
