#include "tests/support/flow_model.h"

#include <algorithm>

namespace detour::model {
namespace {

using api::Reason;

constexpr std::uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;
constexpr std::uint64_t kTick = 2'000'000'000;       // ns
constexpr std::uint64_t kSynUnit = 16'000'000;       // ns
constexpr std::uint64_t kSynLifetime = 63'000 / 16;  // units
constexpr std::uint32_t kFirstWindow = 65'536;       // bytes

/// 16 ms units, odd ones: two neighbours are one.
std::uint64_t syn_time(std::uint64_t now_ns) {
    return now_ns / kSynUnit / 2 * 2 + 1;
}

template <class Map, class Key>
const typename Map::mapped_type* look(const Map& map, const Key& key) {
    const auto found = map.find(key);
    return found == map.end() ? nullptr : &found->second;
}

}  // namespace

void FlowModel::apply(const api::ForwardingPlan& plan) {
    plan_ = plan;
    choices_ = Model(plan);
}

std::optional<api::SiteId> FlowModel::site_of(const api::PlanPool& pool,
                                              std::optional<api::BackendId> backend) const {
    for (const api::PlanPoolSite& site : pool.sites)
        for (const api::PlanBackend& b : site.backends)
            if (backend == b.id) return site.site;
    return std::nullopt;
}

bool FlowModel::in_plan(std::optional<api::BackendId> backend) const {
    return std::ranges::any_of(plan_.pools,
                               [&](const auto& pool) { return site_of(pool, backend).has_value(); });
}

bool FlowModel::keeps(const Now& now, std::optional<api::BackendId> backend) const {
    const auto site = site_of(now.pool, backend);
    if (!site) return false;
    const auto* own = look(now.switches.backends, *backend);
    const auto* host = look(now.switches.sites, *site);
    const auto* pool = look(now.switches.pools, std::pair{now.pool.id, *site});
    return (own == nullptr || own->keep) && (host == nullptr || host->keep) &&
           (pool == nullptr || pool->keep);
}

bool FlowModel::ends(const Now& now, std::optional<api::BackendId> backend) const {
    const auto site = site_of(now.pool, backend);
    if (!site) return false;
    const auto* own = look(now.switches.backends, *backend);
    const auto* host = look(now.switches.sites, *site);
    const auto* pool = look(now.switches.pools, std::pair{now.pool.id, *site});
    const bool site_keeps = (host == nullptr || host->keep) && (pool == nullptr || pool->keep);
    const bool site_ends = (host != nullptr && host->end) || (pool != nullptr && pool->end);
    return (own != nullptr && !own->keep && own->end) || (!site_keeps && site_ends);
}

const FlowModel::Syn* FlowModel::remembered(const Now& now) const {
    const Syn* syn = look(syns_, now.packet.flow);
    return syn != nullptr && now.syn_time - syn->time <= kSynLifetime ? syn : nullptr;
}

Fate FlowModel::chosen(const Now& now, Admission admission, Reason reason) const {
    const Choice choice = *choices_.choose(now.packet.flow, now.switches, admission);
    if (choice.backend) return {reason, choice.backend};
    return {choice.site ? Reason::kNoBackend : Reason::kNoSite, std::nullopt};
}

Fate FlowModel::receive(const Packet& packet, const Switches& switches, std::uint64_t now_ns) {
    const auto pool = std::ranges::find_if(plan_.pools, [&](const api::PlanPool& p) {
        return std::ranges::any_of(p.vips, [&](const api::PlanVip& v) { return v.vip == packet.flow.vip; });
    });
    const Now now{packet, switches, *pool, now_ns / kTick, syn_time(now_ns)};
    return packet.flow.vip.protocol == api::Protocol::kTcp ? tcp(now) : udp(now);
}

Fate FlowModel::tcp(const Now& now) {
    const Packet& p = now.packet;
    if ((p.flags & kSyn) != 0 && (p.flags & kAck) == 0) return syn(now);
    const auto pin = pins_.find(p.flow);
    const bool known = pin != pins_.end();
    if (known && !pin->second.syn_since) return pinned(now, pin->second);
    const bool live = known && pin->second.state != State::kOver;
    if (const Syn* s = remembered(now)) {
        // Beside a live flow only the very next number counts: anybody can forge a SYN.
        const std::uint32_t distance = p.sequence - s->sequence - 1;
        const bool continues = live ? distance == 0 : distance < kFirstWindow;
        // A RST that refuses an old backend's challenge ACK has the old connection's numbers.
        if (continues || (!live && (p.flags & kRst) != 0)) return handshake(now);
    } else if (known) {
        pin->second.syn_since = false;
    }
    return known ? pinned(now, pin->second) : unknown(now);
}

Fate FlowModel::syn(const Now& now) {
    const Flow& flow = now.packet.flow;
    Fate fate{Reason::kForwardedNew, std::nullopt};
    const Syn* before = remembered(now);
    if (before != nullptr && before->sequence == now.packet.sequence && keeps(now, before->backend)) {
        // The same SYN again goes where it went, where a new one might go today.
        if (choices_.admits(flow, *site_of(now.pool, before->backend), now.switches) &&
            choices_.is_up(before->backend, now.switches))
            fate.backend = before->backend;
    }
    if (!fate.backend) fate = chosen(now, Admission::kNew, Reason::kForwardedNew);
    if (!fate.backend) {
        if (now.pool.on_empty == api::Refusal::kReset) fate.reason = Reason::kEmptyReset;
        return fate;
    }
    syns_[flow] = {now.packet.sequence, *fate.backend, now.syn_time};
    if (const auto pin = pins_.find(flow); pin != pins_.end()) pin->second.syn_since = true;
    return fate;
}

Fate FlowModel::handshake(const Now& now) {
    const Packet& p = now.packet;
    const api::BackendId backend = syns_.at(p.flow).backend;
    if ((p.flags & kRst) != 0) {
        if (!in_plan(backend)) return {Reason::kStranded, std::nullopt};
        return {Reason::kForwardedHandshake, backend};
    }
    syns_.erase(p.flow);
    Pin& pin = pins_[p.flow] = {std::nullopt, State::kOnce, p.acknowledgement, now.tick};
    if (in_plan(backend)) pin.backend = backend;
    if (!keeps(now, backend)) return stranded(now, pin);
    return {Reason::kForwardedHandshake, backend};
}

Fate FlowModel::pinned(const Now& now, Pin& pin) {
    const Packet& p = now.packet;
    if (pin.state == State::kOver || !keeps(now, pin.backend)) return stranded(now, pin);
    const bool advances = static_cast<std::int32_t>(p.acknowledgement - pin.acknowledged) > 0;
    if ((p.flags & kAck) != 0 && advances) pin.acknowledged = p.acknowledgement;
    if ((p.flags & (kFin | kRst)) != 0)
        pin.state = State::kClosing;
    else if (pin.state == State::kOnce)
        pin.state = State::kEstablished;
    pin.tick = now.tick;
    return {Reason::kForwardedPinned, pin.backend};
}

Fate FlowModel::stranded(const Now& now, Pin& pin) {
    const Packet& p = now.packet;
    const bool over = pin.state == State::kOver;
    const bool told = ends(now, pin.backend);
    if (now.pool.stranded == api::Stranded::kKeep && !over && !told) {
        if (!in_plan(pin.backend)) return {Reason::kStranded, std::nullopt};
        return {Reason::kForwardedPinned, pin.backend};
    }
    if (now.pool.stranded == api::Stranded::kRehash && !over) {
        const Fate fate = chosen(now, Admission::kNew, Reason::kForwardedRehashed);
        if (!fate.backend) return fate;
        pin.backend = fate.backend;
        pin.tick = now.tick;
        return fate;
    }
    if ((p.flags & (kRst | kAck)) == 0) return {Reason::kStranded, std::nullopt};
    pin.state = State::kOver;
    pin.tick = now.tick;
    // A RST is never answered.
    if ((p.flags & kRst) != 0) {
        if (told) return {Reason::kForwardedPinned, pin.backend};
        return {Reason::kStranded, std::nullopt};
    }
    pin.acknowledged = p.acknowledgement;
    return {Reason::kResetSent, std::nullopt, told ? pin.backend : std::nullopt};
}

Fate FlowModel::unknown(const Now& now) {
    const Packet& p = now.packet;
    const Fate fate = chosen(now, Admission::kMid, Reason::kForwardedMid);
    if (fate.backend && (p.flags & (kRst | kFin)) == 0)
        pins_[p.flow] = {fate.backend, State::kOnce, p.acknowledgement, now.tick};
    return fate;
}

Fate FlowModel::udp(const Now& now) {
    const Flow& flow = now.packet.flow;
    if (now.pool.hash == api::HashKey::kQuicCid)
        if (const auto named = choices_.named(flow.vip, now.packet.datagram, now.switches))
            return by_connection_id(now, *named->backend);
    const auto found = pins_.find(flow);
    if (found == pins_.end()) {
        const Fate fate = chosen(now, Admission::kNew, Reason::kForwardedNew);
        if (fate.backend) pins_[flow] = {fate.backend, State::kOnce, 0, now.tick};
        return fate;
    }
    Pin& pin = found->second;
    const bool spared =
        now.pool.stranded == api::Stranded::kKeep && in_plan(pin.backend) && !ends(now, pin.backend);
    Fate fate{Reason::kForwardedPinned, pin.backend};
    if (!keeps(now, pin.backend) && !spared) fate = chosen(now, Admission::kNew, Reason::kForwardedRehashed);
    if (fate.backend) pin = {fate.backend, State::kDatagrams, 0, now.tick};
    return fate;
}

Fate FlowModel::by_connection_id(const Now& now, api::BackendId backend) {
    const auto pin = pins_.find(now.packet.flow);
    const bool known = pin != pins_.end() && pin->second.backend == backend;
    const State state = pin == pins_.end() ? State::kOnce : State::kDatagrams;
    pins_[now.packet.flow] = {backend, state, 0, now.tick};
    return {known ? Reason::kForwardedPinned : Reason::kForwardedCid, backend};
}

void FlowModel::sweep(std::uint64_t now_ns) {
    const auto seconds = [](State state) {
        switch (state) {
            case State::kOver:
            case State::kClosing:
                return 60U;
            case State::kOnce:
                return 120U;
            case State::kDatagrams:
                return 180U;
            case State::kEstablished:
                break;
        }
        return 7200U;
    };
    std::erase_if(pins_, [&](const auto& entry) {
        return (now_ns / kTick - entry.second.tick) * kTick > seconds(entry.second.state) * 1'000'000'000ULL;
    });
    for (auto& [flow, pin] : pins_)
        if (!in_plan(pin.backend)) pin.backend.reset();
    std::erase_if(syns_, [&](const auto& entry) {
        return syn_time(now_ns) - entry.second.time > kSynLifetime || !in_plan(entry.second.backend);
    });
}

}  // namespace detour::model
