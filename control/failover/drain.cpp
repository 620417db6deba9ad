#include "control/failover/drain.h"

#include <algorithm>

namespace detour::failover {

namespace {

using api::ErrorCode;

std::string site_name(const config::Config& config, const std::string& key) {
    for (const config::Site& site : config.sites) {
        if (site.key == key) return site.name;
    }
    return key;
}

std::string all_names(const config::Config& config) {
    std::string text;
    for (const config::Site& site : config.sites) text += (text.empty() ? "" : ", ") + site.name;
    return text;
}

api::Result<Target> parse_pool_site(std::string_view text, std::size_t at, const config::Config& config) {
    const std::string_view pool_name = text.substr(0, at);
    const std::string_view name = text.substr(at + 1);
    const config::Pool* pool = config.find_pool(pool_name);
    if (pool == nullptr) {
        return api::fail(ErrorCode::kNotFound, "finding " + std::string(text),
                         "there is no pool named " + std::string(pool_name));
    }
    const config::Site* site = config.find_site(name);
    if (site == nullptr) {
        return api::fail(ErrorCode::kNotFound, "finding " + std::string(text),
                         "there is no site named " + std::string(name) + "; sites: " + all_names(config));
    }
    const bool has = std::any_of(pool->backends.begin(), pool->backends.end(),
                                 [&](const config::Backend& backend) { return backend.site == site->name; });
    if (!has) {
        return api::fail(ErrorCode::kNotFound, "finding " + std::string(text),
                         "pool " + pool->name + " has no backend in site " + site->name);
    }
    Target target;
    target.kind = TargetKind::kPoolSite;
    target.site = site->key;
    target.pool = pool->name;
    return target;
}

bool has_backend(const config::Config& config, const api::IpAddress& address) {
    for (const config::Pool& pool : config.pools) {
        for (const config::Backend& backend : pool.backends) {
            if (backend.address == address) return true;
        }
    }
    return false;
}

}  // namespace

std::string Target::to_string(const config::Config& config) const {
    switch (kind) {
        case TargetKind::kSite:
            return site_name(config, site);
        case TargetKind::kPoolSite:
            return pool + "@" + site_name(config, site);
        case TargetKind::kBackend:
            return address.to_string();
        case TargetKind::kDomain:
            return domain;
    }
    return {};
}

bool in_domain(const config::Site& site, std::string_view domain) {
    std::size_t depth = 0;
    while (!domain.empty()) {
        const std::size_t slash = domain.find('/');
        const std::string_view part = domain.substr(0, slash);
        if (depth >= site.domain.size() || site.domain[depth] != part) return false;
        ++depth;
        domain = slash == std::string_view::npos ? std::string_view{} : domain.substr(slash + 1);
    }
    return depth > 0;
}

api::Result<Target> parse_target(std::string_view text, const config::Config& config) {
    if (text.empty()) {
        return api::fail(ErrorCode::kInvalidArgument, "reading the target",
                         "it is empty; expected a site, pool@site, a backend's address or a domain");
    }
    Target target;
    if (const config::Site* site = config.find_site(text); site != nullptr) {
        target.site = site->key;
        return target;
    }
    if (const std::size_t at = text.rfind('@'); at != std::string_view::npos) {
        return parse_pool_site(text, at, config);
    }
    if (const auto address = api::IpAddress::parse(text); address) {
        if (!has_backend(config, *address)) {
            return api::fail(ErrorCode::kNotFound, "finding " + std::string(text),
                             "no pool has a backend with that address");
        }
        target.kind = TargetKind::kBackend;
        target.address = *address;
        return target;
    }
    while (text.size() > 1 && text.back() == '/') text.remove_suffix(1);
    const bool known = std::any_of(config.sites.begin(), config.sites.end(),
                                   [&](const config::Site& site) { return in_domain(site, text); });
    if (!known) {
        return api::fail(ErrorCode::kNotFound, "finding " + std::string(text),
                         "there is no site or domain of that name; sites: " + all_names(config));
    }
    target.kind = TargetKind::kDomain;
    target.domain = std::string(text);
    return target;
}

}  // namespace detour::failover
