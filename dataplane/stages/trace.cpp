#include "dataplane/stages/trace.h"

#include <algorithm>

#include "dataplane/stages/flow.h"
#include "dataplane/stages/known_ids.h"

namespace detour::stages {
namespace {

constexpr std::size_t kEthernet = 14;
constexpr std::size_t kSmallTable = 16;

template <class Table>
void clear(Table& flows) noexcept {
    for (std::size_t i = 0; i < flows.buckets(); ++i) {
        for (auto& entry : flows.bucket(i).entries) {
            if (entry.value().state() != core::FlowState::kEmpty) flows.erase(entry);
        }
    }
}

void clear(core::SynTable& syns) noexcept {
    for (std::size_t i = 0; i < syns.size(); ++i) syns.at(i) = {};
}

}  // namespace

Tracer::Tracer(std::vector<const WorkerState*> workers)
    : workers_(std::move(workers)), batch_(std::make_unique<core::Batch>()) {
    WorkerLimits limits;
    limits.flows_v4 = limits.flows_v6 = limits.syns = kSmallTable;
    scratch_ = std::make_unique<WorkerState>(limits);
    // ICMP errors look for their flow in the others' tables.
    scratch_->know_others(workers_);
}

Traced Tracer::trace(std::span<const std::uint8_t> packet, const core::ForwardingTables& tables,
                     const core::HostState& host, std::uint64_t now_ns) noexcept {
    const Context context{tables, host, *scratch_};
    scratch_->set_time(now_ns);
    Traced out;
    load(packet);
    recall(context, out);
    load(packet);
    run(*batch_, context);
    const core::Packet& p = batch_->packets[0];
    if (p.verdict != core::Verdict::kHold) out.reason = p.reason;
    if (out.reason && knows_pool(p.reason)) out.pool = api::PoolId{p.pool_id};
    if (out.reason && knows_backend(p.reason)) {
        out.site = api::SiteId{p.site};
        out.backend = api::BackendId{p.backend};
    }
    if (p.verdict == core::Verdict::kTransmit) {
        out.frame = {p.data, p.length};
        out.port = p.port;
    }
    wipe();
    return out;
}

void Tracer::load(std::span<const std::uint8_t> packet) noexcept {
    const std::size_t size = std::min(packet.size(), kMaxPacket);
    std::uint8_t* frame = buffer_.data() + kHeadroom;
    std::fill_n(frame, kEthernet, std::uint8_t{0});
    const bool v6 = size != 0 && packet[0] >> 4U == 6;
    frame[12] = v6 ? 0x86 : 0x08;
    frame[13] = v6 ? 0xdd : 0x00;
    std::copy_n(packet.data(), size, frame + kEthernet);
    core::Packet& p = batch_->packets[0];
    p = core::Packet{};
    p.data = frame;
    p.length = static_cast<std::uint16_t>(kEthernet + size);
    p.headroom = kHeadroom;
    batch_->count = 1;
}

void Tracer::recall(const Context& context, Traced& out) noexcept {
    parse(*batch_, context);
    classify(*batch_, context);
    if (batch_->tcp().empty() && batch_->udp().empty()) return;
    const core::Packet& p = batch_->packets[0];
    p.v6 != 0 ? recall_flow<KeyedV6>(p, out) : recall_flow<KeyedV4>(p, out);
}

template <class Keyed>
void Tracer::recall_flow(const core::Packet& p, Traced& out) noexcept {
    const Keyed mine(p, *scratch_);
    for (unsigned i = 0; i < workers_.size(); ++i) {
        const WorkerState& worker = *workers_[i];
        const core::FlowValue flow = Keyed::flows_of(worker).peek(mine.key, p.flow_hash);
        const core::SynTable& syns = p.v6 != 0 ? worker.syns_v6 : worker.syns_v4;
        const auto syn = syns.peek(mine.syn_key, p.flow_hash, scratch_->syn_time());
        const bool known = flow.state() != core::FlowState::kEmpty;
        if (known) mine.flows.insert(mine.key, p.flow_hash, flow, scratch_->tick());
        if (syn) mine.syns.put(mine.syn_key, p.flow_hash, *syn);
        if (!known && !syn) continue;
        out.known = known ? Known::kFlow : Known::kSyn;
        out.worker = i;
        return;
    }
}

void Tracer::wipe() noexcept {
    clear(scratch_->flows_v4);
    clear(scratch_->flows_v6);
    clear(scratch_->syns_v4);
    clear(scratch_->syns_v6);
    scratch_->fragments = {};
    scratch_->segments.clear();
    scratch_->refill();
}

}  // namespace detour::stages
