// The choice of site and backend, written a second time: slow, with maps and strings, straight from the
// design. Tests compare the fast path with it.
//
// It shares the hash functions and the builders of site and Maglev tables with the fast path (they have tests
// of their own) and nothing of how a packet is looked up. Not thread safe, owns copies of what it is given.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "dataplane/api/plan.h"
#include "dataplane/core/hash.h"
#include "dataplane/core/host_state.h"
#include "dataplane/core/maglev.h"
#include "dataplane/core/site_table.h"

namespace detour::model {

struct Flow {
    api::IpAddress client;
    api::Port client_port;
    api::Vip vip;
    auto operator<=>(const Flow&) const noexcept = default;
};

/// What was switched; what is absent admits all, is up and keeps.
struct Switches {
    std::map<api::SiteId, core::SwitchValue> sites;
    std::map<std::pair<api::PoolId, api::SiteId>, core::SwitchValue> pools;
    std::map<api::BackendId, core::BackendValue> backends;
};

/// Which threshold counts.
enum class Admission : std::uint8_t { kNew, kMid };

/// `site` without `backend`: sites admit the flow, but none of them has a backend that is up; the first of
/// them.
struct Choice {
    std::optional<api::SiteId> site;
    std::optional<api::BackendId> backend;
    bool operator==(const Choice&) const noexcept = default;
};

class Model {
  public:
    explicit Model(api::ForwardingPlan plan);

    /// nullopt when the flow's destination is no VIP of the plan.
    [[nodiscard]] std::optional<Choice> choose(const Flow& flow, const Switches& switches,
                                               Admission admission = Admission::kNew) const;
    /// Where the connection id at the start of a QUIC datagram leads; nullopt when it names no backend that
    /// keeps its flows.
    [[nodiscard]] std::optional<Choice> named(const api::Vip& vip, const std::vector<std::uint8_t>& datagram,
                                              const Switches& switches) const;
    /// Whether the site's threshold for new flows admits this one.
    [[nodiscard]] bool admits(const Flow& flow, api::SiteId site, const Switches& switches) const;
    [[nodiscard]] static bool is_up(api::BackendId backend, const Switches& switches);
    /// The hash that a pool with this key chooses by.
    [[nodiscard]] std::uint64_t hash_of(const Flow& flow, api::HashKey key) const;

  private:
    struct Site {
        std::string key;
        std::shared_ptr<const core::MaglevTable> backends;
    };
    struct Pool {
        api::PoolId id;
        api::HashKey hash = api::HashKey::kFiveTuple;
        std::map<std::uint8_t, Site> sites;
        std::shared_ptr<const core::SiteTable> table;
    };

    void add_pool(const api::PlanPool& pool);
    [[nodiscard]] Choice choose(const Pool& pool, std::uint64_t hash, const Switches& switches,
                                Admission admission) const;

    api::ForwardingPlan plan_;
    core::HashSeed seed_;
    std::vector<Pool> pools_;
    std::map<api::Vip, std::size_t> vips_;  ///< index into pools_ and plan_.pools
};

/// One choice from scratch; a Model is cheaper for many.
[[nodiscard]] std::optional<Choice> choose(const api::ForwardingPlan& plan, const Flow& flow,
                                           const Switches& switches, Admission admission = Admission::kNew);

}  // namespace detour::model
