// Where a pool goes whose data has one writer: the data layer elects, Detour follows.
//
// Each site is asked by the pool's `ready` probe. The rules:
//   - One site says that it is primary: the pool goes there, and the flows of the one before are let go.
//   - Nobody says so: the pool stays where it is, unless that site itself says that it is not primary; then
//     nobody may write and no new flow goes anywhere until somebody is elected.
//   - Two say so: the pool stays where it is and an alarm is raised. Which of them is right is not for us to
//     say.
//   - A site that says nothing (it cannot be reached from here) is no primary and no standby.
// Never more than one site takes the pool, whatever the answers: that two PoPs that see different sites do
// not write to two is the data layer's promise, which `ready` must tell the truth about. Pure, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace detour::failover {

enum class Says : std::uint8_t { kNothing, kPrimary, kStandby };
/// "nothing", "primary", "standby".
[[nodiscard]] std::string_view to_string(Says says) noexcept;

enum class WriterAlarm : std::uint8_t { kNone, kNobody, kTwo };

struct Writer {
    std::optional<std::uint32_t> site;  ///< the only one that the pool may go to: stays, or becomes it
    bool admits = false;                ///< it takes new flows
    WriterAlarm alarm = WriterAlarm::kNone;
    bool operator==(const Writer&) const = default;
};

/// `says` by part of the pool; `current`: the part that was the writer until now.
[[nodiscard]] Writer choose_writer(std::span<const Says> says, std::optional<std::uint32_t> current);

}  // namespace detour::failover
