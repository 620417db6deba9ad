#include "dataplane/io/publication.h"

#include <fmt/format.h>
#include <sched.h>

#include <cstdlib>
#include <new>

namespace detour::io {
namespace {

using Clock = std::chrono::steady_clock;

// A worker passes within microseconds; only one that the kernel does not run takes longer.
constexpr auto kPassDeadline = std::chrono::seconds(2);
constexpr unsigned kSpinsPerYield = 64;

rte_rcu_qsbr* make_qsbr(unsigned workers) {
    const std::size_t bytes = rte_rcu_qsbr_get_memsize(workers);
    const std::size_t rounded = (bytes + RTE_CACHE_LINE_SIZE - 1) / RTE_CACHE_LINE_SIZE * RTE_CACHE_LINE_SIZE;
    auto* memory = static_cast<rte_rcu_qsbr*>(std::aligned_alloc(RTE_CACHE_LINE_SIZE, rounded));
    if (memory == nullptr) throw std::bad_alloc();
    rte_rcu_qsbr_init(memory, workers);
    for (unsigned worker = 0; worker < workers; ++worker) rte_rcu_qsbr_thread_register(memory, worker);
    return memory;
}

}  // namespace

void Publication::FreeMemory::operator()(rte_rcu_qsbr* memory) const noexcept {
    std::free(memory);
}

Publication::Publication(unsigned workers)
    : qsbr_(make_qsbr(workers)), owned_(std::make_unique<const core::ForwardingTables>()) {
    current_.store(owned_.get(), std::memory_order_release);
}

Publication::~Publication() = default;

api::Result<std::chrono::nanoseconds> Publication::publish(
    std::unique_ptr<const core::ForwardingTables> tables) {
    const auto start = Clock::now();
    current_.store(tables.get(), std::memory_order_release);
    retired_.push_back(std::exchange(owned_, std::move(tables)));
    if (auto passed = wait_until_passed(); !passed) return tl::unexpected(passed.error());
    const auto took = Clock::now() - start;
    // All that was retired before this publication as well: every worker has passed them too.
    retired_.clear();
    return took;
}

api::Result<void> Publication::wait_until_passed() {
    const auto deadline = Clock::now() + kPassDeadline;
    const std::uint64_t token = rte_rcu_qsbr_start(qsbr_.get());
    for (unsigned spins = 1; rte_rcu_qsbr_check(qsbr_.get(), token, false) == 0; ++spins) {
        if (spins % kSpinsPerYield != 0) continue;
        if (Clock::now() > deadline) {
            return api::fail(api::ErrorCode::kTimeout, "waiting for the workers",
                             fmt::format("one has not begun a new burst in {} s: it hangs, or gets no CPU",
                                         kPassDeadline.count()));
        }
        // The worker may need this very CPU.
        sched_yield();
    }
    return {};
}

}  // namespace detour::io
