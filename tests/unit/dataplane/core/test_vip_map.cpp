// The VIP map against a std::map, and near misses.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstring>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "dataplane/core/vip_map.h"
#include "tests/support/random_seed.h"

using namespace detour;
using core::VipMap;

namespace {

api::Vip vip(const std::string& text) {
    return api::Vip::parse(text).value();
}

const core::VipEntry* find(const VipMap& map, const api::Vip& wanted) {
    std::array<std::uint64_t, 2> address{};
    std::memcpy(address.data(), wanted.address.bytes().data(), sizeof(address));
    return map.find(address, wanted.address.is_v6() ? 1 : 0, static_cast<std::uint8_t>(wanted.protocol),
                    __builtin_bswap16(wanted.port.value()));
}

}  // namespace

TEST_CASE("an empty map finds nothing") {
    CHECK(find(VipMap{}, vip("203.0.113.10:443/tcp")) == nullptr);
    CHECK(find(VipMap{0}, vip("[::1]:1/udp")) == nullptr);
}

TEST_CASE("address, family, protocol and port must all match") {
    VipMap map(2);
    map.insert(vip("203.0.113.10:443/tcp"), {.pool = 3, .vip = 77});
    map.insert(vip("[cb00:710a::]:443/tcp"),
               {.pool = 4, .vip = 78});  // the same first bytes, the other family
    REQUIRE(find(map, vip("203.0.113.10:443/tcp")) != nullptr);
    CHECK(find(map, vip("203.0.113.10:443/tcp"))->pool == 3);
    CHECK(find(map, vip("203.0.113.10:443/tcp"))->vip == 77);
    REQUIRE(find(map, vip("[cb00:710a::]:443/tcp")) != nullptr);
    CHECK(find(map, vip("[cb00:710a::]:443/tcp"))->vip == 78);
    for (const char* other : {"203.0.113.11:443/tcp", "203.0.113.10:443/udp", "203.0.113.10:444/tcp",
                              "[cb00:710a::1]:443/tcp", "[cb00:710a::]:443/udp"})
        CHECK(find(map, vip(other)) == nullptr);
}

TEST_CASE("a full map of 16,384 VIPs gives what a std::map gives") {
    std::mt19937_64 random(support::random_seed());
    std::map<api::Vip, std::uint16_t> expected;
    while (expected.size() < 16384) {
        const std::uint64_t r = random();
        const char* protocol = (r & 1U) != 0 ? "tcp" : "udp";
        const auto id = static_cast<std::uint16_t>(expected.size());
        const std::string text = (r & 2U) != 0 ? fmt::format("203.0.{}.{}:{}/{}", r >> 8U & 1U,
                                                             r >> 16U & 0xffU, 1 + (r >> 24U) % 99, protocol)
                                               : fmt::format("[2001:db8::{:x}]:{}/{}", r >> 16U & 0xfffU,
                                                             1 + (r >> 32U) % 99, protocol);
        expected.emplace(vip(text), id);
    }
    VipMap map(expected.size());
    for (const auto& [key, id] : expected)
        map.insert(key, {.pool = static_cast<std::uint16_t>(id % 4096), .vip = id});
    bool right = true;
    for (const auto& [key, id] : expected) {
        const core::VipEntry* slot = find(map, key);
        right = right && slot != nullptr && slot->vip == id && slot->pool == id % 4096;
        api::Vip other = key;
        other.port = api::Port{static_cast<std::uint16_t>(other.port.value() + 1000)};
        right = right && find(map, other) == nullptr;
    }
    CHECK(right);
}

TEST_CASE("neighbouring VIPs don't share places: a lookup looks at few slots") {
    // Of both families: a thousand addresses in a row, one port.
    VipMap map(2000);
    for (unsigned i = 0; i < 1000; ++i) {
        map.insert(vip(fmt::format("203.0.{}.{}:443/tcp", i / 250, i % 250)), {});
        map.insert(vip(fmt::format("[2001:db8::{:x}]:443/tcp", i)), {});
    }
    CHECK(map.longest_probe() < 24);
}
