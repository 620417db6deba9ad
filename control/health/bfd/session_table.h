// The sessions of one host: which one a packet belongs to, who may send it, and what was dropped why.
//
// A packet that names a discriminator of ours must also come by that session's path: kind of hop, sender,
// receiver, interface. Without that, a packet to the multi-hop port could reach a single-hop session and go
// round the TTL check (GTSM, RFC 5881 section 5). One that names none is matched by its path alone; no
// session is ever created by a packet. Pure; not thread safe. Discriminators are random, so that a stranger
// can't guess them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>

#include "control/health/bfd/session.h"
#include "dataplane/api/result.h"
#include "dataplane/api/types.h"

namespace detour::bfd {

/// Never used again within one table.
using SessionId = api::Strong<struct SessionIdTag, std::uint32_t>;

inline constexpr std::size_t kMaxSessions = 64;

enum class Hop : std::uint8_t {
    kSingle,  ///< RFC 5881: UDP 3784, TTL 255 required
    kMulti,   ///< RFC 5883: UDP 4784
};

/// Index of a network interface; 0 is any.
using Interface = api::Strong<struct InterfaceTag, unsigned>;
/// TTL or hop limit of a packet as it arrived.
using Ttl = api::Strong<struct TtlTag, std::uint8_t>;

struct Path {
    Hop hop = Hop::kSingle;
    api::IpAddress remote;
    std::optional<api::IpAddress> local;  ///< empty: any address of the host
    Interface interface;
    Ttl least_ttl;  ///< multi hop: packets with less are dropped, 0 takes all; single hop: always 255
    bool operator==(const Path&) const = default;
};

/// How a datagram came.
struct Arrival {
    Hop hop = Hop::kSingle;  ///< of the port that it came to
    api::IpAddress source;
    api::IpAddress destination;
    Interface interface;
    Ttl ttl;
};

struct Counters {
    std::uint64_t received = 0;  ///< accepted
    std::array<std::uint64_t, kDropCount> dropped{};
    [[nodiscard]] std::uint64_t of(Drop drop) const { return dropped[static_cast<std::size_t>(drop)]; }
};

class SessionTable {
  public:
    using Random = std::function<std::uint32_t()>;
    using Sink = std::function<void(SessionId, const Step&)>;

    explicit SessionTable(Random random) : random_(std::move(random)) {}

    /// Errors: kLimit when there are kMaxSessions; kInvalidArgument for intervals out of range, addresses of
    /// two families, or a path that an existing session's packets could be taken for.
    [[nodiscard]] api::Result<SessionId> add(const Path& path, Intervals intervals, Monotonic now);
    /// Unknown ids are ignored.
    void remove(SessionId id);
    /// Null when there is none. Until the table changes.
    [[nodiscard]] Session* find(SessionId id);
    [[nodiscard]] const Path* path(SessionId id) const;
    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

    /// Gives the session's step to `sink`; a packet that is dropped is counted and gives none.
    void on_datagram(std::span<const std::uint8_t> payload, const Arrival& arrival, Monotonic now,
                     const Sink& sink);
    /// Runs every session that is due.
    void on_timer(Monotonic now, const Sink& sink);
    [[nodiscard]] Monotonic next_timer() const;
    [[nodiscard]] const Counters& counters() const noexcept { return counters_; }

  private:
    struct Entry {
        Path path;
        Session session;
    };

    [[nodiscard]] tl::expected<SessionId, Drop> select(const ControlPacket& packet,
                                                       const Arrival& arrival) const;
    [[nodiscard]] bool taken(Discriminator discriminator) const;
    void drop(Drop reason);

    Random random_;
    std::map<SessionId, Entry> entries_;  // at most 64: looking through all of them is cheap
    std::uint32_t last_id_ = 0;
    Counters counters_;
};

}  // namespace detour::bfd
