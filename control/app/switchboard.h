// The fast path's switches as they should be, against what it was last told: gives out the difference.
//
// Sequences grow with every switch of one target, and go on above those of a fast path that was adopted.
// While no fast path is connected nothing is given out; adopt() catches up. Pure, not thread safe.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "control/failover/admission.h"
#include "dataplane/api/plan.h"

namespace detour::app {

struct BackendFlags {
    bool up = true;
    bool keep = true;
    bool end_flows = false;
    bool operator==(const BackendFlags&) const = default;
};

class Switchboard {
  public:
    using SiteTarget = std::pair<api::SiteId, std::optional<api::PoolId>>;

    /// What a fast path says is in force. Targets that it does not name are at their default: all admitted,
    /// all kept.
    void adopt(const std::vector<api::SiteSwitch>& sites, const std::vector<api::BackendSwitch>& backends);
    void disconnect() { connected_ = false; }
    [[nodiscard]] bool connected() const { return connected_; }

    /// What should be in force. True when that is given out by the next take_*().
    bool want(api::SiteId site, std::optional<api::PoolId> pool, const failover::Gate& gate);
    bool want(api::BackendId backend, BackendFlags flags);

    /// What the fast path was last told, or its default.
    [[nodiscard]] failover::Gate in_force(api::SiteId site, std::optional<api::PoolId> pool) const;
    [[nodiscard]] BackendFlags in_force(api::BackendId backend) const;
    /// Of the site's host-wide switch, 0 before the first.
    [[nodiscard]] api::Sequence sequence(api::SiteId site) const;

    /// What was wanted since the last call, host-wide switches first; empty the second time.
    [[nodiscard]] std::vector<api::SiteSwitch> take_sites();
    [[nodiscard]] std::vector<api::BackendSwitch> take_backends();

    /// Everything that differs from the default, for predictions.
    [[nodiscard]] std::vector<api::SiteSwitch> all_sites() const;
    [[nodiscard]] std::vector<api::BackendSwitch> all_backends() const;

  private:
    bool connected_ = false;
    std::map<SiteTarget, api::SiteSwitch> sites_;
    std::map<api::BackendId, api::BackendSwitch> backends_;
    std::set<SiteTarget> changed_sites_;
    std::set<api::BackendId> changed_backends_;
};

}  // namespace detour::app
