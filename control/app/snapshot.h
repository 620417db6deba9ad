// Everything the API shows, copied out of the engine at one moment. Plain values.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/failover/admission.h"
#include "control/failover/bfd_watch.h"
#include "control/failover/capacity.h"
#include "control/failover/domains.h"
#include "control/failover/intents.h"
#include "control/failover/single_writer.h"
#include "control/failover/verdict.h"
#include "control/health/rise_fall.h"
#include "dataplane/api/plan.h"

namespace detour::app {

struct BackendStatus {
    api::BackendId id;
    std::string pool;
    std::string site;
    api::IpAddress address;
    std::uint32_t weight = 0;
    health::State state = health::State::kUnknown;
    bool drained = false;
    bool up = true;  ///< as the fast path was told
    bool keep = true;
    std::string last_outcome;           ///< "ok", "timeout", "status 503"; empty before the first
    health::nanoseconds round_trip{0};  ///< of the last answer
    std::uint64_t probes = 0;           ///< results since the start
    std::uint64_t misses = 0;
    health::WallTime since;  ///< of `state`
    bool resolved = false;   ///< the next hop is known
};

/// One pool in one site.
struct PoolSiteStatus {
    std::string site;
    failover::Verdict verdict = failover::Verdict::kUnknown;
    failover::Gate gate;       ///< the pool's own switch
    failover::Gate effective;  ///< with the site's: the smaller counts
    std::uint32_t weight = 0;
    std::uint32_t up = 0, down = 0, unknown = 0, drained = 0;  ///< backends
};

struct PoolStatus {
    api::PoolId id;
    std::string name;
    std::vector<api::Vip> vips;
    std::uint32_t min_sites = 0;
    std::uint32_t admitted_sites = 0;
    failover::Load offered;               ///< measured
    double shed = 0;                      ///< of its new flows, 0 … 1: no site has room for them
    std::vector<std::string> depends_on;  ///< names
    std::vector<std::string> without;     ///< those of them that no site serves
    bool follow_dropped = false;          ///< it should follow one that is nowhere
    bool single_writer = false;
    std::string writer;  ///< the site where its data is primary; empty: none
    failover::WriterAlarm writer_alarm = failover::WriterAlarm::kNone;
    std::vector<PoolSiteStatus> sites;
};

struct BfdStatus {
    config::BfdPeer peer;
    failover::BfdPath path = failover::BfdPath::kUnknown;
    std::string why;         ///< diagnostic of the last change; empty: none yet
    health::WallTime since;  ///< of `path`; 0: since the start
};

struct SiteStatus {
    api::SiteId id;
    std::string name;
    std::string key;
    std::vector<std::string> domain;
    config::SiteTier tier = config::SiteTier::kActive;
    failover::Verdict verdict = failover::Verdict::kUnknown;
    failover::Phase phase = failover::Phase::kLive;
    std::string reason;      ///< why the verdict is what it is
    health::WallTime since;  ///< of the verdict
    failover::Gate gate;     ///< the host-wide switch
    api::Sequence sequence;  ///< of the last switch
    bool burst = false;
    bool held = false;      ///< recovering, waits for undrain
    bool flapping = false;  ///< answers again, but has to for longer before it comes back
    failover::Load load;    ///< of this host, as it should come to be
    failover::Load budget;  ///< what this host may spend here; 0: not stated
    bool full = false;      ///< more is offered than fits
    bool trickle = false;   ///< dark because clients don't get through; 1 % of its flows stay
    std::vector<BfdStatus> bfd;
    std::optional<health::WallTime> ramp_start;
    std::optional<health::WallTime> ramp_end;
    std::uint32_t up = 0, down = 0, unknown = 0;  ///< backends over all pools
    std::vector<std::string> pools;
};

struct DrainStatus {
    std::string target;
    failover::Drain drain;
    std::vector<std::string> sites;  ///< names of the sites that it covers
};

/// A building, a campus, a city.
using DomainStatus = failover::DomainStatus;

struct WeightStatus {
    std::string target;
    failover::WeightOverride weight;
};

struct Snapshot {
    health::Now at;
    std::string pop;
    bool connected = false;        ///< to a fast path
    bool fail_static = false;      ///< every site looks dark from here: nothing is switched
    api::Generation generation;    ///< of the last plan sent
    api::Generation applied;       ///< of the last plan that the fast path took
    api::Generation acknowledged;  ///< lowest that any worker runs on
    api::Generation scanned;
    std::uint64_t probes_shed = 0;  ///< that the engine did not even ask for
    std::vector<SiteStatus> sites;  ///< in the order of the config
    std::vector<PoolStatus> pools;
    std::vector<DomainStatus> domains;  ///< in the order of their paths
    std::vector<BackendStatus> backends;
    std::vector<DrainStatus> drains;
    std::optional<failover::Hold> hold;
    std::vector<WeightStatus> weights;
    /// What the fast path was told, for predictions.
    std::vector<api::SiteSwitch> site_switches;
    std::vector<api::BackendSwitch> backend_switches;
    std::shared_ptr<const api::ForwardingPlan> plan;  ///< null: none yet
};

}  // namespace detour::app
