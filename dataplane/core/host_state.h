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
#include "dataplane/api/types.h"

namespace detour::core {

/// The value of one site switch.
struct SwitchValue {
    api::Admit admit = api::kAdmitAll;
    api::Admit admit_mid = api::kAdmitAll;
    bool keep = true;
    constexpr bool operator==(const SwitchValue&) const noexcept = default;
};

struct BackendValue {
    bool up = true;
    bool keep = true;
    constexpr bool operator==(const BackendValue&) const noexcept = default;
};

class HostState {
  public:
    HostState();

    /// The host-wide switch of a site.
    [[nodiscard]] SwitchValue site(api::SiteId id) const noexcept {
        return unpack(sites_[id.value()].load(std::memory_order_relaxed));
    }
    /// The pool's own switch and the host's: the smaller admit, the smaller admit_mid, keep only if both
    /// keep.
    [[nodiscard]] SwitchValue effective(api::PoolId pool, api::SiteId site_id) const noexcept {
        const SwitchValue host = site(site_id);
        const SwitchValue own = unpack(pools_[index(pool, site_id)].load(std::memory_order_relaxed));
        return {host.admit < own.admit ? host.admit : own.admit,
                host.admit_mid < own.admit_mid ? host.admit_mid : own.admit_mid, host.keep && own.keep};
    }
    [[nodiscard]] BackendValue backend(api::BackendId id) const noexcept {
        const std::uint8_t word = backends_[id.value()].load(std::memory_order_relaxed);
        return {(word & 1U) == 0, (word & 2U) == 0};
    }

    /// Writer only.
    void set_site(api::SiteId id, SwitchValue value) noexcept {
        sites_[id.value()].store(pack(value), std::memory_order_relaxed);
    }
    void set_pool_site(api::PoolId pool, api::SiteId id, SwitchValue value) noexcept {
        pools_[index(pool, id)].store(pack(value), std::memory_order_relaxed);
    }
    void set_backend(api::BackendId id, BackendValue value) noexcept {
        const int word = (value.up ? 0 : 1) | (value.keep ? 0 : 2);
        backends_[id.value()].store(static_cast<std::uint8_t>(word), std::memory_order_relaxed);
    }

  private:
    // Inverted, so that zeroed memory means "all admitted, all kept": 8 MiB of pool switches that nobody
    // touched cost no page.
    static constexpr std::uint64_t pack(SwitchValue v) noexcept {
        return static_cast<std::uint64_t>(0xffffU - v.admit.value()) |
               static_cast<std::uint64_t>(0xffffU - v.admit_mid.value()) << 16U |
               static_cast<std::uint64_t>(v.keep ? 0 : 1) << 32U;
    }
    static constexpr SwitchValue unpack(std::uint64_t word) noexcept {
        return {api::Admit{static_cast<std::uint16_t>(0xffffU - (word & 0xffffU))},
                api::Admit{static_cast<std::uint16_t>(0xffffU - (word >> 16U & 0xffffU))},
                (word >> 32U & 1U) == 0};
    }
    static constexpr std::size_t index(api::PoolId pool, api::SiteId site) noexcept {
        return static_cast<std::size_t>(pool.value()) * 256 + site.value();
    }
    struct FreePages {
        void operator()(std::atomic<std::uint64_t>* words) const noexcept;
    };

    alignas(64) std::array<std::atomic<std::uint64_t>, 256> sites_{};
    std::array<std::atomic<std::uint8_t>, api::kMaxBackends + 1> backends_{};
    std::unique_ptr<std::atomic<std::uint64_t>[], FreePages> pools_;
};

}  // namespace detour::core
