// The forwarding tables: a plan made ready for lookup.
//
// Built off the workers by build_tables(), published as one pointer, immutable from then on and freed after a
// grace period. Site tables and Maglev tables that did not change are shared with the previous tables
// (shared_ptr), so a plan that changes one site's backends builds one Maglev table.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/api/limits.h"
#include "dataplane/api/plan.h"
#include "dataplane/core/hash.h"
#include "dataplane/core/maglev.h"
#include "dataplane/core/quic.h"
#include "dataplane/core/site_table.h"
#include "dataplane/core/vip_map.h"

namespace detour::core {

inline constexpr std::uint8_t kNoSiteId = 255;
inline constexpr std::uint16_t kNoBackendId = 65535;

/// Everything that is put before a client's packet, ready to copy: one cache line.
///
/// Left 0 for the encapsulation to fill: outer IPv4 TOS and total length; outer IPv6 traffic class, flow
/// label and payload length; IPIP's protocol or next header (17 and 47 are there for GUE and GRE); GUE's
/// source port and length; GRE's protocol type. The UDP checksum stays 0 (RFC 6935, 6936). The IPv4 checksum
/// field holds, in network order, the ones' complement sum of the header as it stands here, folded to 16 bits
/// and NOT complemented: add TOS, length and IPIP's protocol, fold, complement, store. Without a tunnel
/// source of the family the outer source is the unspecified address (see kBackendHasSource).
struct alignas(64) EncapHeader {
    std::array<std::uint8_t, api::kMaxEncapBytes> bytes{};
    std::uint8_t length = 0;  ///< Ethernet + outer IP (+ UDP or GRE); 0: this backend is not in the plan
    std::uint8_t port = 0;    ///< egress port
};

enum class OuterFamily : std::uint8_t { kV4, kV6 };

/// What encapsulation needs beyond the header.
struct BackendEntry {
    std::uint8_t site = kNoSiteId;
    std::uint8_t flags = 0;  ///< BackendFlag bits
    std::uint16_t pool = 0;
    std::uint16_t max_inner =
        0;  ///< largest client IP packet that the tunnel carries, bytes; 0: none, see flags
    api::Encap encap = api::Encap::kGue;
    OuterFamily outer = OuterFamily::kV4;
};
inline constexpr std::uint8_t kBackendPresent = 1;
inline constexpr std::uint8_t kBackendResolved = 2;
inline constexpr std::uint8_t kBackendHasSource = 4;

struct PoolSiteEntry {
    std::uint8_t site = kNoSiteId;
    std::shared_ptr<const MaglevTable> backends;
};

/// A Maglev table's entries, to reach them without a walk over objects.
struct PoolSiteRef {
    const std::uint16_t* entries = nullptr;
    std::uint32_t size = 0;
};

/// What a new flow needs first is on the first cache line.
struct alignas(64) PoolEntry {
    const std::uint64_t* slots = nullptr;  ///< of `sites`
    const PoolSiteRef* refs = nullptr;  ///< by SiteId, for the sites of per_site; in ForwardingTables::refs
    api::PoolId id;
    api::HashKey hash = api::HashKey::kFiveTuple;
    api::Stranded stranded = api::Stranded::kReset;
    api::Refusal on_empty = api::Refusal::kDrop;
    /// 0 … 15: the most important pools first. Pools of one priority share a level.
    std::uint8_t shed_level = 0;
    std::shared_ptr<const SiteTable> sites;
    /// The sites with a backend that may take flows, in no particular order; found through site_index.
    std::vector<PoolSiteEntry> per_site;
    /// Site id -> index into per_site, 255 for none.
    std::array<std::uint8_t, 256> site_index{};
};

/// A VIP by its id, for segments that we make ourselves and for what a flow entry says.
struct VipAddress {
    std::array<std::uint8_t, 16> address{};  ///< wire bytes; IPv4 in the first 4
    std::uint16_t port = 0;                  ///< wire order
    std::uint16_t pool = 0;                  ///< index into pools
    std::uint8_t protocol = 0;
    std::uint8_t v6 = 0;
};

struct BuildStatistics {
    std::uint32_t site_tables = 0;  ///< built, not taken over
    std::uint32_t maglev_tables = 0;
};

class ForwardingTables {
  public:
    api::Generation generation;
    HashSeed seed;
    VipMap vips;
    std::vector<PoolEntry> pools;
    std::vector<PoolSiteRef> refs;               ///< by pool, then SiteId; see PoolEntry::refs
    std::vector<EncapHeader> headers;            ///< by BackendId
    std::vector<BackendEntry> backends;          ///< by BackendId
    std::array<std::uint64_t, 256> site_keys{};  ///< by SiteId, for fraction()
    std::uint32_t resets_per_second = 0;
    std::uint32_t icmp_per_second = 0;
    std::bitset<api::kMaxVips> vip_present;  ///< by VipId
    std::vector<VipAddress> vip_addresses;   ///< by VipId, where vip_present
    BuildStatistics built;
    std::vector<std::uint16_t> vlans;  ///< by BackendId, 0: no tag; empty where no next hop has one
    std::vector<QuicServers> quic;     ///< by pool index; empty where no pool asks for it

    [[nodiscard]] bool has_vip(std::uint16_t id) const noexcept {
        return id < api::kMaxVips && vip_present[id];
    }
    /// True when `id` is a backend of this plan.
    [[nodiscard]] bool has_backend(std::uint16_t id) const noexcept {
        return id < backends.size() && (backends[id].flags & kBackendPresent) != 0;
    }
};

/// Builds the tables of `plan`; `previous` (may be null) lends what did not change.
/// The plan must have passed api::check(). Error kLimit when memory is not to be had.
/// Same plan, same seed, same tables on every host, whatever the order in the plan.
[[nodiscard]] api::Result<std::unique_ptr<const ForwardingTables>> build_tables(
    const api::ForwardingPlan& plan, const ForwardingTables* previous);

}  // namespace detour::core
