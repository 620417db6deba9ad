#include "config/server_ids.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

namespace detour::config {
namespace {

/// The first id of a configuration, which gives the length.
struct First {
    std::size_t size = 0;
    Origin where;
};

std::string also(const char* expected, const Origin& other) {
    return fmt::format("{} (the other is at {})", expected, other.to_string());
}

void check_ids(const Pool& pool, const PoolPlaces& places, Mistakes& mistakes) {
    std::map<api::QuicServerId, Origin> seen;
    std::array<std::optional<First>, api::kQuicConfigurations> lengths;
    for (std::size_t b = 0; b < pool.backends.size(); ++b) {
        const Origin& where = places.backends[b].server_ids;
        for (const api::QuicServerId& id : pool.backends[b].server_ids) {
            const std::string found = fmt::format("server_id \"{}\"", id.to_string());
            const auto [other, is_new] = seen.emplace(id, where);
            if (!is_new)
                mistakes.add(where, found + " again", also("an id used once in a pool", other->second));
            auto& first = lengths.at(id.rotation());
            if (!first) first = First{id.size(), where};
            if (first->size == id.size()) continue;
            mistakes.add(where, fmt::format("{} of {} bytes", found, id.size()),
                         fmt::format("{} bytes, as the other ids of configuration {} (the first is at {})",
                                     first->size, unsigned{id.rotation()}, first->where.to_string()));
        }
    }
}

}  // namespace

void check_server_ids(const Pool& pool, const PoolPlaces& places, Mistakes& mistakes) {
    const bool by_cid = pool.hash == api::HashKey::kQuicCid;
    const auto is_udp = [](const api::Vip& vip) { return vip.protocol == api::Protocol::kUdp; };
    if (by_cid && !pool.vips.empty() && std::ranges::none_of(pool.vips, is_udp))
        return mistakes.add(places.hash, "hash = \"quic-cid\" without a udp vip",
                            "a udp vip: QUIC runs over UDP");
    for (std::size_t b = 0; b < pool.backends.size(); ++b) {
        const bool has = !pool.backends[b].server_ids.empty();
        if (has == by_cid || places.backends[b].server_ids_wrong) continue;
        mistakes.add(places.backends[b].server_ids, has ? "server_id" : "[[pool.backend]] without server_id",
                     has ? "hash = \"quic-cid\" in its pool" : "server_id: its pool has hash = \"quic-cid\"");
    }
    check_ids(pool, places, mistakes);
}

}  // namespace detour::config
