#include "control/failover/intents.h"

#include <algorithm>
#include <map>

namespace detour::failover {

namespace {

/// As operators write it, but by the site's key, which outlives a new name.
std::string plain(const Target& target) {
    switch (target.kind) {
        case TargetKind::kSite:
            return target.site;
        case TargetKind::kPoolSite:
            return target.pool + "@" + target.site;
        case TargetKind::kBackend:
            return target.address.to_string();
        case TargetKind::kDomain:
            return "domain " + target.domain;
    }
    return {};
}

/// Calls `visit` with each intent in force, whatever its kind.
template <class Intents, class Visit>
void for_each(Intents& intents, Visit visit) {
    for (auto& drain : intents.drains) visit(drain);
    for (auto& weight : intents.weights) visit(weight);
    if (intents.hold) visit(*intents.hold);
}

template <class T>
void put_in(std::vector<T>& values, T value) {
    const std::string key = key_of(value);
    const auto found =
        std::find_if(values.begin(), values.end(), [&](const T& other) { return key_of(other) == key; });
    if (found == values.end())
        values.push_back(std::move(value));
    else
        *found = std::move(value);
}

bool erase_key(Intents& intents, const std::string& key) {
    const auto same = [&](const auto& value) { return key_of(value) == key; };
    std::size_t erased = std::erase_if(intents.drains, same) + std::erase_if(intents.weights, same);
    if (intents.hold && key_of(*intents.hold) == key) {
        intents.hold.reset();
        ++erased;
    }
    return erased > 0;
}

std::map<std::string, Stamp> stamps_of(const Intents& intents) {
    std::map<std::string, Stamp> result;
    for_each(intents, [&](const auto& value) { result[key_of(value)] = value.stamp; });
    for (const Removed& removed : intents.removed) {
        Stamp& known = result[removed.key];
        known = std::max(known, removed.stamp);
    }
    return result;
}

void remember(Intents& intents, Removed value) {
    std::erase_if(intents.removed, [&](const Removed& other) { return other.key == value.key; });
    // What would have expired first is the least likely to come back.
    if (intents.removed.size() >= kMaxRemoved) {
        intents.removed.erase(
            std::min_element(intents.removed.begin(), intents.removed.end(),
                             [](const Removed& a, const Removed& b) { return a.until < b.until; }));
    }
    intents.removed.push_back(std::move(value));
}

std::uint64_t mixed(std::uint64_t hash, std::string_view text, std::uint32_t weight) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    for (unsigned shift = 0; shift < 32; shift += 8) {
        hash = (hash ^ (weight >> shift & 0xffU)) * 0x100000001b3ULL;
    }
    return hash;
}

bool in_site(const config::Config& config, const Target& target, const std::string& site) {
    const config::Site* known = config.find_site(site);
    if (known == nullptr) return false;
    if (target.kind == TargetKind::kDomain) return in_domain(*known, target.domain);
    return known->key == target.site;
}

bool covers_pool(const Target& target, const config::Pool& pool) {
    return target.kind != TargetKind::kBackend &&
           (target.kind != TargetKind::kPoolSite || target.pool == pool.name);
}

std::uint32_t site_weight(const config::Pool& pool, const std::string& site) {
    for (const config::PoolSite& value : pool.site_weights) {
        if (value.site == site) return value.weight;
    }
    return config::PoolSite{}.weight;
}

void set_site_weight(config::Pool& pool, const std::string& site, std::uint32_t weight) {
    for (config::PoolSite& value : pool.site_weights) {
        if (value.site != site) continue;
        value.weight = weight;
        return;
    }
    pool.site_weights.push_back({site, weight});
}

/// Widest first, so that the narrower of two overrides counts.
int narrowness(const WeightOverride& value) {
    switch (value.target.kind) {
        case TargetKind::kDomain:
            return 0;
        case TargetKind::kSite:
            return 1;
        case TargetKind::kPoolSite:
            return 2;
        case TargetKind::kBackend:
            return 3;
    }
    return 0;
}

}  // namespace

std::string key_of(const Drain& drain) {
    return "drain " + plain(drain.target);
}
std::string key_of(const WeightOverride& weight) {
    return "weight " + plain(weight.target);
}
std::string key_of(const Hold& /*hold*/) {
    return "hold";
}

Stamp next_stamp(const Intents& intents, const std::string& pop, health::WallTime now) {
    for (const auto& [key, stamp] : stamps_of(intents)) {
        if (stamp.at >= now) now = stamp.at + health::nanoseconds{1};
    }
    return {now, pop};
}

void put(Intents& intents, Drain value) {
    put_in(intents.drains, std::move(value));
}
void put(Intents& intents, WeightOverride value) {
    put_in(intents.weights, std::move(value));
}
void put(Intents& intents, Hold value) {
    intents.hold = std::move(value);
}

bool take_back(Intents& intents, const std::string& key, const Stamp& stamp) {
    Removed memory{key, {}, stamp};
    bool here = false;
    for_each(intents, [&](const auto& value) {
        if (key_of(value) != key) return;
        memory.until = value.until;
        here = value.here;
    });
    if (!erase_key(intents, key)) return false;
    if (!here) remember(intents, std::move(memory));
    return true;
}

Intents shared(const Intents& intents) {
    Intents result = intents;
    const auto here = [](const auto& value) { return value.here; };
    std::erase_if(result.drains, here);
    std::erase_if(result.weights, here);
    if (result.hold && result.hold->here) result.hold.reset();
    return result;
}

Intents merge(Intents mine, const Intents& theirs, health::WallTime now) {
    const auto known = stamps_of(mine);
    const auto news = [&](const std::string& key, const Stamp& stamp) {
        const auto found = known.find(key);
        return found == known.end() || found->second < stamp;
    };
    for_each(theirs, [&](const auto& value) {
        const std::string key = key_of(value);
        if (value.here || value.until <= now || !news(key, value.stamp)) return;
        std::erase_if(mine.removed, [&](const Removed& other) { return other.key == key; });
        put(mine, value);
    });
    for (const Removed& removed : theirs.removed) {
        if (!news(removed.key, removed.stamp)) continue;
        erase_key(mine, removed.key);
        remember(mine, removed);
    }
    std::erase_if(mine.removed, [&](const Removed& removed) { return removed.until <= now; });
    return mine;
}

config::Config with_weights(config::Config config, std::span<const WeightOverride> weights) {
    std::vector<WeightOverride> ordered(weights.begin(), weights.end());
    std::stable_sort(ordered.begin(), ordered.end(), [](const WeightOverride& a, const WeightOverride& b) {
        return narrowness(a) < narrowness(b);
    });
    for (const WeightOverride& value : ordered) {
        for (config::Pool& pool : config.pools) {
            for (config::Backend& backend : pool.backends) {
                const bool named =
                    value.target.kind == TargetKind::kBackend && backend.address == value.target.address;
                if (named) backend.weight = value.weight;
                if (covers_pool(value.target, pool) && in_site(config, value.target, backend.site)) {
                    set_site_weight(pool, backend.site, value.weight);
                }
            }
        }
    }
    return config;
}

std::uint64_t weights_mark(const config::Config& config, const Target& target) {
    // A sum of hashes: the order of pools and backends in the files means nothing.
    std::uint64_t mark = 0;
    for (const config::Pool& pool : config.pools) {
        for (const config::Backend& backend : pool.backends) {
            if (target.kind == TargetKind::kBackend && backend.address == target.address) {
                mark += mixed(0xcbf29ce484222325ULL, pool.name, backend.weight);
            }
            if (covers_pool(target, pool) && in_site(config, target, backend.site)) {
                mark += mixed(0xcbf29ce484222325ULL, pool.name + "@" + backend.site,
                              site_weight(pool, backend.site));
            }
        }
    }
    return mark;
}

}  // namespace detour::failover
