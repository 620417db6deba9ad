#include "control/app/switchboard.h"

#include <algorithm>

namespace detour::app {

namespace {

failover::Gate gate_of(const api::SiteSwitch& value) {
    return {value.admit, value.admit_mid, value.keep, value.end_flows};
}

}  // namespace

void Switchboard::adopt(const std::vector<api::SiteSwitch>& sites,
                        const std::vector<api::BackendSwitch>& backends) {
    connected_ = true;
    changed_sites_.clear();
    changed_backends_.clear();
    // Our own numbers stay as a floor: a fast path that lost its disk starts from 0, and ours must still
    // grow.
    for (auto& [target, value] : sites_) {
        value = {target.first, target.second, value.sequence};
    }
    for (auto& [backend, value] : backends_) value = {backend, value.sequence};
    for (const api::SiteSwitch& value : sites) {
        const SiteTarget target{value.site, value.pool};
        const api::Sequence floor = sites_[target].sequence;
        sites_[target] = value;
        sites_[target].sequence = std::max(value.sequence, floor);
    }
    for (const api::BackendSwitch& value : backends) {
        const api::Sequence floor = backends_[value.backend].sequence;
        backends_[value.backend] = value;
        backends_[value.backend].sequence = std::max(value.sequence, floor);
    }
}

bool Switchboard::want(api::SiteId site, std::optional<api::PoolId> pool, const failover::Gate& gate) {
    if (!connected_ || in_force(site, pool) == gate) return false;
    api::SiteSwitch& value = sites_[{site, pool}];
    value = {site,      pool,          api::Sequence{value.sequence.value() + 1}, gate.admit, gate.admit_mid,
             gate.keep, gate.end_flows};
    changed_sites_.insert({site, pool});
    return true;
}

bool Switchboard::want(api::BackendId backend, BackendFlags flags) {
    if (!connected_ || in_force(backend) == flags) return false;
    api::BackendSwitch& value = backends_[backend];
    value = {backend, api::Sequence{value.sequence.value() + 1}, flags.up, flags.keep, flags.end_flows};
    changed_backends_.insert(backend);
    return true;
}

failover::Gate Switchboard::in_force(api::SiteId site, std::optional<api::PoolId> pool) const {
    const auto found = sites_.find({site, pool});
    return found == sites_.end() ? failover::Gate{} : gate_of(found->second);
}

BackendFlags Switchboard::in_force(api::BackendId backend) const {
    const auto found = backends_.find(backend);
    return found == backends_.end()
               ? BackendFlags{}
               : BackendFlags{found->second.up, found->second.keep, found->second.end_flows};
}

api::Sequence Switchboard::sequence(api::SiteId site) const {
    const auto found = sites_.find({site, std::nullopt});
    return found == sites_.end() ? api::Sequence{0} : found->second.sequence;
}

std::vector<api::SiteSwitch> Switchboard::take_sites() {
    std::vector<api::SiteSwitch> result;
    for (const SiteTarget& target : changed_sites_) result.push_back(sites_.at(target));
    std::stable_partition(result.begin(), result.end(), [](const auto& value) { return !value.pool; });
    changed_sites_.clear();
    return result;
}

std::vector<api::BackendSwitch> Switchboard::take_backends() {
    std::vector<api::BackendSwitch> result;
    for (const api::BackendId backend : changed_backends_) result.push_back(backends_.at(backend));
    changed_backends_.clear();
    return result;
}

std::vector<api::SiteSwitch> Switchboard::all_sites() const {
    std::vector<api::SiteSwitch> result;
    for (const auto& [target, value] : sites_) {
        if (gate_of(value) != failover::Gate{}) result.push_back(value);
    }
    return result;
}

std::vector<api::BackendSwitch> Switchboard::all_backends() const {
    std::vector<api::BackendSwitch> result;
    for (const auto& [backend, value] : backends_) {
        if (!value.up || !value.keep) result.push_back(value);
    }
    return result;
}

}  // namespace detour::app
