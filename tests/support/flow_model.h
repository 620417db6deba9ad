// What becomes of each packet of a flow, written a second time: a map of flows and a map of SYNs, no buckets,
// no packed words, no bursts, nothing that has to be fast. Tests compare the fast path with it.
//
// It knows no bounds: a test keeps the fast path's tables so large that nothing gives way, its budgets so
// high that they last, and sweeps no stranded flows. Not thread safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "dataplane/api/counters.h"
#include "dataplane/api/plan.h"
#include "tests/support/model.h"

namespace detour::model {

struct Packet {
    Flow flow;
    std::uint8_t flags = 0;  ///< of TCP, like the numbers; of UDP all three are 0
    std::uint32_t sequence = 0;
    std::uint32_t acknowledgement = 0;
    std::vector<std::uint8_t> datagram;  ///< of UDP
};

struct Fate {
    api::Reason reason;
    std::optional<api::BackendId> backend;  ///< that it is sent to
    std::optional<api::BackendId> told;     ///< that is sent a RST of our own
};

class FlowModel {
  public:
    explicit FlowModel(const api::ForwardingPlan& plan) : plan_(plan), choices_(plan) {}

    /// Another plan; what is known of flows stays.
    void apply(const api::ForwardingPlan& plan);
    Fate receive(const Packet& packet, const Switches& switches, std::uint64_t now_ns);
    /// The ageing sweep, of everything at once.
    void sweep(std::uint64_t now_ns);
    /// Of the plan in force.
    [[nodiscard]] const Model& choices() const { return choices_; }

  private:
    enum class State : std::uint8_t { kOnce, kEstablished, kClosing, kOver, kDatagrams };
    struct Pin {
        std::optional<api::BackendId> backend;  ///< empty: it left the plan, and the sweep met the flow since
        State state = State::kOnce;
        std::uint32_t acknowledged = 0;
        std::uint64_t tick = 0;
        bool syn_since = false;  ///< a SYN was seen, so its next segment may be a new connection's
    };
    struct Syn {
        std::uint32_t sequence = 0;
        api::BackendId backend;
        std::uint64_t time = 0;  ///< units of 16 ms
    };
    /// What everything below needs; of one receive().
    struct Now {
        const Packet& packet;
        const Switches& switches;
        const api::PlanPool& pool;
        std::uint64_t tick;
        std::uint64_t syn_time;
    };

    Fate tcp(const Now& now);
    Fate syn(const Now& now);
    Fate handshake(const Now& now);
    Fate pinned(const Now& now, Pin& pin);
    Fate stranded(const Now& now, Pin& pin);
    Fate unknown(const Now& now);
    Fate udp(const Now& now);
    Fate by_connection_id(const Now& now, api::BackendId backend);
    [[nodiscard]] Fate chosen(const Now& now, Admission admission, api::Reason reason) const;

    [[nodiscard]] std::optional<api::SiteId> site_of(const api::PlanPool& pool,
                                                     std::optional<api::BackendId> backend) const;
    [[nodiscard]] bool in_plan(std::optional<api::BackendId> backend) const;
    [[nodiscard]] bool keeps(const Now& now, std::optional<api::BackendId> backend) const;
    [[nodiscard]] bool ends(const Now& now, std::optional<api::BackendId> backend) const;
    /// The SYN that is remembered for the packet's flow, if it is young enough.
    [[nodiscard]] const Syn* remembered(const Now& now) const;

    api::ForwardingPlan plan_;
    Model choices_;
    std::map<Flow, Pin> pins_;
    std::map<Flow, Syn> syns_;
};

}  // namespace detour::model
