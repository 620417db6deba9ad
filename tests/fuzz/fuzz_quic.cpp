// QUIC headers and connection ids. The first byte chooses the server ids; the rest is one datagram.
//
// Beside what the sanitizers see: a connection id lies in its datagram and is at most 20 bytes long, and a
// backend is found exactly when its server id stands in the id behind its configuration.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "dataplane/core/quic.h"
#include "dataplane/core/tables.h"

using namespace detour;

namespace {

constexpr std::size_t kSets = 16;
constexpr std::uint16_t kIds = 40;

struct Set {
    std::vector<api::QuicServerId> ids;  ///< of backend i
    core::QuicServers servers{kIds};
};

/// Ids of 1 to 15 bytes, whose bytes are small, so that inputs meet them.
Set make_set(std::size_t choice) {
    Set set;
    for (std::uint16_t i = 0; i < kIds; ++i) {
        const unsigned rotation = i % api::kQuicConfigurations;
        std::string bytes(1 + (choice + rotation * 3) % api::kMaxQuicServerId, '\0');
        bytes.back() = static_cast<char>(i);
        set.ids.push_back(*api::QuicServerId::make(rotation, bytes));
        set.servers.insert(set.ids.back(), i);
    }
    return set;
}

const Set& set_for(std::uint8_t choice) {
    static std::array<Set, kSets> sets = [] {
        std::array<Set, kSets> made;
        for (std::size_t i = 0; i < kSets; ++i) made[i] = make_set(i);
        return made;
    }();
    return sets[choice % kSets];
}

void require(bool condition) {
    if (!condition) std::abort();
}

bool holds(const std::string& cid, const api::QuicServerId& id) {
    if (cid.size() < 1 + id.size() + api::kMinQuicNonce) return false;
    return static_cast<unsigned char>(cid[0]) / 32 == id.rotation() &&
           cid.compare(1, id.size(), id.wire()) == 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const Set& set = set_for(data[0]);
    const std::vector<std::uint8_t> datagram(data + 1, data + size);
    const auto cid = core::server_chosen_cid(datagram);
    require(cid.size() <= api::kMaxQuicCid);
    if (cid.empty()) return 0;
    const auto at = static_cast<std::size_t>(cid.data() - datagram.data());
    require(at == ((datagram[0] & 0x80U) != 0 ? 6U : 1U) && at + cid.size() <= datagram.size());
    const std::string text(cid.begin(), cid.end());
    const auto want =
        std::ranges::find_if(set.ids, [&](const api::QuicServerId& id) { return holds(text, id); });
    const std::uint16_t got = set.servers.find(cid);
    if (want == set.ids.end())
        require(got == core::kNoBackendId);
    else
        require(got == want - set.ids.begin());
    return 0;
}
