// Every fixed bound of the fast path, in one place. Beyond a bound is an error when a plan is read, never
// later.
#pragma once

#include <cstddef>
#include <cstdint>

namespace detour::api {

inline constexpr std::size_t kMaxSites = 255;  ///< ids 0 … 254; 255 in a slot means "no site"
inline constexpr std::size_t kMaxPools = 4096;
inline constexpr std::size_t kMaxVips = 16384;
inline constexpr std::size_t kMaxBackends = 65535;  ///< ids 0 … 65534; 65535 means "none"
inline constexpr std::size_t kMaxNextHops = 4096;
inline constexpr std::size_t kMaxPorts = 16;
inline constexpr std::uint16_t kMaxVlan = 4094;
inline constexpr std::size_t kMaxWorkers = 64;
inline constexpr std::uint32_t kMaxWeight = 65535;
inline constexpr std::size_t kMaxBackendsPerSite = 4096;  ///< of one pool in one site (`max_backends`)

inline constexpr std::size_t kSiteSlots = 4096;  ///< slots of a site table
inline constexpr std::size_t kSiteRanks = 8;     ///< sites ranked in a slot

inline constexpr std::size_t kMaxBurst = 64;
inline constexpr std::size_t kMaxEncapBytes = 62;  ///< Ethernet 14 + IPv6 40 + UDP 8

inline constexpr std::size_t kMaxMessageBytes = 64U << 20U;  ///< one message of the control channel

inline constexpr std::size_t kPrefixBuckets = 64;  ///< that a site's client prefixes are hashed to

/// Of idle flows: under 10 s, 1 min, 10 min, 1 h, and longer.
inline constexpr std::size_t kIdleClasses = 5;

inline constexpr std::uint16_t kGuePort = 6080;  ///< IANA "gue"

}  // namespace detour::api
