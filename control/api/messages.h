// What the control process and its clients say to each other: requests and replies as plain data.
//
// docs/api.md documents the JSON form of each; control/api/json.h converts. Names and meanings are stable: a
// member may be added, none is renamed or reused. States are text, so that an older client shows a state it
// doesn't know. Values: copyable, no ownership, no threading. Ratios are 0 … 1, rates are per second.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "control/api/error.h"
#include "dataplane/api/types.h"

namespace detour::control {

inline constexpr std::uint32_t kApiVersion = 1;
/// The most flows that one trace request may hold.
inline constexpr std::size_t kMaxTraceFlows = 200'000;
/// The most events that one page holds.
inline constexpr std::size_t kMaxEventPage = 1000;

/// Wall clock, UTC. In JSON: "2026-05-01T03:04:05.678901Z".
using Time = std::chrono::sys_time<std::chrono::microseconds>;

struct Version {
    std::string version;              ///< of the program
    std::uint32_t api = kApiVersion;  ///< of this interface
    std::string pop;
    Time started;
};

/// A drain in force. `expires` absent: until undrained.
struct Drain {
    std::string target;  ///< "pangyo", "talk@pangyo", "10.1.0.11", "kr/seongnam"
    std::string kind;    ///< site, pool, backend, domain
    Time since;
    std::optional<Time> expires;
    std::string reason;
    std::string by;  ///< the local user who asked
    bool forced = false;
    bool last_resort = false;
    std::uint32_t percent = 100;                 ///< of the new flows, taken away
    std::optional<Time> deadline;                ///< established flows are reset; absent: never
    bool here = false;                           ///< in this PoP alone
    bool acknowledged = false;                   ///< every worker passed the switch
    std::optional<double> new_flows_per_second;  ///< still arriving at what is drained; absent: not known
    std::optional<std::uint64_t> flows_left;     ///< absent: not known
};

/// A BFD session with a router of a site.
struct BfdSession {
    std::string address;
    std::string state;  ///< up, down, unknown (never came up, or switched off at the router)
    Time since;
    std::string reason;  ///< the last change's diagnostic; empty: none
};

/// Automation stands still.
struct Hold {
    Time since;
    Time expires;
    std::string reason;
    std::string by;
    bool here = false;
};

/// A weight that an operator set.
struct WeightOverride {
    std::string target;
    std::uint32_t weight = 0;
    Time since;
    Time expires;
    std::string reason;
    std::string by;
    bool here = false;
};

struct SiteStatus {
    std::string name;
    std::vector<std::string> domain;  ///< widest first
    std::string tier;                 ///< active, hot, warm, cold
    std::string verdict;              ///< healthy, degraded, suspect, dark, recovering, drained
    Time since;                       ///< of the verdict
    double admit = 1;                 ///< share of its new flows that it takes
    bool keep = true;                 ///< established flows stay
    std::string reason;               ///< why the verdict is what it is
    std::uint32_t backends_up = 0;
    std::uint32_t backends = 0;
    std::optional<double> new_flows_per_second;
    std::optional<double> packets_per_second;
    std::optional<double> bits_per_second;  ///< client to site
    std::optional<std::uint64_t> flows;     ///< established through this host, if it is counted
    std::uint64_t capacity_new_flows = 0;   ///< a second, of the whole site; 0: not stated
    std::optional<Drain> drain;
    std::optional<double>
        load;              ///< of what this host may spend there, as it should come to be; absent: not known
    bool full = false;     ///< more is offered than fits
    bool trickle = false;  ///< dark because clients don't get through; a few flows stay to show when they do
    std::vector<BfdSession> bfd;
};

/// A pool's part in one site.
struct PoolSite {
    std::string site;
    std::string tier;
    std::uint32_t weight = 0;
    double admit = 1;
    std::uint32_t backends_up = 0;
    std::uint32_t backends = 0;
    std::optional<double> share;  ///< of the pool's new flows, now
};

struct PoolStatus {
    std::string name;
    std::vector<std::string> vips;
    std::string encap;
    std::string hash;
    std::string stranded;
    std::uint32_t priority = 0;
    std::uint32_t min_sites = 0;
    std::string state;  ///< ok, degraded, panic, down
    std::string reason;
    std::vector<PoolSite> sites;
    std::string data = "any";             ///< any, single-writer
    std::string writer;                   ///< single-writer: the site whose data is primary; empty: none
    std::vector<std::string> depends_on;  ///< names
    std::vector<std::string> without;     ///< those of them that no site serves now
    std::optional<double> shed;           ///< of its new flows: no site has room for them
};

struct BackendStatus {
    std::string pool;
    std::string site;
    std::string address;
    std::uint32_t weight = 0;
    std::string state;  ///< up, down, unknown, drained
    Time since;
    std::string reason;              ///< the last probe's result
    bool up = false;                 ///< takes new flows
    bool keep = true;                ///< keeps its flows
    std::optional<double> probe_ms;  ///< the last answer took this long
    std::optional<Drain> drain;
};

struct WorkerStatus {
    std::uint32_t worker = 0;
    std::uint64_t acknowledged = 0;  ///< plan generation it runs on
    std::uint64_t flows_v4 = 0;
    std::uint64_t flows_v6 = 0;
    std::uint64_t entries_v4 = 0;  ///< places for them
    std::uint64_t entries_v6 = 0;
    std::uint64_t evicted_confirmed = 0;     ///< flows of more than one packet that gave way to new ones
    std::uint64_t evicted_unconfirmed = 0;   ///< others that did
    std::uint64_t evicted_idle_seconds = 0;  ///< of the confirmed ones, summed
};

/// The fast path, as the control process sees it.
struct DataplaneStatus {
    bool connected = false;
    std::string version;
    bool restored = false;           ///< it started from its own disk
    std::uint64_t generation = 0;    ///< last plan published
    std::uint64_t acknowledged = 0;  ///< by every worker
    std::uint64_t rebuilds = 0;      ///< tables built since its start
    std::vector<WorkerStatus> workers;
    std::string problem;  ///< empty when all is well
};

/// A building, a campus, a city: its sites together.
struct DomainStatus {
    std::string path;     ///< "kr/seongnam"
    std::string verdict;  ///< as a site's; degraded: not all of its sites are well
    std::uint32_t sites = 0;
    std::uint32_t taking = 0;  ///< neither dark nor drained
    std::uint32_t backends_up = 0;
    std::uint32_t backends = 0;
};

/// One step of an incident.
struct IncidentLine {
    Time time;
    double at_ms = 0;  ///< since the incident's beginning, by a clock that is never set
    std::string kind;  ///< as the event's, or closed, flows_gone
    std::string text;
    std::string rule;  ///< by which it was decided; empty where nothing was
};

/// A failure, from its first sign to its end.
struct Incident {
    std::uint64_t number = 0;
    std::string site;  ///< empty: of this host
    Time opened;       ///< the first sign
    std::optional<Time> closed;
    std::string text;
    std::optional<double> switched_ms;  ///< first sign to the last worker switched away from the dark site
    std::vector<IncidentLine> lines;
    std::uint64_t left_out = 0;  ///< lines beyond the bound
};

struct IncidentSummary {
    std::uint64_t number = 0;
    std::string site;
    Time opened;
    std::optional<Time> closed;
    std::string text;
    std::optional<double> switched_ms;
};

struct Status {
    Version version;
    Time now;
    std::string state;                ///< ok, degraded, alarm
    std::vector<std::string> alarms;  ///< what needs a person, worst first
    DataplaneStatus dataplane;
    std::vector<SiteStatus> sites;
    std::uint32_t pools = 0;
    std::uint32_t pools_not_ok = 0;
    std::vector<Drain> drains;
    std::vector<DomainStatus> domains;       ///< in the order of their paths
    std::vector<IncidentSummary> incidents;  ///< open, newest first
    std::optional<Hold> hold;                ///< present: automation stands still
    std::vector<WeightOverride> weights;
};

using EventValue = std::variant<std::int64_t, double, bool, std::string>;

/// Something that happened, kept in order. `kind` is one word: verdict, switch, drain, undrain, plan, config,
/// …
struct Event {
    std::uint64_t sequence = 0;  ///< from 1, increases by 1, goes on after a restart
    Time time;
    std::string kind;
    std::string severity = "info";  ///< info, warning, alarm
    std::string site;               ///< empty where it doesn't apply
    std::string pool;
    std::string backend;
    std::string text;                        ///< one sentence for people
    std::map<std::string, EventValue> data;  ///< figures: {"from": "healthy", "to": "dark", "switch_us": 210}
};

struct EventPage {
    std::uint64_t first = 0;  ///< oldest sequence that is kept; 0: none
    std::uint64_t last = 0;   ///< newest; ask for `since` = the last one you saw
    std::vector<Event> events;
};

struct DrainRequest {
    std::string target;
    std::optional<std::uint64_t> for_s;  ///< 1 … 366 days in seconds; absent: the default of 4 h
    std::string reason;
    bool force = false;        ///< go beyond the survivors' capacity
    bool last_resort = false;  ///< it may be used when nothing else is left
    std::string
        by;  ///< a person's name, if the client knows; the server adds the socket's peer: "kim (root)"
    std::optional<std::uint32_t> percent;     ///< 1 … 100 of the new flows; absent: all
    std::optional<std::uint64_t> deadline_s;  ///< then established flows are reset; 0: at once; absent: never
    bool here = false;                        ///< this PoP alone
};

struct Move {
    std::string pool;
    std::string from;
    std::string to;
    double share = 0;  ///< of the pool's new flows
};

/// A place where a thing is not done yet.
struct Missing {
    std::string where;
    std::string why;
};

struct DrainReply {
    Drain drain;
    std::string effect;  ///< one sentence
    std::vector<Move> moves;
    std::optional<std::uint64_t> switch_us;
    std::vector<Missing> not_done;  ///< empty: done everywhere
};

struct UndrainRequest {
    std::string target;
    std::string by;  ///< as in DrainRequest
};

struct UndrainReply {
    std::string target;
    std::string effect;
    std::optional<Time> full_at;  ///< end of the ramp
    std::vector<Missing> not_done;
};

struct HoldRequest {
    std::optional<std::uint64_t> for_s;  ///< absent: 1 h
    std::string reason;
    std::string by;
    bool here = false;
};

struct ReleaseRequest {
    std::string by;
};

struct WeightRequest {
    std::string target;
    std::optional<std::uint32_t> weight;  ///< 0 … 65535; absent: as configured again
    std::optional<std::uint64_t> for_s;   ///< absent: 4 h
    std::string reason;
    std::string by;
    bool force = false;
    bool here = false;
};

/// Of hold, release and weight.
struct IntentReply {
    std::string effect;  ///< one sentence
    std::optional<Time> expires;
    std::vector<Missing> not_done;
};

struct ReloadRequest {
    std::optional<std::uint64_t> confirm_within_s;  ///< then the one before is back, unless it was confirmed
};

/// How one pool's new flows would be placed.
struct PoolDiff {
    std::string pool;
    double moved = 0;                         ///< share that goes to another site
    double reshuffled = 0;                    ///< share that stays at its site and gets another backend
    std::optional<std::uint64_t> flows_lost;  ///< established flows of backends that go; absent: not known
};

/// The same at one of its sites.
struct PoolSiteDiff {
    std::string pool;
    std::string site;
    double before = 0;                        ///< share of the pool's new flows
    double after = 0;                         ///< the same, then
    std::optional<std::uint64_t> flows;       ///< established there; absent: not known
    std::optional<std::uint64_t> flows_lost;  ///< of these, those of backends that go
};

struct ConfigDiffRequest {
    std::string path;  ///< empty: the one that a reload would read
};

/// What another configuration would move.
struct ConfigDiff {
    bool changed = false;
    std::vector<std::string> changes;  ///< one sentence each
    std::vector<Move> moves;
    std::vector<PoolDiff> pools;      ///< of those that something happens to
    std::vector<PoolSiteDiff> sites;  ///< the same
    std::vector<std::string> warnings;
};

/// What a reload did. A refused file is an ApiError whose `details` are the mistakes.
struct ReloadReply {
    bool changed = false;
    std::uint64_t generation = 0;
    std::vector<std::string> changes;   ///< one sentence each
    std::optional<Time> confirm_until;  ///< then the one before is back, unless it was confirmed
};

/// What runs. It holds no secret.
struct ConfigInfo {
    std::string path;
    Time loaded;
    std::uint32_t sites = 0;
    std::uint32_t pools = 0;
    std::uint32_t backends = 0;
    std::optional<Time> refused;        ///< the last file that was refused after `loaded`
    std::vector<std::string> mistakes;  ///< of that file
    std::optional<Time> confirm_until;  ///< it is on trial
    bool taken_back = false;            ///< what is on disk was not confirmed in time and is not in force
};

/// Where would this flow go? JSON: {"source": "198.51.100.7:40000", "vip": "203.0.113.10:443/tcp"}
struct FlowQuery {
    api::IpAddress source;
    api::Port source_port;
    api::Vip vip;
    std::string cid{};  ///< bytes of a QUIC packet's destination connection id; empty: a new flow
};

struct FlowPlacement {
    std::string site;     ///< empty: nowhere
    std::string backend;  ///< address
    std::string reason;   ///< counters.h name, or why it goes nowhere
};

/// One packet for the fast path's own stages. Either `packet`, or what describes one.
struct PacketTraceRequest {
    std::string packet;                 ///< hex, from its IP header on
    std::string source;                 ///< 198.51.100.7:40000
    std::string vip;                    ///< 203.0.113.10:443/tcp
    std::string flags;                  ///< of TCP: syn (default), ack, data, fin, rst
    std::string cid;                    ///< of a QUIC packet, hex
    std::optional<std::uint32_t> size;  ///< of the IP packet; absent: as short as it can be
};

struct PacketTrace {
    std::string outcome;  ///< forwarded, answered, kernel, dropped, held
    std::string reason;   ///< counters.h name
    std::string description;
    std::string pool;  ///< empty: none, as the next two
    std::string site;
    std::string backend;  ///< address
    std::string known;    ///< what a worker knew of the flow: flow (an entry), syn; empty: nothing
    std::optional<std::uint32_t> worker;  ///< that knew it
    std::string packet;                   ///< hex: what was traced
    std::string port;                     ///< it would leave by; empty: it would not
    std::uint32_t length = 0;             ///< of the frame that would leave
    std::string frame;                    ///< hex, its first 256 bytes
};

struct CaptureRequest {
    std::string pool;  ///< name; empty: all
    std::string site;
    std::string reason;                   ///< counters.h name
    std::optional<std::uint32_t> sample;  ///< one packet of so many
    std::optional<std::uint32_t> snap;    ///< bytes kept of a frame; absent: 192
};

struct CaptureReadRequest {
    std::uint64_t capture = 0;
    bool end = false;  ///< what is left, and no more
};

struct CapturedPacket {
    Time time;
    std::uint32_t worker = 0;
    std::string port;     ///< received on
    std::string outcome;  ///< as PacketTrace
    std::string reason;
    std::string pool;
    std::string site;
    std::string backend;
    std::string before;  ///< hex: the frame as received
    std::uint32_t before_length = 0;
    std::string sent_port;           ///< empty: not sent
    std::string after;               ///< hex: the frame as sent
    std::uint32_t after_length = 0;  ///< on the wire
};

struct CapturePage {
    std::uint64_t capture = 0;
    std::vector<CapturedPacket> packets;
    std::uint64_t sampled = 0;  ///< packets looked at since the start
    std::uint64_t missed = 0;   ///< of those wanted, not kept
};

struct SiteShare {
    std::string site;
    bool fails = false;
    double now = 0;  ///< share of the pool's (or the host's) new flows
    double after = 0;
    std::optional<double> load_after;  ///< of its capacity; absent: not known
};

struct PoolForecast {
    std::string pool;
    bool lost = false;  ///< no site is left
    std::vector<SiteShare> sites;
    std::optional<double> shed;  ///< of its new flows: what no site has room for
};

/// What a site would be asked for by this host, before anything is shed.
struct SiteLoad {
    std::string site;
    bool fails = false;
    double new_flows_now = 0;
    double new_flows_after = 0;
    std::optional<double> new_flows_capacity;  ///< this host's part; absent: not stated
    double gbps_after = 0;
    std::optional<double> gbps_capacity;
};

struct PlanFailReply {
    std::string domain;
    std::vector<std::string> failing;  ///< sites
    std::vector<PoolForecast> pools;
    std::vector<std::string> warnings;
    std::vector<SiteLoad> loads;  ///< empty while no flows are measured
};

}  // namespace detour::control
