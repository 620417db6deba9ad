#include "config/load_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "config/rules.h"
#include "config/words.h"
#include "dataplane/api/limits.h"

namespace detour::config {
namespace {

using api::Encap;
using api::HashKey;
using api::Stranded;

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

void read_server_ids(Section& section, Backend& backend) {
    section.texts("server_id", 0, api::kQuicConfigurations, kServerIdRule, server_id_rule,
                  [&](const toml::node& node, const std::string& text) {
                      const api::QuicServerId id = *api::QuicServerId::parse(text);
                      const auto same = [&](const api::QuicServerId& other) {
                          return other.rotation() == id.rotation();
                      };
                      if (std::ranges::any_of(backend.server_ids, same))
                          return section.wrong_found(node, quoted(text),
                                                     "at most one id for each configuration");
                      backend.server_ids.push_back(id);
                  });
}

void read_backend(Section section, Pool& pool, PoolPlaces& pool_places, Places& places) {
    Backend backend;
    backend.origin = section.header();
    std::string address;
    section.text("site", backend.site, Need::kRequired, kNameRule, name_rule);
    section.text("address", address, Need::kRequired, kAddressRule, address_rule);
    section.integer("weight", backend.weight, 0, api::kMaxWeight);
    read_server_ids(section, backend);
    section.finish();
    if (address.empty() || backend.site.empty()) {
        places.all_backends_read = false;
        return;
    }
    backend.address = *api::IpAddress::parse(address);
    const bool ids_wrong = backend.server_ids.size() < section.items("server_id") ||
                           (backend.server_ids.empty() && section.has("server_id"));
    pool_places.backends.push_back({section.place_or_header("site"), section.place_or_header("address"),
                                    section.place_or_header("server_id"), ids_wrong});
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

}  // namespace

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
    (void)section.choice<api::Refusal>("on_empty", pool.on_empty, kRefusals);
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
    pool_places.hash = section.place_or_header("hash");
    pool_places.stranded = section.place_or_header("stranded");
    pool_places.min_sites = section.place_or_header("min_sites");
    config.pools.push_back(std::move(pool));
    places.pools.push_back(std::move(pool_places));
}

}  // namespace detour::config
