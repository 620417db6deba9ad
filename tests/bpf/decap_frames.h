// The scene of the detour-decap tests: one PoP, one backend with two VIPs, and the tunnel packets between
// them.
#pragma once

#include <cstdint>
#include <string_view>

#include "tests/bpf/program.h"
#include "tools/decap/decap_maps.h"

namespace detour::bpf_tests {

enum class Tunnel : std::uint8_t { kIpip, kGue, kGueVariant0, kGre };
enum class Family : std::uint8_t { kV4, kV6 };

struct TunnelRow {
    const char* name;
    Tunnel tunnel;
    Family inner;
    Family outer;
};

/// Every encapsulation and family pair.
inline constexpr TunnelRow kTunnelRows[] = {
    {"ipip 4in4", Tunnel::kIpip, Family::kV4, Family::kV4},
    {"ipip 6in4", Tunnel::kIpip, Family::kV6, Family::kV4},
    {"ipip 4in6", Tunnel::kIpip, Family::kV4, Family::kV6},
    {"ipip 6in6", Tunnel::kIpip, Family::kV6, Family::kV6},
    {"gue 4in4", Tunnel::kGue, Family::kV4, Family::kV4},
    {"gue 6in4", Tunnel::kGue, Family::kV6, Family::kV4},
    {"gue 4in6", Tunnel::kGue, Family::kV4, Family::kV6},
    {"gue 6in6", Tunnel::kGue, Family::kV6, Family::kV6},
    {"gue variant 0 4in4", Tunnel::kGueVariant0, Family::kV4, Family::kV4},
    {"gue variant 0 6in4", Tunnel::kGueVariant0, Family::kV6, Family::kV4},
    {"gue variant 0 4in6", Tunnel::kGueVariant0, Family::kV4, Family::kV6},
    {"gue variant 0 6in6", Tunnel::kGueVariant0, Family::kV6, Family::kV6},
    {"gre 4in4", Tunnel::kGre, Family::kV4, Family::kV4},
    {"gre 6in4", Tunnel::kGre, Family::kV6, Family::kV4},
    {"gre 4in6", Tunnel::kGre, Family::kV4, Family::kV6},
    {"gre 6in6", Tunnel::kGre, Family::kV6, Family::kV6},
};

/// The counter of a packet that is taken.
[[nodiscard]] decap_counter taken(Tunnel tunnel);

/// A link header; every frame of the scene begins with it.
[[nodiscard]] support::Frame link();
/// link() and the outer IP header, PoP to backend.
[[nodiscard]] support::Frame outer(Family family);
/// A client's segment to the VIP, as a whole frame.
[[nodiscard]] Bytes client_frame(Family family);
/// `inner` (a whole frame) in a tunnel from the PoP to the backend.
[[nodiscard]] Bytes tunneled(const TunnelRow& row, const Bytes& inner);
[[nodiscard]] inline Bytes tunneled(const TunnelRow& row) {
    return tunneled(row, client_frame(row.inner));
}
/// Bytes of link, outer IP and, for GUE, UDP header: from here on a frame shows that it is a tunnel packet.
[[nodiscard]] std::size_t recognisable_bytes(const TunnelRow& row);

/// Makes the IPv4 header checksum at `offset` right again after a test changed the header.
void fix_checksum(Bytes& frame, std::size_t offset = 14);

/// A decap program with the scene's VIPs, sources and local addresses in its maps.
[[nodiscard]] Program decap_program(const char* name);

[[nodiscard]] std::uint64_t counted(const Program& program, decap_counter counter);

}  // namespace detour::bpf_tests
