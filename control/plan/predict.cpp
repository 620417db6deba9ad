#include "control/plan/predict.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "dataplane/core/hash.h"
#include "dataplane/core/host_state.h"
#include "dataplane/core/select.h"
#include "dataplane/core/tables.h"

namespace detour::plan {

struct Predictor::State {
    std::unique_ptr<const core::ForwardingTables> tables;
    core::HostState host;
    std::vector<api::SiteSwitch> sites;  ///< in force
    std::vector<api::BackendSwitch> backends;
};

namespace {

/// Ports as they lie in the packet: source, then destination, network order, read as one word.
std::uint32_t ports_word(api::Port source, api::Port destination) {
    const std::uint16_t words[2] = {__builtin_bswap16(source.value()),
                                    __builtin_bswap16(destination.value())};
    return std::bit_cast<std::uint32_t>(words);
}

std::uint32_t v4_word(const api::IpAddress& address) {
    std::uint32_t word = 0;
    std::memcpy(&word, address.bytes().data(), sizeof word);
    return word;
}

std::uint64_t choice_hash(const core::HashSeed& seed, api::HashKey key, const Flow& flow) {
    const api::IpAddress& from = flow.client;
    const api::IpAddress& to = flow.vip.address;
    const std::uint32_t ports = ports_word(flow.client_port, flow.vip.port);
    const auto protocol = static_cast<std::uint8_t>(flow.vip.protocol);
    if (!from.is_v6()) {
        const std::uint64_t whole = core::hash_v4(seed, v4_word(from), v4_word(to), ports, protocol);
        return core::choice_hash_v4(seed, key, whole, v4_word(from));
    }
    const std::uint64_t whole = core::hash_v6(seed, from.bytes().data(), to.bytes().data(), ports, protocol);
    return core::choice_hash_v6(seed, key, whole, from.bytes().data());
}

}  // namespace

Predictor::Predictor(std::unique_ptr<State> state) : state_(std::move(state)) {}
Predictor::Predictor(Predictor&&) noexcept = default;
Predictor& Predictor::operator=(Predictor&&) noexcept = default;
Predictor::~Predictor() = default;

api::Result<Predictor> Predictor::make(const api::ForwardingPlan& plan,
                                       std::span<const api::SiteSwitch> sites,
                                       std::span<const api::BackendSwitch> backends) {
    auto tables = core::build_tables(plan, nullptr);
    if (!tables) return tl::unexpected(tables.error());
    auto state = std::make_unique<State>();
    state->tables = std::move(*tables);
    Predictor result(std::move(state));
    result.use(sites, backends);
    return result;
}

void Predictor::use(std::span<const api::SiteSwitch> sites, std::span<const api::BackendSwitch> backends) {
    core::HostState& host = state_->host;
    const auto set = [&host](const api::SiteSwitch& at, core::SwitchValue gate) {
        at.pool ? host.set_pool_site(*at.pool, at.site, gate) : host.set_site(at.site, gate);
    };
    for (const api::SiteSwitch& value : state_->sites) set(value, {});
    for (const api::BackendSwitch& value : state_->backends) host.set_backend(value.backend, {});
    state_->sites.assign(sites.begin(), sites.end());
    state_->backends.assign(backends.begin(), backends.end());
    for (const api::SiteSwitch& value : sites) set(value, {value.admit, value.admit_mid, value.keep});
    for (const api::BackendSwitch& value : backends) host.set_backend(value.backend, {value.up, value.keep});
}

std::optional<std::uint16_t> Predictor::named_backend(const Flow& flow, std::uint16_t pool) const {
    if (flow.vip.protocol != api::Protocol::kUdp) return std::nullopt;
    const std::span cid(reinterpret_cast<const std::uint8_t*>(flow.cid.data()), flow.cid.size());
    const std::uint16_t backend = core::named_backend(*state_->tables, state_->host, pool, cid);
    return backend == core::kNoBackendId ? std::nullopt : std::optional(backend);
}

api::Result<Destination> Predictor::new_flow(const Flow& flow) const {
    if (flow.client.is_v6() != flow.vip.address.is_v6()) {
        return api::fail(api::ErrorCode::kInvalidArgument, "tracing a flow",
                         "client " + flow.client.to_string() + " and VIP " + flow.vip.to_string() +
                             " are of different families");
    }
    std::array<std::uint64_t, 2> address{};
    std::memcpy(address.data(), flow.vip.address.bytes().data(), flow.vip.address.bytes().size());
    const core::ForwardingTables& tables = *state_->tables;
    const core::VipEntry* slot = tables.vips.find(address, flow.vip.address.is_v6() ? 1 : 0,
                                                  static_cast<std::uint8_t>(flow.vip.protocol),
                                                  __builtin_bswap16(flow.vip.port.value()));
    if (slot == nullptr) {
        return api::fail(api::ErrorCode::kNotFound, "tracing a flow", flow.vip.to_string() + " is no VIP");
    }
    const core::PoolEntry& pool = tables.pools[slot->pool];
    if (const auto backend = named_backend(flow, slot->pool))
        return Destination{pool.id, api::SiteId{tables.backends[*backend].site}, api::BackendId{*backend},
                           true};
    const std::uint64_t hash = choice_hash(tables.seed, pool.hash, flow);
    const core::Choice choice = core::choose(tables, pool, state_->host, hash, core::Admission::kNew);
    Destination result;
    result.pool = pool.id;
    if (choice.site != core::kNoSiteId) result.site = api::SiteId{choice.site};
    if (choice.backend != core::kNoBackendId) result.backend = api::BackendId{choice.backend};
    return result;
}

}  // namespace detour::plan
