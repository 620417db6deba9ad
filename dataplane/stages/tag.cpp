#include "dataplane/core/vlan.h"
#include "dataplane/stages/stages.h"

namespace detour::stages {

void tag(core::Batch& batch, const Context& context) noexcept {
    if (context.tables.vlans.empty()) return;
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        core::Packet& p = batch.packets[i];
        // Answers go back with the tags that their packets came with.
        if (p.verdict != core::Verdict::kTransmit || !api::is_forwarded(p.reason)) continue;
        const std::uint16_t id = context.tables.vlans[p.backend];
        if (id != 0 && !core::tag_frame(p, id)) drop(p, api::Reason::kNoHeadroom);
    }
}

}  // namespace detour::stages
