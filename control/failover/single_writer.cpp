#include "control/failover/single_writer.h"

namespace detour::failover {

std::string_view to_string(Says says) noexcept {
    switch (says) {
        case Says::kNothing:
            return "nothing";
        case Says::kPrimary:
            return "primary";
        case Says::kStandby:
            return "standby";
    }
    return "unknown";
}

Writer choose_writer(std::span<const Says> says, std::optional<std::uint32_t> current) {
    std::uint32_t primaries = 0;
    std::uint32_t last = 0;
    for (std::uint32_t i = 0; i < says.size(); ++i) {
        if (says[i] != Says::kPrimary) continue;
        ++primaries;
        last = i;
    }
    if (primaries == 1) return {last, true, WriterAlarm::kNone};
    const bool known = current && *current < says.size();
    const bool refuses = known && says[*current] == Says::kStandby;
    return {known ? current : std::nullopt, known && !refuses,
            primaries == 0 ? WriterAlarm::kNobody : WriterAlarm::kTwo};
}

}  // namespace detour::failover
