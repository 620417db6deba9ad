// Each message's members and their JSON names, once, for the reader and the writer of json.cpp.
//
// A visitor has operator()(name, member) for a member that must be there, and optional(name, member) for one
// that may be left out (and is, when it is empty). Included by json.cpp alone.
#pragma once

#include <concepts>
#include <type_traits>

#include "control/api/messages.h"

namespace detour::control {

/// X is T or const T: the same list serves reading and writing.
template <class X, class T>
concept Like = std::same_as<std::remove_const_t<X>, T>;

/// Requests: an unknown member is an error.
template <class T>
inline constexpr bool kStrict =
    std::same_as<T, DrainRequest> || std::same_as<T, UndrainRequest> || std::same_as<T, HoldRequest> ||
    std::same_as<T, ReleaseRequest> || std::same_as<T, WeightRequest> || std::same_as<T, ReloadRequest> ||
    std::same_as<T, ConfigDiffRequest> || std::same_as<T, PacketTraceRequest> ||
    std::same_as<T, CaptureRequest> || std::same_as<T, CaptureReadRequest>;

template <class V>
void fields(V& v, Like<Version> auto& x) {
    v("version", x.version);
    v("api", x.api);
    v("pop", x.pop);
    v("started", x.started);
}

template <class V>
void fields(V& v, Like<Drain> auto& x) {
    v("target", x.target);
    v("kind", x.kind);
    v("since", x.since);
    v.optional("expires", x.expires);
    v("reason", x.reason);
    v("by", x.by);
    v("forced", x.forced);
    v("last_resort", x.last_resort);
    v("percent", x.percent);
    v.optional("deadline", x.deadline);
    v.optional("here", x.here);
    v("acknowledged", x.acknowledged);
    v.optional("new_flows_per_second", x.new_flows_per_second);
    v.optional("flows_left", x.flows_left);
}

template <class V>
void fields(V& v, Like<BfdSession> auto& x) {
    v("address", x.address);
    v("state", x.state);
    v("since", x.since);
    v("reason", x.reason);
}

template <class V>
void fields(V& v, Like<Hold> auto& x) {
    v("since", x.since);
    v("expires", x.expires);
    v("reason", x.reason);
    v("by", x.by);
    v.optional("here", x.here);
}

template <class V>
void fields(V& v, Like<WeightOverride> auto& x) {
    v("target", x.target);
    v("weight", x.weight);
    v("since", x.since);
    v("expires", x.expires);
    v("reason", x.reason);
    v("by", x.by);
    v.optional("here", x.here);
}

template <class V>
void fields(V& v, Like<SiteStatus> auto& x) {
    v("name", x.name);
    v("domain", x.domain);
    v("tier", x.tier);
    v("verdict", x.verdict);
    v("since", x.since);
    v("admit", x.admit);
    v("keep", x.keep);
    v("reason", x.reason);
    v("backends_up", x.backends_up);
    v("backends", x.backends);
    v.optional("new_flows_per_second", x.new_flows_per_second);
    v.optional("packets_per_second", x.packets_per_second);
    v.optional("bits_per_second", x.bits_per_second);
    v.optional("flows", x.flows);
    v("capacity_new_flows", x.capacity_new_flows);
    v.optional("drain", x.drain);
    v.optional("load", x.load);
    v.optional("full", x.full);
    v.optional("trickle", x.trickle);
    v.optional("bfd", x.bfd);
}

template <class V>
void fields(V& v, Like<PoolSite> auto& x) {
    v("site", x.site);
    v("tier", x.tier);
    v("weight", x.weight);
    v("admit", x.admit);
    v("backends_up", x.backends_up);
    v("backends", x.backends);
    v.optional("share", x.share);
}

template <class V>
void fields(V& v, Like<PoolStatus> auto& x) {
    v("name", x.name);
    v("vips", x.vips);
    v("encap", x.encap);
    v("hash", x.hash);
    v("stranded", x.stranded);
    v("priority", x.priority);
    v("min_sites", x.min_sites);
    v("state", x.state);
    v("reason", x.reason);
    v("sites", x.sites);
    v.optional("data", x.data);
    v.optional("writer", x.writer);
    v.optional("depends_on", x.depends_on);
    v.optional("without", x.without);
    v.optional("shed", x.shed);
}

template <class V>
void fields(V& v, Like<BackendStatus> auto& x) {
    v("pool", x.pool);
    v("site", x.site);
    v("address", x.address);
    v("weight", x.weight);
    v("state", x.state);
    v("since", x.since);
    v("reason", x.reason);
    v("up", x.up);
    v("keep", x.keep);
    v.optional("probe_ms", x.probe_ms);
    v.optional("drain", x.drain);
}

template <class V>
void fields(V& v, Like<WorkerStatus> auto& x) {
    v("worker", x.worker);
    v("acknowledged", x.acknowledged);
    v("flows_v4", x.flows_v4);
    v("flows_v6", x.flows_v6);
    v("entries_v4", x.entries_v4);
    v("entries_v6", x.entries_v6);
    v("evicted_confirmed", x.evicted_confirmed);
    v("evicted_unconfirmed", x.evicted_unconfirmed);
    v("evicted_idle_seconds", x.evicted_idle_seconds);
}

template <class V>
void fields(V& v, Like<DataplaneStatus> auto& x) {
    v("connected", x.connected);
    v("version", x.version);
    v("restored", x.restored);
    v("generation", x.generation);
    v("acknowledged", x.acknowledged);
    v("rebuilds", x.rebuilds);
    v("workers", x.workers);
    v("problem", x.problem);
}

template <class V>
void fields(V& v, Like<DomainStatus> auto& x) {
    v("path", x.path);
    v("verdict", x.verdict);
    v("sites", x.sites);
    v("taking", x.taking);
    v("backends_up", x.backends_up);
    v("backends", x.backends);
}

template <class V>
void fields(V& v, Like<IncidentLine> auto& x) {
    v("time", x.time);
    v("at_ms", x.at_ms);
    v("kind", x.kind);
    v("text", x.text);
    v.optional("rule", x.rule);
}

template <class V>
void fields(V& v, Like<Incident> auto& x) {
    v("number", x.number);
    v.optional("site", x.site);
    v("opened", x.opened);
    v.optional("closed", x.closed);
    v("text", x.text);
    v.optional("switched_ms", x.switched_ms);
    v("lines", x.lines);
    v("left_out", x.left_out);
}

template <class V>
void fields(V& v, Like<IncidentSummary> auto& x) {
    v("number", x.number);
    v.optional("site", x.site);
    v("opened", x.opened);
    v.optional("closed", x.closed);
    v("text", x.text);
    v.optional("switched_ms", x.switched_ms);
}

template <class V>
void fields(V& v, Like<Status> auto& x) {
    v("version", x.version);
    v("now", x.now);
    v("state", x.state);
    v("alarms", x.alarms);
    v("dataplane", x.dataplane);
    v("sites", x.sites);
    v("pools", x.pools);
    v("pools_not_ok", x.pools_not_ok);
    v("drains", x.drains);
    v.optional("domains", x.domains);
    v.optional("incidents", x.incidents);
    v.optional("hold", x.hold);
    v.optional("weights", x.weights);
}

template <class V>
void fields(V& v, Like<Event> auto& x) {
    v("sequence", x.sequence);
    v("time", x.time);
    v("kind", x.kind);
    v("severity", x.severity);
    v.optional("site", x.site);
    v.optional("pool", x.pool);
    v.optional("backend", x.backend);
    v("text", x.text);
    v.optional("data", x.data);
}

template <class V>
void fields(V& v, Like<EventPage> auto& x) {
    v("first", x.first);
    v("last", x.last);
    v("events", x.events);
}

template <class V>
void fields(V& v, Like<DrainRequest> auto& x) {
    v("target", x.target);
    v.optional("for_s", x.for_s);
    v.optional("reason", x.reason);
    v.optional("force", x.force);
    v.optional("last_resort", x.last_resort);
    v.optional("by", x.by);
    v.optional("percent", x.percent);
    v.optional("deadline_s", x.deadline_s);
    v.optional("here", x.here);
}

template <class V>
void fields(V& v, Like<HoldRequest> auto& x) {
    v.optional("for_s", x.for_s);
    v.optional("reason", x.reason);
    v.optional("by", x.by);
    v.optional("here", x.here);
}

template <class V>
void fields(V& v, Like<ReleaseRequest> auto& x) {
    v.optional("by", x.by);
}

template <class V>
void fields(V& v, Like<WeightRequest> auto& x) {
    v("target", x.target);
    v.optional("weight", x.weight);
    v.optional("for_s", x.for_s);
    v.optional("reason", x.reason);
    v.optional("by", x.by);
    v.optional("force", x.force);
    v.optional("here", x.here);
}

template <class V>
void fields(V& v, Like<IntentReply> auto& x) {
    v("effect", x.effect);
    v.optional("expires", x.expires);
    v("not_done", x.not_done);
}

template <class V>
void fields(V& v, Like<Move> auto& x) {
    v("pool", x.pool);
    v("from", x.from);
    v("to", x.to);
    v("share", x.share);
}

template <class V>
void fields(V& v, Like<Missing> auto& x) {
    v("where", x.where);
    v("why", x.why);
}

template <class V>
void fields(V& v, Like<DrainReply> auto& x) {
    v("drain", x.drain);
    v("effect", x.effect);
    v("moves", x.moves);
    v.optional("switch_us", x.switch_us);
    v("not_done", x.not_done);
}

template <class V>
void fields(V& v, Like<UndrainRequest> auto& x) {
    v("target", x.target);
    v.optional("by", x.by);
}

template <class V>
void fields(V& v, Like<UndrainReply> auto& x) {
    v("target", x.target);
    v("effect", x.effect);
    v.optional("full_at", x.full_at);
    v("not_done", x.not_done);
}

template <class V>
void fields(V& v, Like<ReloadRequest> auto& x) {
    v.optional("confirm_within_s", x.confirm_within_s);
}

template <class V>
void fields(V& v, Like<ConfigDiffRequest> auto& x) {
    v.optional("path", x.path);
}

template <class V>
void fields(V& v, Like<PoolDiff> auto& x) {
    v("pool", x.pool);
    v("moved", x.moved);
    v("reshuffled", x.reshuffled);
    v.optional("flows_lost", x.flows_lost);
}

template <class V>
void fields(V& v, Like<PoolSiteDiff> auto& x) {
    v("pool", x.pool);
    v("site", x.site);
    v("before", x.before);
    v("after", x.after);
    v.optional("flows", x.flows);
    v.optional("flows_lost", x.flows_lost);
}

template <class V>
void fields(V& v, Like<ConfigDiff> auto& x) {
    v("changed", x.changed);
    v("changes", x.changes);
    v("moves", x.moves);
    v("pools", x.pools);
    v.optional("sites", x.sites);
    v.optional("warnings", x.warnings);
}

template <class V>
void fields(V& v, Like<ReloadReply> auto& x) {
    v("changed", x.changed);
    v("generation", x.generation);
    v("changes", x.changes);
    v.optional("confirm_until", x.confirm_until);
}

template <class V>
void fields(V& v, Like<ConfigInfo> auto& x) {
    v("path", x.path);
    v("loaded", x.loaded);
    v("sites", x.sites);
    v("pools", x.pools);
    v("backends", x.backends);
    v.optional("refused", x.refused);
    v.optional("mistakes", x.mistakes);
    v.optional("confirm_until", x.confirm_until);
    v.optional("taken_back", x.taken_back);
}

template <class V>
void fields(V& v, Like<PacketTraceRequest> auto& x) {
    v.optional("packet", x.packet);
    v.optional("source", x.source);
    v.optional("vip", x.vip);
    v.optional("flags", x.flags);
    v.optional("cid", x.cid);
    v.optional("size", x.size);
}

template <class V>
void fields(V& v, Like<PacketTrace> auto& x) {
    v("outcome", x.outcome);
    v("reason", x.reason);
    v("description", x.description);
    v("pool", x.pool);
    v("site", x.site);
    v("backend", x.backend);
    v("known", x.known);
    v.optional("worker", x.worker);
    v("packet", x.packet);
    v("port", x.port);
    v("length", x.length);
    v("frame", x.frame);
}

template <class V>
void fields(V& v, Like<CaptureRequest> auto& x) {
    v.optional("pool", x.pool);
    v.optional("site", x.site);
    v.optional("reason", x.reason);
    v.optional("sample", x.sample);
    v.optional("snap", x.snap);
}

template <class V>
void fields(V& v, Like<CaptureReadRequest> auto& x) {
    v("capture", x.capture);
    v.optional("end", x.end);
}

template <class V>
void fields(V& v, Like<CapturedPacket> auto& x) {
    v("time", x.time);
    v("worker", x.worker);
    v("port", x.port);
    v("outcome", x.outcome);
    v("reason", x.reason);
    v("pool", x.pool);
    v("site", x.site);
    v("backend", x.backend);
    v("before", x.before);
    v("before_length", x.before_length);
    v("sent_port", x.sent_port);
    v("after", x.after);
    v("after_length", x.after_length);
}

template <class V>
void fields(V& v, Like<CapturePage> auto& x) {
    v("capture", x.capture);
    v("packets", x.packets);
    v("sampled", x.sampled);
    v("missed", x.missed);
}

template <class V>
void fields(V& v, Like<FlowPlacement> auto& x) {
    v("site", x.site);
    v("backend", x.backend);
    v("reason", x.reason);
}

template <class V>
void fields(V& v, Like<SiteShare> auto& x) {
    v("site", x.site);
    v("fails", x.fails);
    v("now", x.now);
    v("after", x.after);
    v.optional("load_after", x.load_after);
}

template <class V>
void fields(V& v, Like<PoolForecast> auto& x) {
    v("pool", x.pool);
    v("lost", x.lost);
    v("sites", x.sites);
    v.optional("shed", x.shed);
}

template <class V>
void fields(V& v, Like<SiteLoad> auto& x) {
    v("site", x.site);
    v("fails", x.fails);
    v("new_flows_now", x.new_flows_now);
    v("new_flows_after", x.new_flows_after);
    v.optional("new_flows_capacity", x.new_flows_capacity);
    v("gbps_after", x.gbps_after);
    v.optional("gbps_capacity", x.gbps_capacity);
}

template <class V>
void fields(V& v, Like<PlanFailReply> auto& x) {
    v("domain", x.domain);
    v("failing", x.failing);
    v("pools", x.pools);
    v("warnings", x.warnings);
    v.optional("loads", x.loads);
}

}  // namespace detour::control
