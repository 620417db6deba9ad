// What a site failure writes: the switches, outside any plan, by stable id.
//
// One thread writes (the control channel, or start-up), every worker reads, all with relaxed atomics: each
// switch is one 64-bit word, so a reader sees the old or the new switch, never a mixture. Taking a site out
// of service is one store for any number of pools, flows and workers; nothing is built and nothing is
// allocated.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "dataplane/api/limits.h"
#include "dataplane/api/plan.h"
#include "dataplane/api/types.h"

namespace detour::core {

/// Which threshold decides: `admit` for new flows, `admit_mid` for mid-flow packets of unknown flows.
enum class Admission : std::uint8_t { kNew, kMid };

/// The value of one site switch.
struct SwitchValue {
    api::Admit admit = api::kAdmitAll;
    api::Admit admit_mid = api::kAdmitAll;
    bool keep = true;
    bool end = false;  ///< with keep false: the backends live and are told, and no pool is spared
    constexpr bool operator==(const SwitchValue&) const noexcept = default;
};

struct BackendValue {
    bool up = true;
    bool keep = true;
    bool end = false;
    constexpr bool operator==(const BackendValue&) const noexcept = default;
};

/// New flows a second, for the whole host; absent is "no limit".
struct LimitValue {
    bool limited = false;
    std::uint32_t per_second = 0;
    api::Refusal refusal = api::Refusal::kDrop;
    constexpr bool operator==(const LimitValue&) const noexcept = default;
};

class HostState {
  public:
    HostState();

    /// The host-wide switch of a site.
    [[nodiscard]] SwitchValue site(api::SiteId id) const noexcept {
        return unpack(sites_[id.value()].load(std::memory_order_relaxed));
    }
    /// The pool's own switch and the host's: the smaller admit, the smaller admit_mid, keep only if both
    /// keep, end if either ends.
    [[nodiscard]] SwitchValue effective(api::PoolId pool, api::SiteId site_id) const noexcept {
        const SwitchValue host = site(site_id);
        if (pool_switches_.load(std::memory_order_relaxed) == 0) [[likely]]
            return host;
        const SwitchValue own = unpack(pools_[index(pool, site_id)].load(std::memory_order_relaxed));
        return {host.admit < own.admit ? host.admit : own.admit,
                host.admit_mid < own.admit_mid ? host.admit_mid : own.admit_mid, host.keep && own.keep,
                host.end || own.end};
    }
    /// Whether effective() admits every flow: the common case, in a few instructions. False means nothing.
    [[nodiscard]] bool admits_all(api::SiteId id, Admission which) const noexcept {
        const std::uint64_t word = sites_[id.value()].load(std::memory_order_relaxed);
        return (word >> (which == Admission::kMid ? 16U : 0U) & 0xffffU) == 0 && !has_pool_switches();
    }
    /// Whether any pool has a switch of its own. Where none has, as a rule, their 8 MiB are not touched.
    [[nodiscard]] bool has_pool_switches() const noexcept {
        return pool_switches_.load(std::memory_order_relaxed) != 0;
    }
    /// effective().keep alone.
    [[nodiscard]] bool keeps(api::PoolId pool, api::SiteId id) const noexcept {
        return keeps(id) && (!has_pool_switches() || keeps_own(pool, id));
    }
    /// The host-wide switch's part of it, and the pool's.
    [[nodiscard]] bool keeps(api::SiteId id) const noexcept {
        return keeps(sites_[id.value()].load(std::memory_order_relaxed));
    }
    [[nodiscard]] bool keeps_own(api::PoolId pool, api::SiteId id) const noexcept {
        return keeps(pools_[index(pool, id)].load(std::memory_order_relaxed));
    }
    [[nodiscard]] BackendValue backend(api::BackendId id) const noexcept {
        const std::uint8_t word = backends_[id.value()].load(std::memory_order_relaxed);
        return {(word & 1U) == 0, (word & 2U) == 0, (word & 4U) != 0};
    }
    /// Grows with every switch that strands flows. A worker that sees a new one looks for them.
    [[nodiscard]] std::uint32_t strandings() const noexcept {
        return strandings_.load(std::memory_order_acquire);
    }
    /// Whether any limit is in force at all.
    [[nodiscard]] bool limits_flows() const noexcept { return limits_.load(std::memory_order_relaxed) != 0; }
    [[nodiscard]] LimitValue limit(api::SiteId id) const noexcept {
        return limit_from(site_limits_[id.value()].load(std::memory_order_relaxed));
    }
    [[nodiscard]] LimitValue limit(api::PoolId id) const noexcept {
        return limit_from(pool_limits_[id.value()].load(std::memory_order_relaxed));
    }

    /// Writer only.
    void set_site(api::SiteId id, SwitchValue value) noexcept {
        sites_[id.value()].store(pack(value), std::memory_order_relaxed);
        if (!value.keep) strand();
    }
    void set_pool_site(api::PoolId pool, api::SiteId id, SwitchValue value) noexcept {
        // Counted before it is there and uncounted when it is gone: a reader that sees 0 misses nothing.
        auto& word = pools_[index(pool, id)];
        const bool was = word.load(std::memory_order_relaxed) != 0;
        const std::uint64_t now = pack(value);
        if (now != 0 && !was) pool_switches_.fetch_add(1, std::memory_order_relaxed);
        word.store(now, std::memory_order_relaxed);
        if (now == 0 && was) pool_switches_.fetch_sub(1, std::memory_order_relaxed);
        if (!value.keep) strand();
    }
    void set_backend(api::BackendId id, BackendValue value) noexcept {
        const int word = (value.up ? 0 : 1) | (value.keep ? 0 : 2) | (value.end ? 4 : 0);
        backends_[id.value()].store(static_cast<std::uint8_t>(word), std::memory_order_relaxed);
        if (!value.keep) strand();
    }
    void set_limit(api::SiteId id, LimitValue value) noexcept { set_limit(site_limits_[id.value()], value); }
    void set_limit(api::PoolId id, LimitValue value) noexcept { set_limit(pool_limits_[id.value()], value); }

  private:
    // Inverted, so that zeroed memory means "all admitted, all kept": 8 MiB of pool switches that nobody
    // touched cost no page.
    static constexpr std::uint64_t pack(SwitchValue v) noexcept {
        return static_cast<std::uint64_t>(0xffffU - v.admit.value()) |
               static_cast<std::uint64_t>(0xffffU - v.admit_mid.value()) << 16U |
               static_cast<std::uint64_t>(v.keep ? 0 : 1) << 32U |
               static_cast<std::uint64_t>(v.end ? 1 : 0) << 33U;
    }
    static constexpr SwitchValue unpack(std::uint64_t word) noexcept {
        return {api::Admit{static_cast<std::uint16_t>(0xffffU - (word & 0xffffU))},
                api::Admit{static_cast<std::uint16_t>(0xffffU - (word >> 16U & 0xffffU))}, keeps(word),
                (word >> 33U & 1U) != 0};
    }
    static constexpr bool keeps(std::uint64_t word) noexcept { return (word >> 32U & 1U) == 0; }
    static constexpr LimitValue limit_from(std::uint64_t word) noexcept {
        return {(word >> 33U & 1U) != 0, static_cast<std::uint32_t>(word),
                static_cast<api::Refusal>(word >> 32U & 1U)};
    }
    void set_limit(std::atomic<std::uint64_t>& word, LimitValue v) noexcept {
        const bool was = limit_from(word.load(std::memory_order_relaxed)).limited;
        word.store(static_cast<std::uint64_t>(v.per_second) | static_cast<std::uint64_t>(v.refusal) << 32U |
                       static_cast<std::uint64_t>(v.limited ? 1 : 0) << 33U,
                   std::memory_order_relaxed);
        const std::uint32_t now =
            limits_.load(std::memory_order_relaxed) + (v.limited ? 1U : 0U) - (was ? 1U : 0U);
        limits_.store(now, std::memory_order_relaxed);
    }
    void strand() noexcept {
        strandings_.store(strandings_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }
    static constexpr std::size_t index(api::PoolId pool, api::SiteId site) noexcept {
        return static_cast<std::size_t>(pool.value()) * 256 + site.value();
    }
    struct FreePages {
        void operator()(std::atomic<std::uint64_t>* words) const noexcept;
    };

    alignas(64) std::array<std::atomic<std::uint64_t>, 256> sites_{};
    std::atomic<std::uint32_t> strandings_{0};
    std::atomic<std::uint32_t> limits_{0};  ///< how many are in force
    std::array<std::atomic<std::uint64_t>, 256> site_limits_{};
    std::array<std::atomic<std::uint64_t>, api::kMaxPools> pool_limits_{};
    std::array<std::atomic<std::uint8_t>, api::kMaxBackends + 1> backends_{};
    std::atomic<std::uint32_t> pool_switches_{0};  ///< words of pools_ that are not 0
    std::unique_ptr<std::atomic<std::uint64_t>[], FreePages> pools_;
};

}  // namespace detour::core
