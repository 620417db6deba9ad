// Where would this flow go? The fast path's own tables and choice, asked from outside.
//
// For `lbctl trace` and `lbctl plan --fail`. Pure, any thread.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/api/plan.h"
#include "dataplane/api/result.h"

namespace detour::plan {

/// A client's flow, as its first packet shows it.
struct Flow {
    api::IpAddress client;
    api::Port client_port;
    api::Vip vip;
};

struct Destination {
    api::PoolId pool;
    std::optional<api::SiteId> site;        ///< absent: no site admits it
    std::optional<api::BackendId> backend;  ///< absent: none is up
    bool operator==(const Destination&) const = default;
};

/// The tables of one plan under one set of switches.
class Predictor {
  public:
    /// `plan` must pass api::check(); errors are those of core::build_tables().
    [[nodiscard]] static api::Result<Predictor> make(const api::ForwardingPlan& plan,
                                                     std::span<const api::SiteSwitch> sites,
                                                     std::span<const api::BackendSwitch> backends);
    Predictor(Predictor&&) noexcept;
    Predictor& operator=(Predictor&&) noexcept;
    ~Predictor();

    /// A new flow. Error kNotFound when no pool has that VIP.
    [[nodiscard]] api::Result<Destination> new_flow(const Flow& flow) const;
    /// From now on these switches and no others: what is not named is open.
    void use(std::span<const api::SiteSwitch> sites, std::span<const api::BackendSwitch> backends);

  private:
    struct State;
    explicit Predictor(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace detour::plan
