#include "control/app/state_store.h"

#include <cmath>
#include <functional>
#include <unordered_map>

#include "control/app/state_text.h"

namespace detour::app {

namespace {

constexpr std::string_view kState = "detour-state";
constexpr std::string_view kIntents = "detour-intents";

// One way for each kind of name to become one word or two, and back.
void put(TextWriter& out, std::string_view tag, std::uint32_t id, std::uint64_t since,
         const std::string& key) {
    out.line(tag, id, since, key);
}
void put(TextWriter& out, std::string_view tag, std::uint32_t id, std::uint64_t since, const api::Vip& key) {
    out.line(tag, id, since, key.to_string());
}
void put(TextWriter& out, std::string_view tag, std::uint32_t id, std::uint64_t since, const plan::PoolKey&) {
    out.line(tag, id, since);
}
void put(TextWriter& out, std::string_view tag, std::uint32_t id, std::uint64_t since,
         const plan::BackendKey& key) {
    out.line(tag, id, since, key.first.value(), key.second.to_string());
}

void get(LineReader& in, std::string& key) {
    key = in.text();
}
void get(LineReader& in, api::Vip& key) {
    const auto vip = api::Vip::parse(in.text());
    if (vip)
        key = *vip;
    else
        in.fail();
}
void get(LineReader& in, api::IpAddress& key) {
    const auto address = api::IpAddress::parse(in.text());
    if (address)
        key = *address;
    else
        in.fail();
}
void get(LineReader& in, plan::BackendKey& key) {
    key.first = api::PoolId{in.number<std::uint16_t>()};
    get(in, key.second);
}

/// "site ID 0 NAME" in use; "site ID GENERATION NAME" retired since then; "site-next N".
template <class Id, class Key>
void encode_space(TextWriter& out, const std::string& tag, const plan::IdSpace<Id, Key>& space) {
    for (const auto& [key, id] : space.used) put(out, tag, id.value(), 0, key);
    for (const auto& [id, old] : space.retired) {
        put(out, tag + "-retired", id.value(), old.absent_from.value(), old.key);
    }
    out.line(tag + "-next", space.next);
}

template <class Id, class Key>
bool decode_space(LineReader& in, const std::string& tag, plan::IdSpace<Id, Key>& space) {
    if (in.name() == tag + "-next") {
        space.next = in.number<std::uint32_t>();
        return true;
    }
    if (in.name() != tag && in.name() != tag + "-retired") return false;
    const Id id{in.number<typename Id::rep>()};
    const api::Generation since{in.number<std::uint64_t>()};
    Key key;
    if constexpr (std::is_same_v<Key, plan::PoolKey>)
        key.id = id;
    else
        get(in, key);
    if (in.name() == tag)
        space.used[key] = id;
    else
        space.retired[id] = {key, since};
    return true;
}

void encode_record(TextWriter& out, const std::string& key, const failover::AdmissionRecord& record) {
    out.line("phase", key, static_cast<unsigned>(record.phase), record.stranded, record.hold_on_return,
             record.bad_answers, record.dark_since.value.count(), record.ramp_start.value.count(),
             record.mid_before.value());
    if (record.trickle) out.line("trickle", key);
}

void decode_record(LineReader& in, StoredState& state) {
    failover::AdmissionRecord record;
    const std::string key = in.text();
    const auto phase = in.number<std::uint8_t>();
    if (phase > static_cast<std::uint8_t>(failover::Phase::kHeld)) in.fail();
    record.phase = static_cast<failover::Phase>(phase);
    record.stranded = in.flag();
    record.hold_on_return = in.flag();
    record.bad_answers = in.flag();
    record.dark_since.value = health::nanoseconds{in.number<std::int64_t>()};
    record.ramp_start.value = health::nanoseconds{in.number<std::int64_t>()};
    record.mid_before = api::Admit{in.number<std::uint16_t>()};
    state.sites[key] = record;
}

/// False when the line's name is not known.
bool decode_line(LineReader& in, StoredState& state) {
    const std::string& name = in.name();
    if (name == "generation") {
        state.generation = api::Generation{in.number<std::uint64_t>()};
    } else if (name == "pool-of-vip") {
        api::Vip vip;
        get(in, vip);
        state.ids.pool_of_vip[vip] = api::PoolId{in.number<std::uint16_t>()};
    } else if (name == "pool-name") {
        const std::string pool = in.text();
        state.ids.pool_names[pool] = api::PoolId{in.number<std::uint16_t>()};
    } else if (name == "phase") {
        decode_record(in, state);
    } else if (name == "trickle") {
        state.sites[in.text()].trickle = true;
    } else if (name == "flaps") {
        const std::string key = in.text();
        const auto thousandths = in.number<std::uint32_t>();
        const health::WallTime at{health::nanoseconds{in.number<std::int64_t>()}};
        state.flaps[key] = failover::Flaps(thousandths / 1000.0, at);
    } else {
        return decode_space(in, "site", state.ids.sites) || decode_space(in, "vip", state.ids.vips) ||
               decode_space(in, "pool", state.ids.pools) || decode_space(in, "backend", state.ids.backends);
    }
    return true;
}

void put_target(TextWriter& out, const failover::Target& target) {
    const bool backend = target.kind == failover::TargetKind::kBackend;
    out.words(static_cast<unsigned>(target.kind), target.site, target.pool,
              backend ? target.address.to_string() : std::string{}, target.domain);
}

failover::Target get_target(LineReader& in) {
    failover::Target target;
    const auto kind = in.number<std::uint8_t>();
    if (kind > static_cast<std::uint8_t>(failover::TargetKind::kDomain)) in.fail();
    target.kind = static_cast<failover::TargetKind>(kind);
    target.site = in.text();
    target.pool = in.text();
    if (target.kind == failover::TargetKind::kBackend)
        get(in, target.address);
    else if (!in.text().empty())
        in.fail();
    target.domain = in.text();
    return target;
}

health::WallTime get_time(LineReader& in) {
    return {health::nanoseconds{in.number<std::int64_t>()}};
}

/// What every kind of intent has.
template <class Intent>
void put_rest(TextWriter& out, const Intent& intent) {
    out.words(intent.since.value.count(), intent.until.value.count(), intent.here, intent.reason, intent.by,
              intent.stamp.at.value.count(), intent.stamp.pop);
    out.end();
}

template <class Intent>
void get_rest(LineReader& in, Intent& intent) {
    intent.since = get_time(in);
    intent.until = get_time(in);
    intent.here = in.flag();
    intent.reason = in.text();
    intent.by = in.text();
    intent.stamp.at = get_time(in);
    intent.stamp.pop = in.text();
}

failover::Drain decode_drain(LineReader& in) {
    failover::Drain drain;
    drain.target = get_target(in);
    drain.forced = in.flag();
    drain.last_resort = in.flag();
    drain.percent = in.number<std::uint32_t>();
    if (drain.percent < 1 || drain.percent > 100) in.fail();
    const bool has_deadline = in.flag();
    const health::WallTime deadline = get_time(in);
    if (has_deadline) drain.deadline = deadline;
    if (!has_deadline && deadline != health::WallTime{}) in.fail();
    get_rest(in, drain);
    return drain;
}

failover::WeightOverride decode_weight(LineReader& in) {
    failover::WeightOverride weight;
    weight.target = get_target(in);
    weight.weight = in.number<std::uint32_t>();
    if (weight.weight > 65535) in.fail();
    weight.configured = in.number<std::uint64_t>();
    get_rest(in, weight);
    return weight;
}

/// False when the line's name is not known.
bool decode_intent(LineReader& in, StoredIntents& intents) {
    if (in.name() == "drain") {
        intents.drains.push_back(decode_drain(in));
    } else if (in.name() == "weight") {
        intents.weights.push_back(decode_weight(in));
    } else if (in.name() == "hold") {
        if (intents.hold) in.fail();
        get_rest(in, intents.hold.emplace());
    } else if (in.name() == "removed") {
        failover::Removed removed;
        removed.key = in.text();
        removed.until = get_time(in);
        removed.stamp.at = get_time(in);
        removed.stamp.pop = in.text();
        intents.removed.push_back(std::move(removed));
    } else {
        return false;
    }
    const bool many =
        intents.size() > failover::kMaxIntents || intents.removed.size() > failover::kMaxRemoved;
    if (many) in.fail();
    return true;
}

tl::unexpected<api::Error> bad_line(std::string_view kind, std::size_t index, const LineReader& line) {
    return api::fail(api::ErrorCode::kInvalidArgument, "reading " + std::string(kind),
                     "line " + std::to_string(index + 2) + " (" + line.name() + ") is not understood");
}

std::string encode_parts(api::Generation generation, const plan::Ids& ids,
                         const std::map<std::string, failover::AdmissionRecord>& sites,
                         const std::map<std::string, failover::Flaps>& flaps) {
    TextWriter out(kState);
    out.line("generation", generation.value());
    encode_space(out, "site", ids.sites);
    encode_space(out, "vip", ids.vips);
    encode_space(out, "pool", ids.pools);
    encode_space(out, "backend", ids.backends);
    for (const auto& [vip, pool] : ids.pool_of_vip) out.line("pool-of-vip", vip.to_string(), pool.value());
    for (const auto& [name, pool] : ids.pool_names) out.line("pool-name", name, pool.value());
    for (const auto& [key, record] : sites) encode_record(out, key, record);
    for (const auto& [key, value] : flaps) {
        const auto thousandths = static_cast<std::uint64_t>(std::llround(value.noted() * 1000));
        out.line("flaps", key, thousandths, value.at().value.count());
    }
    return out.finish();
}

}  // namespace

std::string encode(const StoredState& state) {
    return encode_parts(state.generation, state.ids, state.sites, state.flaps);
}

std::string encode(const StateToWrite& state) {
    return encode_parts(state.generation, *state.ids, state.sites, state.flaps);
}

std::string encode(const StoredIntents& intents) {
    TextWriter out(kIntents);
    for (const failover::Drain& drain : intents.drains) {
        out.begin("drain");
        put_target(out, drain.target);
        out.words(drain.forced, drain.last_resort, drain.percent, drain.deadline.has_value(),
                  drain.deadline.value_or(health::WallTime{}).value.count());
        put_rest(out, drain);
    }
    if (intents.hold) {
        out.begin("hold");
        put_rest(out, *intents.hold);
    }
    for (const failover::WeightOverride& weight : intents.weights) {
        out.begin("weight");
        put_target(out, weight.target);
        out.words(weight.weight, weight.configured);
        put_rest(out, weight);
    }
    for (const failover::Removed& removed : intents.removed) {
        out.line("removed", removed.key, removed.until.value.count(), removed.stamp.at.value.count(),
                 removed.stamp.pop);
    }
    return out.finish();
}

api::Result<StoredState> decode_state(std::string_view text) {
    auto lines = read_lines(text, kState);
    if (!lines) return tl::unexpected(lines.error());
    StoredState state;
    for (std::size_t i = 0; i < lines->size(); ++i) {
        LineReader& line = (*lines)[i];
        if (!decode_line(line, state) || !line.ok()) return bad_line(kState, i, line);
    }
    return state;
}

api::Result<StoredIntents> decode_intents(std::string_view text) {
    auto lines = read_lines(text, kIntents);
    if (!lines) return tl::unexpected(lines.error());
    StoredIntents intents;
    for (std::size_t i = 0; i < lines->size(); ++i) {
        LineReader& line = (*lines)[i];
        if (!decode_intent(line, intents) || !line.ok()) return bad_line(kIntents, i, line);
    }
    return intents;
}

}  // namespace detour::app
