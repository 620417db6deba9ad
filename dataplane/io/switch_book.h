// The switches and limits with their sequences: decides which set-site, set-backend and set-limit counts, and
// stores it.
//
// Sequences are per (site), (pool, site), backend, and limit of a site or pool; one that is not above the
// last is refused and changes nothing. Memory is taken at construction (untouched pages cost nothing),
// apply() allocates nothing. Thread safe by one lock that the workers never take.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "dataplane/api/plan.h"
#include "dataplane/core/host_state.h"

namespace detour::io {

struct SwitchOutcome {
    bool applied = false;
    api::Sequence in_force;
};

struct SwitchSet {
    std::vector<api::SiteSwitch> sites;
    std::vector<api::BackendSwitch> backends;
    std::vector<api::FlowLimit> limits;
    [[nodiscard]] std::size_t size() const noexcept { return sites.size() + backends.size() + limits.size(); }
};

class SwitchBook {
  public:
    /// `host` outlives the book and is written by nobody else.
    explicit SwitchBook(core::HostState& host);

    /// Stores, in order, all that counts. `outcomes` has room for the sites, the backends, the limits.
    void apply(const SwitchSet& switches, std::span<SwitchOutcome> outcomes) noexcept;

    /// The last sequence of the host-wide switch of a site; 0 when it was never set.
    [[nodiscard]] api::Sequence verdict(api::SiteId site) const;
    /// Everything that was ever set.
    [[nodiscard]] SwitchSet snapshot() const;

  private:
    struct SiteRecord {
        std::uint64_t sequence;
        std::uint16_t admit;
        std::uint16_t admit_mid;
        bool keep;
        bool end;
    };
    struct BackendRecord {
        std::uint64_t sequence;
        bool up;
        bool keep;
        bool end;
    };
    struct LimitRecord {
        std::uint64_t sequence = 0;
        core::LimitValue value;
    };
    struct Free {
        void operator()(void* memory) const noexcept { std::free(memory); }
    };

    [[nodiscard]] SwitchOutcome apply_site(const api::SiteSwitch& value) noexcept;
    [[nodiscard]] SwitchOutcome apply_backend(const api::BackendSwitch& value) noexcept;
    [[nodiscard]] SwitchOutcome apply_limit(const api::FlowLimit& value) noexcept;

    core::HostState& host_;
    mutable std::mutex mutex_;
    // Row 0 is the host, row 1 + p is pool p; 256 sites a row. Sequence 0: never set.
    std::unique_ptr<SiteRecord[], Free> sites_;
    std::vector<bool> touched_rows_;
    std::unique_ptr<BackendRecord[], Free> backends_;
    std::vector<LimitRecord> site_limits_;
    std::vector<LimitRecord> pool_limits_;
};

}  // namespace detour::io
