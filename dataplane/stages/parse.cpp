#include "dataplane/core/parse.h"

#include "dataplane/core/bytes.h"
#include "dataplane/core/parse_plain.h"
#include "dataplane/stages/stages.h"

namespace detour::stages {
namespace {

/// A fragment has no ports to look at: dropped when it is for a VIP's address, the kernel's otherwise.
void fragment(core::Packet& p, const Context& context) noexcept {
    const std::uint8_t* ip = p.data + p.l3;
    core::VipMap::Address address{};
    if (p.v6 != 0) {
        std::memcpy(address.data(), ip + 24, 16);
    } else {
        std::memcpy(address.data(), ip + 16, 4);
    }
    if (context.tables.vips.has_address(address, p.v6)) {
        drop(p, api::Reason::kFragment);
    } else {
        to_kernel(p, api::Reason::kNotOurs);
    }
}

/// All but the common frame. Not inlined: the loop stays small.
[[gnu::noinline]] void parse_other(core::Batch& batch, std::uint32_t index, const Context& context) noexcept {
    core::Packet& p = batch.packets[index];
    switch (core::parse(p)) {
        case core::Parsed::kTransport:
            break;
        case core::Parsed::kIcmp:
            batch.icmp.add_if(index, 1);
            break;
        case core::Parsed::kMalformed:
            p.verdict = core::Verdict::kDrop;
            break;
        case core::Parsed::kOther:
            to_kernel(p, api::Reason::kNotOurs);
            break;
        case core::Parsed::kFragment:
            fragment(p, context);
            break;
    }
}

}  // namespace

void parse(core::Batch& batch, const Context& context) noexcept {
    batch.icmp.clear();
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        core::Packet& p = batch.packets[i];
        p.verdict = core::Verdict::kPending;
        if (!core::parse_plain(p)) parse_other(batch, i, context);
    }
}

}  // namespace detour::stages
