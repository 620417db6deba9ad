// Fragments: the first one is a packet like any other; the later ones follow it, wait for it, or are dropped.
#include "dataplane/core/fragment.h"

#include "dataplane/core/bytes.h"
#include "dataplane/stages/flow.h"

namespace detour::stages {
namespace {

using core::Fragment;
using core::FragmentEntry;
using core::FragmentKind;
using core::Packet;
using State = core::FragmentEntry::State;

/// False when it overlaps another one: then the whole datagram is given up (RFC 5722, section 4).
bool note(Packet& p, const Fragment& f, FragmentEntry& entry, WorkerState& w) noexcept {
    if (entry.state == State::kDropped) return drop(p, api::Reason::kFragment), false;
    switch (entry.add(f.begin, f.end)) {
        case FragmentEntry::Added::kNew:
            entry.time = w.now_ms();
            if (!f.more) entry.whole = f.end;
            return true;
        case FragmentEntry::Added::kAgain:
            drop(p, api::Reason::kOverlappingFragment);
            return false;
        case FragmentEntry::Added::kOverlap:
            entry.state = State::kDropped;
            w.fragments.release(f.tag);
            drop(p, api::Reason::kOverlappingFragment);
            return false;
        case FragmentEntry::Added::kTooMany:
            break;
    }
    drop(p, api::Reason::kFragment);
    return false;
}

void wait(Packet& p, const Fragment& f, WorkerState& w) noexcept {
    const std::uint16_t slot = w.fragments.hold(f.tag, w.now_ms());
    if (slot == core::FragmentCache::kNoSlot) return drop(p, api::Reason::kFragment);
    p.verdict = core::Verdict::kHold;
    p.backend = slot;
}

void later(Packet& p, const Fragment& f, const Context& context) noexcept {
    WorkerState& w = context.worker;
    FragmentEntry* entry = w.fragments.find(f.tag, w.now_ms());
    if (entry == nullptr || entry->state == State::kWaiting) return wait(p, f, w);
    if (entry->state == State::kKernel) return to_kernel(p, api::Reason::kNoService);
    if (!note(p, f, *entry, w)) return;
    if (!context.tables.has_backend(entry->backend)) return drop(p, api::Reason::kFragment);
    p.pool = entry->pool;
    p.pool_id = entry->pool_id;
    p.vip = entry->vip;
    p.flow_hash = entry->flow_hash;
    send_to(p, entry->backend, context, api::Reason::kForwardedFragment);
    // Its sender, or another one behind the same address, may use the identification again.
    if (entry->complete()) entry->state = State::kEmpty;
}

void fragment_one(core::Batch& batch, std::uint32_t index, const Context& context) noexcept {
    Packet& p = batch.packets[index];
    if (!is_for_a_vip(p, context)) return to_kernel(p, api::Reason::kNotOurs);
    WorkerState& w = context.worker;
    const Fragment f = core::read_fragment(p, context.tables.seed);
    switch (f.kind) {
        case FragmentKind::kFirst:
            if (note(p, f, w.fragments.find_or_make(f.tag, w.now_ms()), w)) {
                batch.first_fragment_tags[index] = f.tag;
                batch.first_fragments.add_if(index, 1);
            }
            return;
        case FragmentKind::kLater:
            return later(p, f, context);
        case FragmentKind::kOther:
            return to_kernel(p, api::Reason::kNoService);
        case FragmentKind::kTiny:
            return drop(p, api::Reason::kTinyFragment);
        case FragmentKind::kBad:
            return drop(p, api::Reason::kBadFragment);
    }
}

/// Where the first fragment goes, the others of its datagram go.
void learn(const Packet& p, std::uint64_t tag, WorkerState& w) noexcept {
    FragmentEntry& entry = w.fragments.find_or_make(tag, w.now_ms());
    if (p.verdict == core::Verdict::kPending) {
        entry.state = State::kKnown;
    } else {
        entry.state = p.verdict == core::Verdict::kKernel ? State::kKernel : State::kDropped;
    }
    entry.flow_hash = p.flow_hash;
    entry.pool = p.pool;
    entry.pool_id = p.pool_id;
    entry.vip = p.vip;
    entry.backend = p.backend;
    w.fragments.release(tag);
}

}  // namespace

void fragment(core::Batch& batch, const Context& context) noexcept {
    batch.first_fragments.clear();
    for (const std::uint8_t i : batch.fragments) fragment_one(batch, i, context);
}

void fragment_follow(core::Batch& batch, const Context& context) noexcept {
    for (const std::uint8_t i : batch.first_fragments)
        learn(batch.packets[i], batch.first_fragment_tags[i], context.worker);
}

}  // namespace detour::stages
