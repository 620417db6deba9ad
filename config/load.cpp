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
#include "config/mistakes.h"
#include "config/places.h"
#include "config/rules.h"
#include "config/suggest.h"
#include "config/validate.h"
#include "config/words.h"
#include "dataplane/api/limits.h"

namespace detour::config {
namespace {

/// What every part of one document's reading needs.
struct Reading {
    std::string file;
    Mistakes* mistakes;
    std::set<std::string>* keys;  ///< when not null: collects "section.key" of every key that is asked for
};

Origin origin_at(const Reading& reading, const toml::source_position& position) {
    return {reading.file, position.line, position.column};
}

std::string render(const toml::node& node) {
    if (const auto* text = node.as_string()) return quoted(text->get());
    if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
    if (const auto* real = node.as_floating_point()) return fmt::format("{}", real->get());
    if (const auto* boolean = node.as_boolean()) return boolean->get() ? "true" : "false";
    if (node.is_array()) return "[…]";
    if (node.is_table()) return "{…}";
    return "a date or time";
}

enum class Need : std::uint8_t { kRequired, kOptional };

/// One table being read. Each accessor asks for one key, checks it, writes the result if it is right and
/// reports it if it is not; finish() reports the keys that nobody asked for. An absent optional key leaves
/// the default.
class Section {
  public:
    /// `table` may be null: a section that is left out.
    Section(const Reading& reading, std::string path, const toml::table* table, Origin header)
        : reading_(&reading), path_(std::move(path)), table_(table), header_(std::move(header)) {}

    [[nodiscard]] const Origin& header() const { return header_; }
    [[nodiscard]] const Reading& reading() const { return *reading_; }

    const toml::node* ask(std::string_view key) {
        asked_.emplace_back(key);
        if (reading_->keys != nullptr) reading_->keys->insert(path_ + "." + std::string(key));
        return table_ == nullptr ? nullptr : table_->get(key);
    }

    void wrong(const toml::node& node, std::string_view key, std::string expected) {
        wrong_found(node, fmt::format("{} = {}", key, render(node)), std::move(expected));
    }
    void wrong_found(const toml::node& node, std::string found, std::string expected) {
        reading_->mistakes->add(place(node), std::move(found), std::move(expected));
    }
    void missing(std::string_view key, std::string_view expected) {
        reading_->mistakes->add(header_, fmt::format("{} without {}", shown_header(), key),
                                std::string(expected));
    }
    [[nodiscard]] Origin place(const toml::node& node) const {
        return origin_at(*reading_, node.source().begin);
    }
    [[nodiscard]] bool has(std::string_view key) const { return table_ != nullptr && table_->contains(key); }
    [[nodiscard]] Origin place_or_header(std::string_view key) const {
        const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
        return node == nullptr ? header_ : place(*node);
    }

    /// Of the array under `key`; 0 when there is none.
    [[nodiscard]] std::size_t items(std::string_view key) const {
        const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
        return node == nullptr || !node->is_array() ? 0 : node->as_array()->size();
    }

    void text(std::string_view key, std::string& out, Need need, std::string_view expected,
              const TextRule& rule) {
        const toml::node* node = ask(key);
        if (node == nullptr) {
            if (need == Need::kRequired) missing(key, expected);
            return;
        }
        if (const auto value = text_of(*node, key, expected, rule)) out = *value;
    }

    template <class T>
    void integer(std::string_view key, T& out, std::int64_t least, std::int64_t most) {
        const toml::node* node = ask(key);
        if (node == nullptr) return;
        if (const auto value = integer_of(*node, key, least, most)) out = static_cast<T>(*value);
    }

    void boolean(std::string_view key, bool& out) {
        const toml::node* node = ask(key);
        if (node == nullptr) return;
        const auto* value = node->as_boolean();
        if (value == nullptr) return wrong(*node, key, "true or false");
        out = value->get();
    }

    void real(std::string_view key, double& out, double least, double most, std::string_view expected) {
        const toml::node* node = ask(key);
        if (node == nullptr) return;
        const auto value = node->is_number() ? node->value<double>() : std::nullopt;
        // Written so that a NaN is refused too.
        if (value && *value >= least && *value <= most) {
            out = *value;
        } else {
            wrong(*node, key, std::string(expected));
        }
    }

    void duration(std::string_view key, milliseconds& out, milliseconds least, milliseconds most) {
        const toml::node* node = ask(key);
        if (node == nullptr) return;
        const auto* text = node->as_string();
        const auto value = text == nullptr ? std::nullopt : parse_duration(text->get());
        if (value && *value >= least && *value <= most) {
            out = *value;
        } else {
            wrong(*node, key,
                  fmt::format("a duration from \"{}\" to \"{}\" (units ms, s, m, h)", duration_text(least),
                              duration_text(most)));
        }
    }

    /// False when the key is there and wrong.
    template <class E>
    bool choice(std::string_view key, E& out, std::span<const Word<E>> words) {
        const toml::node* node = ask(key);
        if (node == nullptr) return true;
        const auto* text = node->as_string();
        std::string expected;
        std::string later;
        for (const Word<E>& word : words) {
            const bool said = text != nullptr && text->get() == word.text;
            if (said && word.value) {
                out = *word.value;
                return true;
            }
            if (said) later = fmt::format(" (\"{}\" is not supported by this version)", word.text);
            if (word.value) expected += fmt::format("{}\"{}\"", expected.empty() ? "" : " or ", word.text);
        }
        wrong(*node, key, expected + later);
        return false;
    }

    /// Calls `each(node, text)` for every string of an array that passes `rule`.
    void texts(std::string_view key, std::size_t least, std::size_t most, std::string_view expected,
               const TextRule& rule, const std::function<void(const toml::node&, const std::string&)>& each) {
        const toml::node* node = ask(key);
        if (node == nullptr) {
            if (least > 0) missing(key, expected);
            return;
        }
        const toml::array* array = list_of(*node, key, least, most, expected);
        if (array == nullptr) return;
        for (const toml::node& item : *array) {
            if (const auto value = text_of(item, key, expected, rule)) each(item, *value);
        }
    }

    void integers(std::string_view key, std::size_t most, std::int64_t low, std::int64_t high,
                  const std::function<void(const toml::node&, std::int64_t)>& each) {
        const toml::node* node = ask(key);
        if (node == nullptr) return;
        const toml::array* array =
            list_of(*node, key, 1, most, fmt::format("a list of whole numbers from {} to {}", low, high));
        if (array == nullptr) return;
        for (const toml::node& item : *array) {
            if (const auto value = integer_of(item, key, low, high)) each(item, *value);
        }
    }

    /// A sub-table, absent or not.
    Section table(std::string_view key) {
        const toml::node* node = ask(key);
        const toml::table* inner = node == nullptr ? nullptr : node->as_table();
        if (node != nullptr && inner == nullptr) wrong(*node, key, fmt::format("a table: {} = {{ … }}", key));
        return {*reading_, path_ + "." + std::string(key), inner, node == nullptr ? header_ : place(*node)};
    }

    /// Calls `each` for every table of an array of tables. False when the list itself was no such thing.
    bool tables(std::string_view key, const std::function<void(Section)>& each) {
        const toml::node* node = ask(key);
        const std::string path = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
        if (node == nullptr) {
            // Still asks for the keys inside when they are being collected.
            if (reading_->keys != nullptr) each({*reading_, path, nullptr, header_});
            return true;
        }
        const toml::array* array = node->as_array();
        if (array == nullptr) {
            wrong(*node, key, fmt::format("a list of tables, each under [[{}]]", path));
            return false;
        }
        bool complete = true;
        for (const toml::node& item : *array) {
            const toml::table* inner = item.as_table();
            if (inner != nullptr) {
                each({*reading_, path, inner, place(item)});
            } else {
                wrong(item, key, fmt::format("a table, under [[{}]]", path));
                complete = false;
            }
        }
        return complete;
    }

    /// A key of a later version: known, and refused.
    void later(std::string_view key, const std::function<void(const toml::node&)>& more = {}) {
        asked_.emplace_back(key);
        if (table_ == nullptr) return;
        for (const auto& [name, node] : *table_) {
            if (name.str() != key) continue;
            const std::size_t before = reported_;
            if (more) more(node);
            if (reported_ != before) return;
            reading_->mistakes->add(origin_at(*reading_, name.source().begin), std::string(key),
                                    fmt::format("no such key: {} is not supported by this version", key));
        }
    }
    void refuse_later(const toml::node& node, std::string_view key, std::string_view word) {
        ++reported_;
        wrong(node, key, fmt::format("no such value: {} is not supported by this version", word));
    }

    /// The table's pairs, for a table whose keys are names.
    template <class F>
    void each_pair(F each) const {
        if (table_ == nullptr) return;
        for (const auto& [key, node] : *table_) {
            each(std::string(key.str()), origin_at(*reading_, key.source().begin), node);
        }
    }

    void finish() const {
        if (table_ == nullptr) return;
        for (const auto& [key, node] : *table_) {
            const std::string word(key.str());
            if (std::ranges::find(asked_, word) != asked_.end()) continue;
            const std::string near = nearest(word, asked_);
            const std::string hint =
                near.empty() ? list_of_keys() : fmt::format("did you mean \"{}\"?", near);
            reading_->mistakes->add(origin_at(*reading_, key.source().begin), "unknown key " + quoted(word),
                                    fmt::format("a key of {} ({})", shown_header(), hint));
        }
    }

    std::optional<std::int64_t> integer_of(const toml::node& node, std::string_view key, std::int64_t least,
                                           std::int64_t most) {
        const auto* value = node.as_integer();
        if (value != nullptr && value->get() >= least && value->get() <= most) return value->get();
        wrong(node, key, fmt::format("a whole number from {} to {}", least, most));
        return std::nullopt;
    }

  private:
    std::optional<std::string> text_of(const toml::node& node, std::string_view key,
                                       std::string_view expected, const TextRule& rule) {
        const auto* text = node.as_string();
        if (text == nullptr) {
            wrong(node, key, std::string(expected));
            return std::nullopt;
        }
        if (auto why = rule(text->get())) {
            wrong(node, key, std::move(*why));
            return std::nullopt;
        }
        return text->get();
    }

    const toml::array* list_of(const toml::node& node, std::string_view key, std::size_t least,
                               std::size_t most, std::string_view expected) {
        const toml::array* array = node.as_array();
        if (array == nullptr) {
            wrong(node, key, std::string(expected));
        } else if (array->size() < least || array->size() > most) {
            wrong_found(node, fmt::format("{} of {} items", key, array->size()),
                        fmt::format("{} to {} items", least, most));
            return nullptr;
        }
        return array;
    }

    [[nodiscard]] std::string shown_header() const {
        if (path_.empty()) return "the file";
        const bool repeated = path_ == "site" || path_ == "pool" || path_ == "pool.backend";
        return repeated ? "[[" + path_ + "]]" : "[" + path_ + "]";
    }
    [[nodiscard]] std::string list_of_keys() const {
        return fmt::format("known: {}", fmt::join(asked_, ", "));
    }

    const Reading* reading_;
    std::string path_;
    const toml::table* table_;
    Origin header_;
    std::vector<std::string> asked_;
    std::size_t reported_ = 0;
};

// ---- sections, one function each

using api::Encap;
using api::HashKey;
using api::Stranded;

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
    section.real("overprovisioning", failover.overprovisioning, 1, 10, "a number from 1 to 10");
    section.integer("max_dark_sites", failover.max_dark_sites, 0, api::kMaxSites);
    (void)section.choice<Shed>("shed", failover.shed, kSheds);
    section.duration("ramp", failover.ramp, 0ms, 24h);
    section.duration("strand_after", failover.strand_after, 0ms, 10min);
    section.duration("auto_return_within", failover.auto_return_within, 0ms, 24h);
    section.duration("flap_hold", failover.flap_hold, 0ms, 1h);
    failover.flap_hold_most = std::max(failover.flap_hold_most, failover.flap_hold);
    section.duration("flap_hold_most", failover.flap_hold_most, failover.flap_hold, 24h);
    section.duration("flap_forget", failover.flap_forget, 1s, 24h);
    section.finish();
}

/// Site probes come with a later version. Names the first probe's type, so that "bfd" is answered with "bfd".
void refuse_site_probes(Section& section) {
    section.later("probe", [&](const toml::node& node) {
        const toml::array* array = node.as_array();
        const toml::table* first = array == nullptr || array->empty() ? nullptr : array->get(0)->as_table();
        const toml::node* type = first == nullptr ? nullptr : first->get("type");
        if (type == nullptr || !type->is_string()) return;
        const std::string word = quoted(type->as_string()->get());
        section.refuse_later(*type, "type", word.substr(1, word.size() - 2) + " to a site");
    });
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
    refuse_site_probes(section);
    section.finish();
    if (site.name.empty()) places.all_sites_read = false;
    const bool has_key = site.key != site.name;
    places.sites.push_back({section.place_or_header("name"),
                            has_key ? section.place_or_header("key") : section.place_or_header("name")});
    config.sites.push_back(std::move(site));
}

void refuse_keys_of_others(const Section& section, ProbeType type) {
    section.each_pair([&](const std::string& key, const Origin& where, const toml::node&) {
        const auto* own = std::ranges::find(kOwnKeys, std::string_view(key), &OwnKey::key);
        if (own == kOwnKeys.end() || (own->types & bit(type)) != 0) return;
        std::string expected;
        for (const Word<ProbeType>& word : kProbes) {
            if (!word.value || (own->types & bit(*word.value)) == 0) continue;
            expected += fmt::format("{}\"{}\"", expected.empty() ? "" : " or ", word.text);
        }
        section.reading().mistakes->add(where, fmt::format("{} with type = \"{}\"", key, to_string(type)),
                                        fmt::format("type = {} beside it", expected));
    });
}

void read_body(Section& section, Health& health) {
    constexpr std::string_view kBody = "a text of 1 to 256 bytes that the answer's body must hold";
    section.text("body", health.body, Need::kOptional, kBody, size_rule(256, std::string(kBody)));
    if (health.body.empty() || health.method != HttpMethod::kHead) return;
    section.reading().mistakes->add(section.place_or_header("body"), "body with method = \"HEAD\"",
                                    "a method whose answer has a body");
}

void read_http(Section& section, Health& health) {
    constexpr std::string_view kPath = "a path of at most 1024 bytes that starts with /, without blanks";
    constexpr std::string_view kHost = "a host name of at most 255 bytes, without blanks";
    (void)section.choice<HttpMethod>("method", health.method, kMethods);
    section.text("path", health.path, Need::kOptional, kPath, plain_rule(1024, '/', std::string(kPath)));
    section.text("host", health.host, Need::kOptional, kHost, plain_rule(255, 0, std::string(kHost)));
    section.integers("status", 64, 100, 599, [&](const toml::node& node, std::int64_t value) {
        const auto status = static_cast<std::uint16_t>(value);
        if (std::ranges::find(health.status, status) != health.status.end()) {
            section.wrong_found(node, fmt::format("status {} again", value), "each status once");
        }
        health.status.push_back(status);
    });
    read_body(section, health);
    if ((kHttpTypes & bit(health.type)) != 0 && health.status.empty()) health.status = {200};
}

void read_tls(Section& section, Health& health) {
    constexpr std::string_view kServer = "a host name of at most 253 bytes, without blanks";
    constexpr std::string_view kFile = "an absolute path of a PEM file, without blanks";
    section.text("server_name", health.server_name, Need::kOptional, kServer,
                 plain_rule(253, 0, std::string(kServer)));
    (void)section.choice<TlsVerify>("verify", health.verify, kVerifies);
    section.text("ca_file", health.ca_file, Need::kOptional, kFile,
                 plain_rule(4000, '/', std::string(kFile)));
    section.integer("warn_days", health.warn_days, 0, 3650);
    const auto wrong = [&](std::string_view key, const char* found, const char* expected) {
        section.reading().mistakes->add(section.place_or_header(key), found, expected);
    };
    if (health.verify == TlsVerify::kName && !section.has("server_name"))
        wrong("verify", "verify = \"name\" without server_name", "server_name beside it");
    if (health.verify == TlsVerify::kNone && section.has("ca_file") && !section.has("verify"))
        wrong("ca_file", "ca_file without verify", "verify = \"chain\" or \"name\" beside it");
}

/// The way to the backend, and what only some ways have.
void read_path(Section& section, Health& health) {
    (void)section.choice<Via>("via", health.via, kVias);
    section.boolean("full_size", health.full_size);
    if (health.full_size && health.via != Via::kTunnel)
        section.reading().mistakes->add(section.place_or_header("full_size"),
                                        "full_size with via = \"direct\"", "via = \"tunnel\" beside it");
    constexpr std::string_view kService = "a service's name of at most 255 bytes, without blanks";
    section.text("service", health.service, Need::kOptional, kService,
                 plain_rule(255, 0, std::string(kService)));
}

void read_udp(Section& section, Health& health) {
    const Need payload = health.type == ProbeType::kUdp ? Need::kRequired : Need::kOptional;
    section.text("payload", health.payload, payload, kPayloadRule, payload_rule);
    section.text("expect", health.expect, Need::kOptional, kPayloadRule, payload_rule);
    health.payload = payload_bytes(health.payload).value_or("");
    health.expect = payload_bytes(health.expect).value_or("");
    const Need query = health.type == ProbeType::kDns ? Need::kRequired : Need::kOptional;
    section.text("query", health.query, query, kDnsNameRule, dns_name_rule);
    (void)section.choice<DnsType>("query_type", health.query_type, kDnsTypes);
    (void)section.choice<DnsRcode>("rcode", health.rcode, kRcodes);
}

/// [pool.health], and [pool.ready], which has the same keys.
void read_health(Section section, const Pool& pool, Health& health) {
    using namespace std::chrono_literals;
    const bool type_known = section.choice<ProbeType>("type", health.type, kProbes);
    std::uint16_t port = pool.vips.empty() ? std::uint16_t{0} : pool.vips.front().port.value();
    section.integer("port", port, 1, 65535);
    health.port = api::Port{port};
    read_http(section, health);
    read_tls(section, health);
    read_udp(section, health);
    if (type_known) refuse_keys_of_others(section, health.type);
    read_path(section, health);
    section.duration("interval", health.interval, 20ms, 1h);
    section.duration("timeout", health.timeout, 10ms, 1min);
    health.fast_interval = std::min(health.fast_interval, health.interval);
    section.duration("fast_interval", health.fast_interval, 10ms, health.interval);
    section.real("jitter", health.jitter, 0, 0.5, "a number from 0 to 0.5");
    section.integer("fall", health.fall, 1, 100);
    section.integer("rise", health.rise, 1, 100);
    section.finish();
}

void read_backend(Section section, Pool& pool, PoolPlaces& pool_places, Places& places) {
    Backend backend;
    backend.origin = section.header();
    std::string address;
    section.text("site", backend.site, Need::kRequired, kNameRule, name_rule);
    section.text("address", address, Need::kRequired, kAddressRule, address_rule);
    section.integer("weight", backend.weight, 0, api::kMaxWeight);
    section.finish();
    if (address.empty() || backend.site.empty()) {
        places.all_backends_read = false;
        return;
    }
    backend.address = *api::IpAddress::parse(address);
    pool_places.backends.push_back({section.place_or_header("site"), section.place_or_header("address")});
    pool.backends.push_back(std::move(backend));
}

void read_site_weights(Section weights, Pool& pool, PoolPlaces& pool_places) {
    weights.each_pair([&](const std::string& site, const Origin& where, const toml::node& node) {
        const auto weight = weights.integer_of(node, site, 0, api::kMaxWeight);
        if (!weight) return;
        pool.site_weights.push_back({site, static_cast<std::uint32_t>(*weight)});
        pool_places.site_weights.push_back(where);
    });
}

void read_pool_lists(Section& section, Pool& pool, PoolPlaces& pool_places) {
    section.texts("vip", 1, api::kMaxVips, "a list of \"ADDRESS:PORT/tcp\" or \"[IPV6]:PORT/udp\"", vip_rule,
                  [&](const toml::node& node, const std::string& text) {
                      pool.vips.push_back(*api::Vip::parse(text));
                      pool_places.vips.push_back(section.place(node));
                  });
    section.texts("depends_on", 0, api::kMaxPools, "a list of pool names", name_rule,
                  [&](const toml::node& node, const std::string& text) {
                      pool.depends_on.push_back(text);
                      pool_places.depends_on.push_back(section.place(node));
                  });
    read_site_weights(section.table("site_weight"), pool, pool_places);
}

void read_data(Section& section, Pool& pool) {
    const auto wrong = [&](std::string_view key, const char* found, const char* expected) {
        section.reading().mistakes->add(section.place_or_header(key), found, expected);
    };
    section.boolean("follow", pool.follow);
    if (pool.follow && pool.depends_on.empty())
        wrong("follow", "follow without depends_on", "the pools to follow, in depends_on beside it");
    const bool known = section.choice<Data>("data", pool.data, kDatas);
    read_health(section.table("ready"), pool, pool.ready);
    if (known && pool.data == Data::kSingleWriter && !section.has("ready"))
        wrong("data", "data = \"single-writer\" without ready",
              "a probe that the primary's site answers, in [pool.ready]");
    if (pool.ready.via == Via::kTunnel) wrong("ready", "ready with via = \"tunnel\"", "via = \"direct\"");
    if (known && pool.data == Data::kAny && section.has("ready"))
        wrong("ready", "ready with data = \"any\"", "data = \"single-writer\" beside it");
}

void read_pool(Section section, Config& config, Places& places) {
    Pool pool;
    PoolPlaces pool_places;
    pool.origin = section.header();
    section.text("name", pool.name, Need::kRequired, kNameRule, name_rule);
    read_pool_lists(section, pool, pool_places);
    (void)section.choice<Encap>("encap", pool.encap, kEncaps);
    (void)section.choice<HashKey>("hash", pool.hash, kHashes);
    const bool all_udp = std::ranges::all_of(
        pool.vips, [](const api::Vip& vip) { return vip.protocol == api::Protocol::kUdp; });
    if (all_udp && !pool.vips.empty()) pool.stranded = Stranded::kRehash;
    (void)section.choice<Stranded>("stranded", pool.stranded, kStrandeds);
    section.integer("priority", pool.priority, 1, 1'000'000);
    section.integer("min_sites", pool.min_sites, 1, api::kMaxSites);
    section.integer("max_backends", pool.max_backends, 1, api::kMaxBackendsPerSite);
    read_health(section.table("health"), pool, pool.health);
    read_data(section, pool);
    const bool complete = section.tables(
        "backend", [&](Section backend) { read_backend(std::move(backend), pool, pool_places, places); });
    section.finish();
    if (!complete) places.all_backends_read = false;
    if (pool.name.empty()) places.all_pools_read = false;
    pool_places.name = section.place_or_header("name");
    pool_places.stranded = section.place_or_header("stranded");
    pool_places.min_sites = section.place_or_header("min_sites");
    config.pools.push_back(std::move(pool));
    places.pools.push_back(std::move(pool_places));
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
