// Drains: what operators take out of service, and until when.
//
// It takes all new flows away, or a percentage; established ones stay until its deadline, if it has one.
// A drain names a site ("pangyo"), a pool in a site ("talk@pangyo"), a backend ("10.1.0.11") or a domain
// ("kr/seongnam": every site in it, also one that is added later). Plain values, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "config/model.h"
#include "control/failover/stamp.h"
#include "control/health/now.h"
#include "dataplane/api/result.h"

namespace detour::failover {

enum class TargetKind : std::uint8_t { kSite, kPoolSite, kBackend, kDomain };

struct Target {
    TargetKind kind = TargetKind::kSite;
    std::string site;        ///< kSite, kPoolSite: the site's key
    std::string pool;        ///< kPoolSite: the pool's name
    api::IpAddress address;  ///< kBackend
    std::string domain;      ///< kDomain: "kr/seongnam"
    bool operator==(const Target&) const = default;
    /// As operators write it; `config` turns a site's key into its name.
    [[nodiscard]] std::string to_string(const config::Config& config) const;
};

/// Reads what an operator wrote. A site's name wins over a domain of the same spelling.
/// Error kInvalidArgument when empty, kNotFound when `config` has no such thing (the text says what there
/// is).
[[nodiscard]] api::Result<Target> parse_target(std::string_view text, const config::Config& config);

/// True when `site` lies in `domain` ("kr/seongnam" covers ["kr", "seongnam", "pangyo"]).
[[nodiscard]] bool in_domain(const config::Site& site, std::string_view domain);

inline constexpr std::chrono::hours kDefaultDrain{4};
inline constexpr std::chrono::hours kLongestDrain{24 * 366};

struct DrainRequest {
    std::string target;
    std::chrono::milliseconds duration = kDefaultDrain;  ///< 1 s … kLongestDrain
    std::string reason;
    std::string by;               ///< who asked, for the timeline
    bool force = false;           ///< past the rail min_sites
    bool last_resort = false;     ///< may take traffic when nothing else can
    std::uint32_t percent = 100;  ///< 1 … 100 of the new flows are taken away
    /// From now on: then the established flows are reset too. 0: at once.
    std::optional<std::chrono::milliseconds> deadline;
    bool here = false;  ///< this PoP alone
};

struct Drain {
    Target target;
    std::string reason;
    std::string by;
    health::WallTime since;
    health::WallTime until;
    bool forced = false;
    bool last_resort = false;
    std::uint32_t percent = 100;
    std::optional<health::WallTime> deadline;  ///< established flows are let go; absent: never
    bool here = false;                         ///< this PoP alone
    Stamp stamp;
    bool operator==(const Drain&) const = default;
    /// What a drained site still admits.
    [[nodiscard]] api::Admit left() const noexcept {
        return api::Admit{static_cast<std::uint16_t>(api::kAdmitAll.value() * (100U - percent) / 100U)};
    }
    [[nodiscard]] bool lets_go(health::WallTime now) const noexcept { return deadline && *deadline <= now; }
};

}  // namespace detour::failover
