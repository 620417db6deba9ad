#include "dataplane/io/switch_book.h"

#include <new>
#include <type_traits>

#include "dataplane/api/limits.h"

namespace detour::io {
namespace {

constexpr std::size_t kRowSites = 256;

// calloc, so that rows of pools that nobody switches stay untouched pages.
template <class T>
T* zeroed(std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    void* memory = std::calloc(count, sizeof(T));
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<T*>(memory);
}

std::size_t row_of(const std::optional<api::PoolId>& pool) noexcept {
    return pool ? static_cast<std::size_t>(pool->value()) + 1 : 0;
}

}  // namespace

SwitchBook::SwitchBook(core::HostState& host)
    : host_(host),
      sites_(zeroed<SiteRecord>((api::kMaxPools + 1) * kRowSites)),
      touched_rows_(api::kMaxPools + 1),
      backends_(zeroed<BackendRecord>(api::kMaxBackends + 1)),
      site_limits_(kRowSites),
      pool_limits_(api::kMaxPools) {}

void SwitchBook::apply(const SwitchSet& switches, std::span<SwitchOutcome> outcomes) noexcept {
    const std::lock_guard lock(mutex_);
    std::size_t i = 0;
    for (const api::SiteSwitch& value : switches.sites) outcomes[i++] = apply_site(value);
    for (const api::BackendSwitch& value : switches.backends) outcomes[i++] = apply_backend(value);
    for (const api::FlowLimit& value : switches.limits) outcomes[i++] = apply_limit(value);
}

SwitchOutcome SwitchBook::apply_site(const api::SiteSwitch& value) noexcept {
    const std::size_t row = row_of(value.pool);
    SiteRecord& record = sites_[row * kRowSites + value.site.value()];
    if (value.sequence.value() <= record.sequence) return {false, api::Sequence{record.sequence}};
    const core::SwitchValue stored{value.admit, value.admit_mid, value.keep, value.end_flows};
    if (value.pool) {
        host_.set_pool_site(*value.pool, value.site, stored);
    } else {
        host_.set_site(value.site, stored);
    }
    record = {value.sequence.value(), value.admit.value(), value.admit_mid.value(), value.keep,
              value.end_flows};
    touched_rows_[row] = true;
    return {true, value.sequence};
}

SwitchOutcome SwitchBook::apply_backend(const api::BackendSwitch& value) noexcept {
    BackendRecord& record = backends_[value.backend.value()];
    if (value.sequence.value() <= record.sequence) return {false, api::Sequence{record.sequence}};
    host_.set_backend(value.backend, {value.up, value.keep, value.end_flows});
    record = {value.sequence.value(), value.up, value.keep, value.end_flows};
    return {true, value.sequence};
}

SwitchOutcome SwitchBook::apply_limit(const api::FlowLimit& value) noexcept {
    LimitRecord& record = value.site ? site_limits_[value.site->value()] : pool_limits_[value.pool->value()];
    if (value.sequence.value() <= record.sequence) return {false, api::Sequence{record.sequence}};
    record = {value.sequence.value(),
              {value.per_second.has_value(), value.per_second.value_or(0), value.refusal}};
    if (value.site) {
        host_.set_limit(*value.site, record.value);
    } else {
        host_.set_limit(*value.pool, record.value);
    }
    return {true, value.sequence};
}

api::Sequence SwitchBook::verdict(api::SiteId site) const {
    const std::lock_guard lock(mutex_);
    return api::Sequence{sites_[site.value()].sequence};
}

SwitchSet SwitchBook::snapshot() const {
    SwitchSet all;
    const std::lock_guard lock(mutex_);
    for (std::size_t row = 0; row < touched_rows_.size(); ++row) {
        if (!touched_rows_[row]) continue;
        const auto pool =
            row == 0 ? std::nullopt : std::optional(api::PoolId{static_cast<std::uint16_t>(row - 1)});
        for (std::size_t site = 0; site < kRowSites; ++site) {
            const SiteRecord& r = sites_[row * kRowSites + site];
            if (r.sequence == 0) continue;
            all.sites.push_back({api::SiteId{static_cast<std::uint8_t>(site)}, pool,
                                 api::Sequence{r.sequence}, api::Admit{r.admit}, api::Admit{r.admit_mid},
                                 r.keep, r.end});
        }
    }
    for (std::size_t id = 0; id <= api::kMaxBackends; ++id) {
        const BackendRecord& r = backends_[id];
        if (r.sequence == 0) continue;
        all.backends.push_back(
            {api::BackendId{static_cast<std::uint16_t>(id)}, api::Sequence{r.sequence}, r.up, r.keep, r.end});
    }
    const auto add = [&all](const LimitRecord& r, std::optional<api::SiteId> site,
                            std::optional<api::PoolId> pool) {
        if (r.sequence == 0) return;
        const auto rate = r.value.limited ? std::optional(r.value.per_second) : std::nullopt;
        all.limits.push_back({site, pool, api::Sequence{r.sequence}, rate, r.value.refusal});
    };
    for (std::size_t id = 0; id < site_limits_.size(); ++id)
        add(site_limits_[id], api::SiteId{static_cast<std::uint8_t>(id)}, std::nullopt);
    for (std::size_t id = 0; id < pool_limits_.size(); ++id)
        add(pool_limits_[id], std::nullopt, api::PoolId{static_cast<std::uint16_t>(id)});
    return all;
}

}  // namespace detour::io
