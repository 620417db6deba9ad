// What the operator asked `detour-decap run` to do, checked.
//
// Pure values and parsing, no threading.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/api/limits.h"
#include "dataplane/api/result.h"
#include "dataplane/api/types.h"

namespace detour::decap {

using api::Result;

enum class Mode : std::uint8_t { kXdp, kTc };

/// An address and the number of its leading bits that count.
struct Prefix {
    api::IpAddress address;
    std::uint8_t bits = 0;

    /// "192.0.2.0/24", "2001:db8::/48", or an address alone (all of its bits). Error kInvalidArgument for
    /// anything else, also when bits beyond the prefix are set.
    [[nodiscard]] static Result<Prefix> parse(std::string_view text);
};

/// What an interface is for.
struct InterfacePlan {
    std::string name;
    bool decapsulates = false;
    bool clamps = false;
};

struct Settings {
    std::vector<std::string> interfaces;
    std::vector<std::string> clamp;  ///< interfaces that answers leave by; empty: `interfaces`
    Mode mode = Mode::kXdp;
    std::vector<api::IpAddress> vips;
    std::vector<Prefix> sources;
    api::Port gue_port{api::kGuePort};
    std::uint16_t tunnel_mtu = 1500;  ///< IP bytes that fit between a PoP and here, 1280 … 9978
    std::uint16_t tunnel_overhead =
        48;  ///< outer header bytes; IPv6 40 + UDP 8 is the most that Detour sends

    /// Each interface once, with all that it is for.
    [[nodiscard]] std::vector<InterfacePlan> plan() const;
    /// Largest TCP payload that a client's segment may carry so that it fits the tunnel (RFC 6691: options
    /// are not counted).
    [[nodiscard]] std::uint16_t mss_v4() const noexcept;
    [[nodiscard]] std::uint16_t mss_v6() const noexcept;
};

}  // namespace detour::decap
