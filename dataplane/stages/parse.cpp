#include "dataplane/core/parse.h"

#include "dataplane/core/parse_plain.h"
#include "dataplane/stages/flow.h"

namespace detour::stages {
namespace {

/// All but the common frame. Not inlined: the loop stays small.
[[gnu::noinline]] void parse_other(core::Batch& batch, core::Packet& p, const Context& context) noexcept {
    const auto index = static_cast<std::uint32_t>(&p - batch.packets.data());
    switch (core::parse(p)) {
        case core::Parsed::kTransport:
            break;
        case core::Parsed::kIcmp:
            batch.icmp.add(index);
            break;
        case core::Parsed::kMalformed:
            p.verdict = core::Verdict::kDrop;
            // Duplicate address detection, IGMP and DHCP have no source; to a VIP nothing may come without
            // one.
            if (p.reason == api::Reason::kBadSource && !is_for_a_vip(p, context))
                to_kernel(p, api::Reason::kNotOurs);
            break;
        case core::Parsed::kOther:
            to_kernel(p, api::Reason::kNotOurs);
            break;
        case core::Parsed::kFragment:
            batch.fragments.add(index);
            break;
    }
}

}  // namespace

void parse(core::Batch& batch, const Context& context) noexcept {
    batch.icmp.clear();
    batch.fragments.clear();
    for (core::Packet& p : batch.all()) {
        p.verdict = core::Verdict::kPending;
        if (!core::parse_plain(p)) parse_other(batch, p, context);
    }
}

}  // namespace detour::stages
