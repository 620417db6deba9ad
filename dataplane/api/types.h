// The words of the forwarding plane: addresses, ports, ids, thresholds.
//
// Every id and quantity above byte level is its own type, so that a site can't be passed where a backend is
// meant. All are plain values: copyable, comparable, without ownership, safe to share between threads as any
// int is. Byte order is in the type: Port and Ipv4 hold host order, IpAddress and Mac hold bytes as on the
// wire.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "dataplane/api/quic_server_id.h"
#include "dataplane/api/result.h"

namespace detour::api {

/// A number with a meaning. `Tag` only makes the types differ.
template <class Tag, class Rep>
class Strong {
  public:
    using rep = Rep;
    constexpr Strong() noexcept = default;
    constexpr explicit Strong(Rep value) noexcept : value_(value) {}
    [[nodiscard]] constexpr Rep value() const noexcept { return value_; }
    constexpr auto operator<=>(const Strong&) const noexcept = default;

  private:
    Rep value_{};
};

/// Stable for a site's life, 0 … kMaxSites-1; index into `admit` and `keep`.
using SiteId = Strong<struct SiteIdTag, std::uint8_t>;
/// Stable for a pool's life, 0 … kMaxPools-1.
using PoolId = Strong<struct PoolIdTag, std::uint16_t>;
/// Stable for the life of one (address, port, protocol), 0 … kMaxVips-1; part of every flow's key.
using VipId = Strong<struct VipIdTag, std::uint16_t>;
/// Stable for the life of one backend of one pool, 0 … kMaxBackends-1; what a flow entry remembers.
using BackendId = Strong<struct BackendIdTag, std::uint16_t>;
/// Index into a plan's next hops; not stable between plans.
using NextHopId = Strong<struct NextHopIdTag, std::uint16_t>;
/// Increases with every plan a control process publishes.
using Generation = Strong<struct GenerationTag, std::uint64_t>;
/// Increases with every set-site or set-backend of one site or backend.
using Sequence = Strong<struct SequenceTag, std::uint64_t>;
/// Share relative to the other members of the same table; 0 takes no new flow. 0 … kMaxWeight.
using Weight = Strong<struct WeightTag, std::uint32_t>;
/// TCP or UDP port, host byte order.
using Port = Strong<struct PortTag, std::uint16_t>;
/// Index of a port (network interface) in the fast path's `ports`.
using EgressPort = Strong<struct EgressPortTag, std::uint16_t>;
/// Preference among sites: lower is preferred (active 0, hot 1, warm 2, cold 3).
using Tier = Strong<struct TierTag, std::uint8_t>;

/// How much of a site's new flows it takes: 0 none, 65535 all (see core/select.h).
using Admit = Strong<struct AdmitTag, std::uint16_t>;
inline constexpr Admit kAdmitNone{0};
inline constexpr Admit kAdmitAll{65535};

struct Mac {
    std::array<std::uint8_t, 6> bytes{};
    constexpr auto operator<=>(const Mac&) const noexcept = default;
};

enum class Protocol : std::uint8_t { kTcp = 6, kUdp = 17 };

/// An IPv4 or IPv6 address as on the wire. An IPv4 address uses the first 4 of the 16 bytes, the rest is
/// zero.
class IpAddress {
  public:
    constexpr IpAddress() noexcept = default;
    /// `bytes` in network order.
    [[nodiscard]] static constexpr IpAddress v4(std::array<std::uint8_t, 4> bytes) noexcept {
        IpAddress result;
        for (std::size_t i = 0; i < bytes.size(); ++i) result.bytes_[i] = bytes[i];
        result.is_v6_ = false;
        return result;
    }
    [[nodiscard]] static constexpr IpAddress v6(std::array<std::uint8_t, 16> bytes) noexcept {
        IpAddress result;
        result.bytes_ = bytes;
        result.is_v6_ = true;
        return result;
    }
    /// Accepts "192.0.2.1" and "2001:db8::1" (RFC 4291), no brackets, no zone.
    /// Error kInvalidArgument with the text when it is neither.
    [[nodiscard]] static Result<IpAddress> parse(std::string_view text);
    /// From 4 or 16 wire bytes; error kInvalidArgument for any other length.
    [[nodiscard]] static Result<IpAddress> from_bytes(std::string_view bytes);

    [[nodiscard]] constexpr bool is_v6() const noexcept { return is_v6_; }
    [[nodiscard]] constexpr const std::array<std::uint8_t, 16>& bytes() const noexcept { return bytes_; }
    /// 4 or 16.
    [[nodiscard]] constexpr std::size_t size() const noexcept { return is_v6_ ? 16 : 4; }
    /// The wire bytes, `size()` of them.
    [[nodiscard]] std::string wire() const;
    /// RFC 5952 text.
    [[nodiscard]] std::string to_string() const;
    constexpr auto operator<=>(const IpAddress&) const noexcept = default;

  private:
    bool is_v6_ = false;
    std::array<std::uint8_t, 16> bytes_{};
};

/// What clients connect to. Text form "203.0.113.10:443/tcp", "[2001:db8:f::10]:443/udp".
struct Vip {
    IpAddress address;
    Port port;
    Protocol protocol = Protocol::kTcp;
    auto operator<=>(const Vip&) const noexcept = default;

    /// Error kInvalidArgument says which part is wrong.
    [[nodiscard]] static Result<Vip> parse(std::string_view text);
    [[nodiscard]] std::string to_string() const;
};

/// Key of the fleet's flow hash; the same on every host. Secret: who knows it can build collisions.
struct FleetSeed {
    std::array<std::uint8_t, 16> bytes{};
    auto operator<=>(const FleetSeed&) const noexcept = default;
    /// Derives the seed from the configured text; the text should hold 128 bits of entropy.
    [[nodiscard]] static FleetSeed from_text(std::string_view text) noexcept;
};

enum class Encap : std::uint8_t { kIpip, kGue, kGre };
enum class HashKey : std::uint8_t { kFiveTuple, kSource, kQuicCid };
enum class Stranded : std::uint8_t { kReset, kRehash, kKeep };
/// How a new flow that can't be served is refused. UDP is dropped either way.
enum class Refusal : std::uint8_t {
    kDrop,   ///< the SYN is dropped: the client tries again, later and later
    kReset,  ///< answered with a RST, as far as the budget of resets allows
};

[[nodiscard]] std::string_view to_string(Protocol value) noexcept;
[[nodiscard]] std::string_view to_string(Encap value) noexcept;
[[nodiscard]] std::string_view to_string(HashKey value) noexcept;
[[nodiscard]] std::string_view to_string(Stranded value) noexcept;
[[nodiscard]] std::string_view to_string(Refusal value) noexcept;

}  // namespace detour::api

template <class Tag, class Rep>
struct std::hash<detour::api::Strong<Tag, Rep>> {
    std::size_t operator()(detour::api::Strong<Tag, Rep> id) const noexcept {
        return std::hash<Rep>{}(id.value());
    }
};
