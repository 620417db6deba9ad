// The tables in force, published to the workers by RCU (rte_rcu_qsbr, DPDK programmer's guide, "RCU
// Library").
//
// One pointer is exchanged; the old tables are freed once every worker has passed a quiescent state after it.
// A worker reads the pointer once per burst and passes between bursts; one that sleeps is offline and counts
// as passed, for it reads the pointer again when it wakes. publish() by one thread at a time;
// wait_until_passed() by any; the worker calls by that worker alone.
#pragma once

#include <rte_rcu_qsbr.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "dataplane/api/result.h"
#include "dataplane/core/tables.h"

namespace detour::io {

class Publication {
  public:
    /// Starts with empty tables of generation 0, to which every packet is not ours.
    explicit Publication(unsigned workers);
    ~Publication();
    Publication(const Publication&) = delete;
    Publication& operator=(const Publication&) = delete;

    /// Worker: from here on it holds tables up, until offline().
    void online(unsigned worker) noexcept { rte_rcu_qsbr_thread_online(qsbr_.get(), worker); }
    void offline(unsigned worker) noexcept { rte_rcu_qsbr_thread_offline(qsbr_.get(), worker); }
    /// Worker, between bursts: what it read before is not used any more.
    void pass(unsigned worker) noexcept { rte_rcu_qsbr_quiescent(qsbr_.get(), worker); }
    /// Worker: the tables of this burst; valid until pass() or offline().
    [[nodiscard]] const core::ForwardingTables& read() const noexcept {
        return *current_.load(std::memory_order_acquire);
    }

    /// The tables in force, for the thread that publishes.
    [[nodiscard]] const core::ForwardingTables& owned() const noexcept { return *owned_; }

    /// Puts `tables` in force. Returns the time until every worker passed. Error kTimeout: they are in force,
    /// and the old ones stay in memory until a later publish finds that all passed.
    [[nodiscard]] api::Result<std::chrono::nanoseconds> publish(
        std::unique_ptr<const core::ForwardingTables> tables);

    /// Every worker has passed since this call began. Error kTimeout.
    [[nodiscard]] api::Result<void> wait_until_passed();

  private:
    struct FreeMemory {
        void operator()(rte_rcu_qsbr* memory) const noexcept;
    };

    std::unique_ptr<rte_rcu_qsbr, FreeMemory> qsbr_;
    std::unique_ptr<const core::ForwardingTables> owned_;
    std::vector<std::unique_ptr<const core::ForwardingTables>> retired_;
    alignas(64) std::atomic<const core::ForwardingTables*> current_{nullptr};
};

}  // namespace detour::io
