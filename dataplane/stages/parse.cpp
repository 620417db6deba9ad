#include "dataplane/core/parse.h"

#include "dataplane/core/bytes.h"
#include "dataplane/stages/stages.h"

namespace detour::stages {
namespace {

/// A fragment has no ports to look at: dropped when it is for a VIP's address, the kernel's otherwise.
void fragment(core::Packet& p, const Context& context) noexcept {
    const std::uint8_t* ip = p.data + p.l3;
    std::array<std::uint64_t, 2> address{};
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

}  // namespace

void parse(core::Batch& batch, const Context& context) noexcept {
    for (std::uint32_t i = 0; i < batch.count; ++i) {
        core::Packet& p = batch.packets[i];
        p.verdict = core::Verdict::kPending;
        switch (core::parse(p)) {
            case core::Parsed::kTransport:
            case core::Parsed::kIcmp:
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
}

}  // namespace detour::stages
