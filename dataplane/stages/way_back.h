// The way back to the clients on layer 2, for segments that answer no packet: the sweep's.
//
// Learnt from the frames that VIP packets came in: their router, port and VLAN tags, by IP family. An answer
// goes back to where its packet came from; these go where most packets of their family came from, so that
// one stray host on the router's link does not draw them (Boyer and Moore's majority vote). Why not the
// kernel's default route: docs/adr/0008-way-back.md. One owner.
#pragma once

#include <array>
#include <cstdint>

#include "dataplane/core/segment.h"

namespace detour::stages {

class WayBack {
  public:
    /// What sample() saw of a frame, before the stages wrote over it.
    struct Sample {
        std::array<std::uint8_t, core::kMaxLinkHeader> link{};
        std::uint8_t port = 0;
        std::uint8_t length = 0;  ///< of the link header; 0: nothing to learn
    };

    /// `fresh` as it was received.
    [[nodiscard]] static Sample sample(const core::Packet& fresh) noexcept;
    /// `done` is the same packet after the stages: only what was forwarded counts.
    void learn(const Sample& sample, const core::Packet& done) noexcept;

    [[nodiscard]] const core::LinkHeader& to_clients(bool v6) const noexcept {
        return routes_[v6 ? 1 : 0].header;
    }

  private:
    struct Route {
        core::LinkHeader header;
        std::uint8_t votes = 0;
    };
    std::array<Route, 2> routes_;
};

}  // namespace detour::stages
