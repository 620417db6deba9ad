#include "dataplane/stages/way_back.h"

#include <algorithm>
#include <cstring>

#include "dataplane/core/bytes.h"

namespace detour::stages {
namespace {

constexpr std::size_t kMacs = 12;
constexpr std::uint8_t kMostVotes = 200;

bool is_vlan(std::uint16_t type) noexcept {
    return type == 0x8100 || type == 0x88a8;
}

}  // namespace

WayBack::Sample WayBack::sample(const core::Packet& fresh) noexcept {
    Sample s;
    if (fresh.length < core::kMaxLinkHeader) return s;
    std::memcpy(s.link.data(), fresh.data, s.link.size());
    s.port = fresh.port;
    std::size_t type = kMacs;
    for (unsigned tag = 0; tag < core::kMaxVlanTags && is_vlan(core::load_be16(&s.link[type])); ++tag)
        type += 4;
    // A group address sends nothing.
    const bool group = (s.link[6] & 1U) != 0;
    s.length = group ? std::uint8_t{0} : static_cast<std::uint8_t>(type + 2);
    return s;
}

void WayBack::learn(const Sample& s, const core::Packet& done) noexcept {
    if (s.length == 0 || done.verdict != core::Verdict::kTransmit || !api::is_forwarded(done.reason)) return;
    core::LinkHeader header;
    header.length = s.length;
    header.port = s.port;
    std::copy_n(s.link.begin(), s.length, header.bytes.begin());
    std::swap_ranges(header.bytes.begin(), header.bytes.begin() + 6, header.bytes.begin() + 6);
    Route& route = routes_[done.v6 != 0 ? 1 : 0];
    if (route.header == header) {
        route.votes = std::min<std::uint8_t>(kMostVotes, static_cast<std::uint8_t>(route.votes + 1));
    } else if (route.votes > 0) {
        --route.votes;
    } else {
        route = {header, 1};
    }
}

}  // namespace detour::stages
