// Small configurations for the control tests, built in code.
#pragma once

#include <string>
#include <vector>

#include "config/model.h"

namespace detour::test {

inline api::IpAddress ip(const std::string& text) {
    return api::IpAddress::parse(text).value();
}
inline api::Vip vip(const std::string& text) {
    return api::Vip::parse(text).value();
}

/// 10.SITE.POOL.(11 + n), with the upper bits of `pool` spilling into the last byte's neighbours.
inline api::IpAddress backend_address(unsigned site, unsigned pool, unsigned n) {
    return api::IpAddress::v4({10, static_cast<std::uint8_t>(site * 16 + pool / 256),
                               static_cast<std::uint8_t>(pool % 256), static_cast<std::uint8_t>(11 + n)});
}

inline api::Vip pool_vip(unsigned pool) {
    return {api::IpAddress::v4(
                {203, 0, static_cast<std::uint8_t>(pool / 256), static_cast<std::uint8_t>(pool % 256)}),
            api::Port{443}, api::Protocol::kTcp};
}

struct Shape {
    std::vector<std::string> sites = {"pangyo", "anyang", "chuncheon"};
    unsigned pools = 1;
    unsigned backends = 2;  ///< of each pool in each site
};

/// Probes every 200 ms with 200 ms timeout, 50 ms when in a hurry, fall 2, rise 2; ramps of 10 s.
inline config::Config sample_config(const Shape& shape = {}) {
    config::Config result;
    result.pop.name = "icn1";
    result.pop.fleet_seed = "a seed for tests, 0123456789";
    result.dataplane.ports = {"eth1"};
    result.dataplane.source_v4 = ip("192.0.2.1");
    result.failover.ramp = config::milliseconds{10'000};
    for (const std::string& name : shape.sites) {
        config::Site site;
        site.name = site.key = name;
        site.domain = {"kr", name == "chuncheon" ? "gangwon" : "gyeonggi", name};
        result.sites.push_back(site);
    }
    for (unsigned p = 0; p < shape.pools; ++p) {
        config::Pool pool;
        pool.name = "pool" + std::to_string(p);
        pool.vips = {pool_vip(p)};
        pool.health.port = api::Port{8080};
        pool.health.interval = config::milliseconds{200};
        pool.health.timeout = config::milliseconds{200};
        pool.health.fast_interval = config::milliseconds{50};
        pool.health.fall = 2;
        pool.health.rise = 2;
        for (unsigned s = 0; s < shape.sites.size(); ++s) {
            for (unsigned n = 0; n < shape.backends; ++n) {
                pool.backends.push_back({shape.sites[s], backend_address(s, p, n), 100, {}});
            }
        }
        result.pools.push_back(pool);
    }
    return result;
}

/// The pool's data has one writer; its `ready` probe asks for /primary.
inline void write_once(config::Pool& pool) {
    pool.data = config::Data::kSingleWriter;
    pool.ready = pool.health;
    pool.ready.type = config::ProbeType::kHttp;
    pool.ready.path = "/primary";
    pool.ready.status = {200};
}

/// As sample_config(), and the first pool's data has one writer.
inline config::Config writer_config(const Shape& shape = {}) {
    config::Config config = sample_config(shape);
    write_once(config.pools[0]);
    return config;
}

}  // namespace detour::test
