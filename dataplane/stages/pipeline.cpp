#include "dataplane/stages/pipeline.h"

#include "dataplane/stages/stages.h"

namespace detour::stages {
namespace {

constexpr std::array kPipeline{
    NamedStage{"parse", parse},
    NamedStage{"fragment", fragment},
    NamedStage{"classify", classify},
    NamedStage{"icmp", icmp},
    NamedStage{"flow_tcp", flow_tcp},
    NamedStage{"flow_quic", flow_quic},
    NamedStage{"flow_udp", flow_udp},
    NamedStage{"fragment_follow", fragment_follow},
    NamedStage{"encapsulate", encapsulate},
    NamedStage{"tag", tag},
    NamedStage{"account", account},
};

}  // namespace

std::span<const NamedStage> pipeline() noexcept {
    return kPipeline;
}

void run(core::Batch& batch, const Context& context) noexcept {
    context.worker.use(context.tables);
    for (const NamedStage& stage : kPipeline) stage.run(batch, context);
}

}  // namespace detour::stages
