#include "dataplane/core/answer.h"
#include "dataplane/stages/flow.h"
#include "dataplane/stages/new_flows.h"

namespace detour::stages {
namespace {

using api::Reason;
using core::FlowState;
using core::FlowValue;
using core::Packet;

/// A segment that follows the SYN within the first window of any common stack belongs to its handshake.
constexpr std::uint32_t kFirstWindow = 1U << 16U;

bool has(const Packet& p, std::uint8_t flags) noexcept {
    return (p.tcp_flags & flags) != 0;
}

/// A segment of a flow whose site or backend no longer keeps it.
template <class Entry>
void stranded(Packet& p, Entry& entry, const Context& context) noexcept {
    WorkerState& w = context.worker;
    const core::PoolEntry& pool = context.tables.pools[p.pool];
    const FlowValue v = entry.value();
    const bool end = ends(v.backend(), pool.id, context);
    if (pool.stranded == api::Stranded::kKeep && !was_reset(v.state()) && !end) {
        if (!context.tables.has_backend(v.backend())) return drop(p, Reason::kStranded);
        return send_to(p, v.backend(), context, Reason::kForwardedPinned);
    }
    if (pool.stranded == api::Stranded::kRehash && !was_reset(v.state())) {
        if (!choose(p, context, core::Admission::kNew, Reason::kForwardedRehashed)) return;
        return entry.set_value(v.with_backend(p.backend).with_tick(w.tick()));
    }
    // A RST is never answered; a client that sends one is gone. A living backend may learn it from that.
    if (has(p, core::kTcpRst)) {
        if (v.state() == FlowState::kSwept) w.swept.answered.add(1);
        entry.set_value(v.with_state(FlowState::kTombstone).with_tick(w.tick()));
        return end ? send_to(p, v.backend(), context, Reason::kForwardedPinned) : drop(p, Reason::kStranded);
    }
    if (!has(p, core::kTcpAck)) return drop(p, Reason::kStranded);
    // Who was only asked has paid with the question.
    const bool paid = end && v.state() == FlowState::kSwept;
    if (!paid && !w.resets.take(w.now_ns())) return drop(p, Reason::kResetOverBudget);
    if (end) reset_backend(p, v.backend(), context);
    entry.set_value(
        v.with_state(FlowState::kTombstone).with_ack(core::acknowledgement_of(p)).with_tick(w.tick()));
    core::answer_with_reset(p);
    p.verdict = core::Verdict::kTransmit;
    p.reason = Reason::kResetSent;
}

FlowState next_state(const Packet& p, FlowState state) noexcept {
    if (has(p, core::kTcpFin | core::kTcpRst)) return FlowState::kClosing;
    return state == FlowState::kSeenOnce ? FlowState::kEstablished : state;
}

/// To the backend that the entry names, and what the segment says of the flow into the entry.
template <class Entry>
void follow(Packet& p, Entry& entry, FlowValue old, const Context& context) noexcept {
    WorkerState& w = context.worker;
    send_to(p, old.backend(), context, Reason::kForwardedPinned);
    // No branch: whether a segment advances the ACK is anybody's guess.
    const bool advances =
        has(p, core::kTcpAck) & (static_cast<std::int32_t>(core::acknowledgement_of(p) - old.ack()) > 0);
    w.sites[p.site].ack_advanced.add(advances ? 1 : 0);
    const FlowValue now = old.with_ack(advances ? core::acknowledgement_of(p) : old.ack())
                              .with_state(next_state(p, old.state()))
                              .with_tick(w.tick());
    if (now.word() != old.word()) entry.set_value(now);
}

template <class Entry>
void pinned(Packet& p, Entry& entry, const Context& context) noexcept {
    const FlowValue v = entry.value();
    const bool live = !was_reset(v.state()) && keeps(v.backend(), api::PoolId{p.pool_id}, context);
    if (!live) return stranded(p, entry, context);
    follow(p, entry, v, context);
}

void count_syn(const Packet& p, std::uint32_t client_prefix, WorkerState& w) noexcept {
    w.sites[p.site].syns.add(1);
    w.prefixes[p.site].syns[PrefixTallies::bucket(client_prefix)].add(1);
    w.backends[p.backend].syns.add(1);
}

void count_handshake(std::uint16_t backend, std::uint32_t client_prefix, const Context& context) noexcept {
    WorkerState& w = context.worker;
    const std::uint8_t site = context.tables.backends[backend].site;
    w.sites[site].handshakes.add(1);
    w.prefixes[site].handshakes[PrefixTallies::bucket(client_prefix)].add(1);
    w.backends[backend].handshakes.add(1);
}

/// An entry that gave way. When it was young its handshake may yet come, and will not be known.
void count_forgotten(const core::SynEntry& gone, const Context& context) noexcept {
    WorkerState& w = context.worker;
    const std::uint32_t age = core::SynTable::age_ms(gone, w.syn_time());
    if (age > kHandshakeMs || !context.tables.has_backend(gone.backend)) return;
    SiteSignals& site = w.sites[context.tables.backends[gone.backend].site];
    site.syns_forgotten.add(1);
    site.forgotten_ms.add(age);
}

/// A SYN that was just dropped because nobody takes it: refused instead, where the pool says so.
void refuse_if_asked(Packet& p, const Context& context) noexcept {
    WorkerState& w = context.worker;
    if (context.tables.pools[p.pool].on_empty != api::Refusal::kReset || !w.resets.take(w.now_ns())) return;
    core::refuse_syn(p);
    p.verdict = core::Verdict::kTransmit;
    p.reason = Reason::kEmptyReset;
}

/// A SYN follows no pin and makes none: it is placed anew and remembered for its handshake's ACK.
template <class Keyed>
void syn(Packet& p, Keyed& k, const Context& context) noexcept {
    WorkerState& w = context.worker;
    const api::PoolId pool{p.pool_id};
    const core::SynTable::Place place = k.syns.look(k.syn_key, p.flow_hash, w.syn_time());
    const core::SynEntry* before = place.known;
    const bool repeated = before != nullptr && before->isn == core::sequence_of(p);
    bool placed = false;
    if (repeated && keeps(before->backend, pool, context)) {
        // The same SYN again goes where its handshake began, as long as that would take it today: a site that
        // keeps a trickle of its flows must not keep those that were there before.
        const std::uint8_t site = context.tables.backends[before->backend].site;
        const std::uint16_t admit = context.host.effective(pool, api::SiteId{site}).admit.value();
        const api::HashKey key = context.tables.pools[p.pool].hash;
        const std::uint64_t hash = choice_hash(p, client_of(p), key, context.tables.seed);
        placed = core::fraction(hash, context.tables.site_keys[site]) < admit &&
                 context.host.backend(api::BackendId{before->backend}).up;
        if (placed) send_to(p, before->backend, context, Reason::kForwardedNew);
        w.sites[site].syns_repeated.add(1);
    }
    if (!placed) {
        if (!choose(p, context, core::Admission::kNew, Reason::kForwardedNew))
            return refuse_if_asked(p, context);
        if (!within_limits(p, context)) return;
    }
    if (!repeated) count_syn(p, k.client_prefix, w);
    const core::SynEntry gone = core::SynTable::put(
        *place.next,
        {.key = k.syn_key, .isn = core::sequence_of(p), .backend = p.backend, .time = w.syn_time()});
    if (gone.time != 0) count_forgotten(gone, context);
    if (auto* entry = k.flows.find(k.key, p.flow_hash)) entry->set_value(entry->value().with_syn_pending(1));
}

/// True when the segment belongs to the handshake of the remembered SYN. With a live pin of the same key only
/// the exact next number does: a spoofed SYN must not unpin it.
bool continues(const Packet& p, const core::SynEntry& s, bool exact) noexcept {
    const std::uint32_t distance = core::sequence_of(p) - (s.isn + 1);
    return exact ? distance == 0 : distance < kFirstWindow;
}

template <class Keyed, class Entry>
void handshake(Packet& p, Keyed& k, core::SynEntry& s, Entry* entry, const Context& context) noexcept {
    WorkerState& w = context.worker;
    if (has(p, core::kTcpRst)) {
        if (!context.tables.has_backend(s.backend)) return drop(p, Reason::kStranded);
        return send_to(p, s.backend, context, Reason::kForwardedHandshake);
    }
    // An id that has left the plan is not written down anew: see WorkerState::scanned().
    const std::uint16_t backend = context.tables.has_backend(s.backend) ? s.backend : core::kNoBackendId;
    const FlowValue v = FlowValue::make(backend, FlowState::kSeenOnce, core::acknowledgement_of(p), w.tick());
    if (entry != nullptr) {
        entry->set_value(v);
    } else if (w.may_insert(core::MayEvict::kConfirmed)) {
        w.flow_tally.count(k.flows.insert(k.key, p.flow_hash, v, w.tick()), w.tick());
    } else {
        // The SYN stays, and the next segment asks again: by its hash the flow might belong elsewhere by now.
        if (!keeps(backend, api::PoolId{p.pool_id}, context)) return drop(p, Reason::kStranded);
        return send_to(p, backend, context, Reason::kForwardedHandshake);
    }
    s.time = 0;
    // Whatever becomes of the flow: its site's answer has reached the client.
    if (context.tables.has_backend(v.backend())) count_handshake(v.backend(), k.client_prefix, context);
    if (!keeps(v.backend(), api::PoolId{p.pool_id}, context)) {
        entry = k.flows.find(k.key, p.flow_hash);
        return entry == nullptr ? drop(p, Reason::kStranded) : stranded(p, *entry, context);
    }
    send_to(p, v.backend(), context, Reason::kForwardedHandshake);
}

template <class Keyed>
void mid_flow(Packet& p, Keyed& k, const Context& context) noexcept {
    if (!choose(p, context, core::Admission::kMid, Reason::kForwardedMid)) return;
    WorkerState& w = context.worker;
    if (has(p, core::kTcpRst | core::kTcpFin) || !w.may_insert(core::MayEvict::kUnconfirmed)) return;
    const FlowValue v =
        FlowValue::make(p.backend, FlowState::kSeenOnce, core::acknowledgement_of(p), w.tick());
    w.flow_tally.count(k.flows.insert(k.key, p.flow_hash, v, w.tick(), core::MayEvict::kUnconfirmed),
                       w.tick());
}

template <class Keyed>
void tcp(Packet& p, const Context& context) noexcept {
    Keyed k(p, context.worker);
    if ((p.tcp_flags & (core::kTcpSyn | core::kTcpAck)) == core::kTcpSyn) return syn(p, k, context);
    auto* entry = k.flows.find(k.key, p.flow_hash);
    if (entry != nullptr && !entry->value().syn_pending()) return pinned(p, *entry, context);
    core::SynEntry* s = k.syns.find(k.syn_key, p.flow_hash, context.worker.syn_time());
    const bool live_pin = entry != nullptr && !was_reset(entry->value().state());
    // A backend that still knows an older connection of this 5-tuple answers the SYN with a challenge ACK,
    // and its client with a RST of the old numbers (RFC 5961): it belongs to where the SYN went.
    const bool refuses = !live_pin && has(p, core::kTcpRst);
    if (s != nullptr && (refuses || continues(p, *s, live_pin))) return handshake(p, k, *s, entry, context);
    if (entry == nullptr) return mid_flow(p, k, context);
    if (s == nullptr) entry->set_value(entry->value().with_syn_pending(0));
    pinned(p, *entry, context);
}

/// What the fast pass reads for every packet, taken out of the context once a burst: the compiler can't know
/// that the packets' stores leave it alone.
struct FastView {
    explicit FastView(const Context& c) noexcept
        : worker(c.worker),
          host(c.host),
          backends(c.tables.backends.data()),
          backend_count(c.tables.backends.size()),
          headers(c.tables.headers.data()),
          tick(c.worker.tick()) {}
    WorkerState& worker;
    const core::HostState& host;
    const core::BackendEntry* backends;
    std::size_t backend_count;
    const core::EncapHeader* headers;
    std::uint16_t tick;
};

/// keeps() of select.h. `kPoolSwitches`: whether any pool has a switch of its own.
template <bool kPoolSwitches>
[[gnu::always_inline]] inline bool keeps_fast(const Packet& p, std::uint16_t id, const FastView& f) noexcept {
    if (id >= f.backend_count || (f.backends[id].flags & core::kBackendPresent) == 0) return false;
    const api::SiteId site{f.backends[id].site};
    return f.host.backend(api::BackendId{id}).keep && f.host.keeps(site) &&
           (!kPoolSwitches || f.host.keeps_own(api::PoolId{p.pool_id}, site));
}

/// A bare ACK or data of a live established flow whose entry lies where it should: nearly all packets. What
/// pinned() and follow() would do for it. True when it is done; all else is left to tcp().
template <class Keyed, bool kPoolSwitches>
[[gnu::always_inline]] inline bool pinned_fast(Packet& p, const FastView& f) noexcept {
    constexpr unsigned kDecides = core::kTcpSyn | core::kTcpFin | core::kTcpRst | core::kTcpAck;
    if ((p.tcp_flags & kDecides) != core::kTcpAck) return false;
    Keyed k(p, f.worker);
    auto* entry = k.flows.find_first(k.key, p.flow_hash);
    if (entry == nullptr) return false;
    const FlowValue old = entry->value();
    const std::uint16_t id = old.backend();
    if (!old.is_settled() || !keeps_fast<kPoolSwitches>(p, id, f)) return false;
    __builtin_prefetch(&f.headers[id]);
    // No branch: whether a segment advances the ACK is anybody's guess.
    const std::uint32_t acknowledged = core::acknowledgement_of(p);
    const bool advances = static_cast<std::int32_t>(acknowledged - old.ack()) > 0;
    const std::uint8_t site = f.backends[id].site;
    f.worker.sites[site].ack_advanced.add(advances ? 1 : 0);
    p.backend = id;
    p.site = site;
    p.reason = Reason::kForwardedPinned;
    const FlowValue now = old.seen(advances ? acknowledged : old.ack(), f.tick);
    if (now.word() != old.word()) entry->set_value(now);
    return true;
}

/// What it leaves goes to `batch.rest`. Not inlined: alone it has the registers to itself. A pool's switch
/// that is set during a burst holds from the next burst on.
template <bool kPoolSwitches>
[[gnu::noinline]] void fast_pass(core::Batch& batch, const Context& context) noexcept {
    const FastView fast(context);
    for (const std::uint8_t i : batch.tcp()) {
        Packet& p = batch.packets[i];
        const bool done = p.v6 != 0 ? pinned_fast<KeyedV6, kPoolSwitches>(p, fast)
                                    : pinned_fast<KeyedV4, kPoolSwitches>(p, fast);
        if (!done) batch.rest.add(i);
    }
}

template <class Keyed>
void prefetch_keyed(const Packet& p, WorkerState& w) noexcept {
    const Keyed k(p, w);
    k.flows.prefetch_second(k.key, p.flow_hash);
    k.syns.prefetch(p.flow_hash);
}

void prefetch_rest(const Packet& p, WorkerState& w) noexcept {
    p.v6 != 0 ? prefetch_keyed<KeyedV6>(p, w) : prefetch_keyed<KeyedV4>(p, w);
}

}  // namespace

void flow_tcp(core::Batch& batch, const Context& context) noexcept {
    batch.rest.clear();
    context.host.has_pool_switches() ? fast_pass<true>(batch, context) : fast_pass<false>(batch, context);
    if (batch.rest.empty()) return;
    for (const std::uint8_t i : batch.rest) prefetch_rest(batch.packets[i], context.worker);
    prefetch_choices(batch, context);
    for (const std::uint8_t i : batch.rest) {
        Packet& p = batch.packets[i];
        p.v6 != 0 ? tcp<KeyedV6>(p, context) : tcp<KeyedV4>(p, context);
    }
}

}  // namespace detour::stages
