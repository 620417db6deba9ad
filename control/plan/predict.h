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

/// A client's flow, as a packet shows it that no flow table knows.
struct Flow {
    api::IpAddress client;
    api::Port client_port;
    api::Vip vip;
    std::string
        cid{};  ///< of a QUIC packet that a server's connection id is on; empty: the flow's first packet
};

struct Destination {
    api::PoolId pool;
    std::optional<api::SiteId> site;        ///< absent: no site admits it
    std::optional<api::BackendId> backend;  ///< absent: none is up
    bool by_cid = false;                    ///< the connection id named the backend
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

    /// A new flow, or what its connection id leads to. Error kNotFound when no pool has that VIP.
    [[nodiscard]] api::Result<Destination> new_flow(const Flow& flow) const;
    /// From now on these switches and no others: what is not named is open.
    void use(std::span<const api::SiteSwitch> sites, std::span<const api::BackendSwitch> backends);

  private:
    [[nodiscard]] std::optional<std::uint16_t> named_backend(const Flow& flow, std::uint16_t pool) const;

    struct State;
    explicit Predictor(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace detour::plan
