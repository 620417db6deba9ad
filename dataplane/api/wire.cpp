#include "dataplane/api/wire.h"

#include <fmt/core.h>

#include <algorithm>

#include "dataplane.pb.h"
#include "dataplane/api/limits.h"

namespace detour::api {
namespace {

constexpr const char* kDoing = "reading a message";

[[nodiscard]] std::string bytes_of(const Mac& mac) {
    return {reinterpret_cast<const char*>(mac.bytes.data()), mac.bytes.size()};
}

/// A wire number that must become a narrower type: error kLimit above `maximum`.
template <class Id>
[[nodiscard]] Result<Id> narrow(std::uint32_t value, std::size_t maximum, const char* field) {
    if (value > maximum)
        return fail(ErrorCode::kLimit, kDoing, fmt::format("{} {} is above {}", field, value, maximum));
    return Id{static_cast<typename Id::rep>(value)};
}

/// A wire number that names one of the values 0 … `last` of an enum.
template <class Enum>
[[nodiscard]] Result<Enum> enumerator(std::uint32_t value, Enum last, const char* field) {
    if (value > static_cast<std::uint32_t>(last))
        return fail(ErrorCode::kInvalidArgument, kDoing, fmt::format("{} {} is not known", field, value));
    return static_cast<Enum>(value);
}

[[nodiscard]] Result<Mac> mac_from(const std::string& bytes, const char* field) {
    Mac mac;
    if (bytes.size() != mac.bytes.size())
        return fail(ErrorCode::kInvalidArgument, kDoing,
                    fmt::format("{} has {} bytes, a MAC address has 6", field, bytes.size()));
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(mac.bytes.data()));
    return mac;
}

/// Empty bytes mean that there is no address.
[[nodiscard]] Result<std::optional<IpAddress>> optional_address(const std::string& bytes) {
    if (bytes.empty()) return std::nullopt;
    auto address = IpAddress::from_bytes(bytes);
    if (!address) return tl::unexpected(address.error());
    return *address;
}

void encode(const PlanPool& pool, wire::Pool& message) {
    message.set_id(pool.id.value());
    message.set_name(pool.name);
    message.set_encap(static_cast<std::uint32_t>(pool.encap));
    message.set_hash(static_cast<std::uint32_t>(pool.hash));
    message.set_stranded(static_cast<std::uint32_t>(pool.stranded));
    message.set_max_backends(pool.max_backends);
    message.set_priority(pool.priority);
    message.set_on_empty(static_cast<std::uint32_t>(pool.on_empty));
    for (const PlanVip& entry : pool.vips) {
        wire::Vip& vip = *message.add_vips();
        vip.set_id(entry.id.value());
        vip.set_address(entry.vip.address.wire());
        vip.set_port(entry.vip.port.value());
        vip.set_protocol(static_cast<std::uint32_t>(entry.vip.protocol));
    }
    for (const PlanPoolSite& part : pool.sites) {
        wire::PoolSite& site = *message.add_sites();
        site.set_site(part.site.value());
        site.set_weight(part.weight.value());
        site.set_tier(part.tier.value());
        for (const PlanBackend& entry : part.backends) {
            wire::Backend& backend = *site.add_backends();
            backend.set_id(entry.id.value());
            backend.set_address(entry.address.wire());
            backend.set_weight(entry.weight.value());
            backend.set_next_hop(entry.next_hop.value());
            for (const QuicServerId& id : entry.server_ids) {
                wire::ServerId& out = *backend.add_server_ids();
                out.set_rotation(id.rotation());
                out.set_id(id.wire());
            }
        }
    }
}

[[nodiscard]] Result<PlanSite> decode_site(const wire::Site& message) {
    const auto id = narrow<SiteId>(message.id(), kMaxSites - 1, "site id");
    if (!id) return tl::unexpected(id.error());
    return PlanSite{*id, message.name(), message.key(), Sequence{message.verdict()}};
}

[[nodiscard]] Result<PlanNextHop> decode_next_hop(const wire::NextHop& message) {
    const auto id = narrow<NextHopId>(message.id(), kMaxNextHops - 1, "next hop id");
    if (!id) return tl::unexpected(id.error());
    const auto port = narrow<EgressPort>(message.port(), kMaxPorts - 1, "next hop port");
    if (!port) return tl::unexpected(port.error());
    const auto source = mac_from(message.source(), "next hop source");
    if (!source) return tl::unexpected(source.error());
    const auto destination = mac_from(message.destination(), "next hop destination");
    if (!destination) return tl::unexpected(destination.error());
    const std::uint32_t vlan = message.vlan();
    if (vlan > kMaxVlan)
        return fail(ErrorCode::kLimit, kDoing, fmt::format("next hop vlan {} is above {}", vlan, kMaxVlan));
    return PlanNextHop{*id,
                       *port,
                       *source,
                       *destination,
                       message.mtu(),
                       message.resolved(),
                       static_cast<std::uint16_t>(vlan)};
}

[[nodiscard]] Result<PlanVip> decode_vip(const wire::Vip& message) {
    const auto id = narrow<VipId>(message.id(), kMaxVips - 1, "vip id");
    if (!id) return tl::unexpected(id.error());
    const auto address = IpAddress::from_bytes(message.address());
    if (!address) return tl::unexpected(address.error());
    const auto port = narrow<Port>(message.port(), 65535, "vip port");
    if (!port) return tl::unexpected(port.error());
    const std::uint32_t protocol = message.protocol();
    if (protocol != static_cast<std::uint32_t>(Protocol::kTcp) &&
        protocol != static_cast<std::uint32_t>(Protocol::kUdp))
        return fail(ErrorCode::kInvalidArgument, kDoing,
                    fmt::format("vip protocol {} is neither TCP (6) nor UDP (17)", protocol));
    return PlanVip{*id, Vip{*address, *port, static_cast<Protocol>(protocol)}};
}

[[nodiscard]] Result<PlanBackend> decode_backend(const wire::Backend& message) {
    const auto id = narrow<BackendId>(message.id(), kMaxBackends - 1, "backend id");
    if (!id) return tl::unexpected(id.error());
    const auto address = IpAddress::from_bytes(message.address());
    if (!address) return tl::unexpected(address.error());
    const auto hop = narrow<NextHopId>(message.next_hop(), kMaxNextHops - 1, "backend next hop");
    if (!hop) return tl::unexpected(hop.error());
    PlanBackend backend{*id, *address, Weight{message.weight()}, *hop, {}};
    for (const wire::ServerId& entry : message.server_ids()) {
        const auto server = QuicServerId::make(entry.rotation(), entry.id());
        if (!server) return tl::unexpected(server.error());
        backend.server_ids.push_back(*server);
    }
    return backend;
}

[[nodiscard]] Result<PlanPoolSite> decode_pool_site(const wire::PoolSite& message) {
    const auto site = narrow<SiteId>(message.site(), kMaxSites - 1, "pool site");
    if (!site) return tl::unexpected(site.error());
    if (message.tier() > 255)
        return fail(ErrorCode::kInvalidArgument, kDoing, fmt::format("tier {} is not known", message.tier()));
    PlanPoolSite part{*site, Weight{message.weight()}, Tier{static_cast<std::uint8_t>(message.tier())}, {}};
    part.backends.reserve(static_cast<std::size_t>(message.backends_size()));
    for (const wire::Backend& entry : message.backends()) {
        auto backend = decode_backend(entry);
        if (!backend) return tl::unexpected(backend.error());
        part.backends.push_back(std::move(*backend));
    }
    return part;
}

[[nodiscard]] Result<PlanPool> decode_pool(const wire::Pool& message) {
    PlanPool pool;
    const auto id = narrow<PoolId>(message.id(), kMaxPools - 1, "pool id");
    if (!id) return tl::unexpected(id.error());
    const auto encap = enumerator(message.encap(), Encap::kGre, "encap");
    if (!encap) return tl::unexpected(encap.error());
    const auto hash = enumerator(message.hash(), HashKey::kQuicCid, "hash");
    if (!hash) return tl::unexpected(hash.error());
    const auto stranded = enumerator(message.stranded(), Stranded::kKeep, "stranded");
    if (!stranded) return tl::unexpected(stranded.error());
    const auto on_empty = enumerator(message.on_empty(), Refusal::kReset, "on_empty");
    if (!on_empty) return tl::unexpected(on_empty.error());
    pool.id = *id;
    pool.name = message.name();
    pool.encap = *encap;
    pool.hash = *hash;
    pool.stranded = *stranded;
    pool.on_empty = *on_empty;
    pool.max_backends = message.max_backends();
    if (message.priority() != 0) pool.priority = message.priority();
    for (const wire::Vip& entry : message.vips()) {
        const auto vip = decode_vip(entry);
        if (!vip) return tl::unexpected(vip.error());
        pool.vips.push_back(*vip);
    }
    for (const wire::PoolSite& entry : message.sites()) {
        auto site = decode_pool_site(entry);
        if (!site) return tl::unexpected(site.error());
        pool.sites.push_back(std::move(*site));
    }
    return pool;
}

[[nodiscard]] Result<void> decode_head(const wire::Plan& message, ForwardingPlan& plan) {
    if (message.seed().size() != plan.seed.bytes.size())
        return fail(ErrorCode::kInvalidArgument, kDoing,
                    fmt::format("seed has {} bytes, it must have 16", message.seed().size()));
    std::copy(message.seed().begin(), message.seed().end(), reinterpret_cast<char*>(plan.seed.bytes.data()));
    const auto v4 = optional_address(message.source_v4());
    if (!v4) return tl::unexpected(v4.error());
    const auto v6 = optional_address(message.source_v6());
    if (!v6) return tl::unexpected(v6.error());
    plan.generation = Generation{message.generation()};
    plan.source_v4 = *v4;
    plan.source_v6 = *v6;
    plan.resets_per_second = message.resets_per_second();
    plan.icmp_per_second = message.icmp_per_second();
    return {};
}

}  // namespace

void encode(const ForwardingPlan& plan, wire::Plan& message) {
    message.Clear();
    message.set_generation(plan.generation.value());
    message.set_seed(
        std::string(reinterpret_cast<const char*>(plan.seed.bytes.data()), plan.seed.bytes.size()));
    if (plan.source_v4) message.set_source_v4(plan.source_v4->wire());
    if (plan.source_v6) message.set_source_v6(plan.source_v6->wire());
    message.set_resets_per_second(plan.resets_per_second);
    message.set_icmp_per_second(plan.icmp_per_second);
    for (const PlanSite& entry : plan.sites) {
        wire::Site& site = *message.add_sites();
        site.set_id(entry.id.value());
        site.set_name(entry.name);
        site.set_key(entry.key);
        site.set_verdict(entry.verdict.value());
    }
    for (const PlanNextHop& entry : plan.next_hops) {
        wire::NextHop& hop = *message.add_next_hops();
        hop.set_id(entry.id.value());
        hop.set_port(entry.port.value());
        hop.set_source(bytes_of(entry.source));
        hop.set_destination(bytes_of(entry.destination));
        hop.set_mtu(entry.mtu);
        hop.set_resolved(entry.resolved);
        hop.set_vlan(entry.vlan);
    }
    for (const PlanPool& pool : plan.pools) encode(pool, *message.add_pools());
}

void encode(const SiteSwitch& value, wire::SiteSwitch& message) {
    message.Clear();
    message.set_site(value.site.value());
    if (value.pool) message.set_pool(value.pool->value());
    message.set_sequence(value.sequence.value());
    message.set_admit(value.admit.value());
    message.set_admit_mid(value.admit_mid.value());
    message.set_keep(value.keep);
    message.set_end_flows(value.end_flows);
}

void encode(const BackendSwitch& value, wire::BackendSwitch& message) {
    message.Clear();
    message.set_backend(value.backend.value());
    message.set_sequence(value.sequence.value());
    message.set_up(value.up);
    message.set_keep(value.keep);
    message.set_end_flows(value.end_flows);
}

void encode(const FlowLimit& value, wire::FlowLimit& message) {
    message.Clear();
    if (value.site) message.set_site(value.site->value());
    if (value.pool) message.set_pool(value.pool->value());
    message.set_sequence(value.sequence.value());
    if (value.per_second) message.set_per_second(*value.per_second);
    message.set_refusal(static_cast<std::uint32_t>(value.refusal));
}

void encode(const Error& error, wire::Failure& message) {
    message.Clear();
    message.set_code(static_cast<std::uint32_t>(error.code));
    message.set_doing(error.doing);
    message.set_what(error.what);
}

Result<ForwardingPlan> decode(const wire::Plan& message) {
    ForwardingPlan plan;
    if (auto head = decode_head(message, plan); !head) return tl::unexpected(head.error());
    for (const wire::Site& entry : message.sites()) {
        auto site = decode_site(entry);
        if (!site) return tl::unexpected(site.error());
        plan.sites.push_back(std::move(*site));
    }
    for (const wire::NextHop& entry : message.next_hops()) {
        const auto hop = decode_next_hop(entry);
        if (!hop) return tl::unexpected(hop.error());
        plan.next_hops.push_back(*hop);
    }
    plan.pools.reserve(static_cast<std::size_t>(message.pools_size()));
    for (const wire::Pool& entry : message.pools()) {
        auto pool = decode_pool(entry);
        if (!pool) return tl::unexpected(pool.error());
        plan.pools.push_back(std::move(*pool));
    }
    if (auto checked = check(plan); !checked) return tl::unexpected(checked.error());
    return plan;
}

Result<SiteSwitch> decode(const wire::SiteSwitch& message) {
    SiteSwitch value;
    const auto site = narrow<SiteId>(message.site(), kMaxSites - 1, "switch site");
    if (!site) return tl::unexpected(site.error());
    const auto admit = narrow<Admit>(message.admit(), 65535, "switch admit");
    if (!admit) return tl::unexpected(admit.error());
    const auto admit_mid = narrow<Admit>(message.admit_mid(), 65535, "switch admit_mid");
    if (!admit_mid) return tl::unexpected(admit_mid.error());
    if (message.has_pool()) {
        const auto pool = narrow<PoolId>(message.pool(), kMaxPools - 1, "switch pool");
        if (!pool) return tl::unexpected(pool.error());
        value.pool = *pool;
    }
    value.site = *site;
    value.sequence = Sequence{message.sequence()};
    value.admit = *admit;
    value.admit_mid = *admit_mid;
    value.keep = message.keep();
    value.end_flows = message.end_flows();
    return value;
}

Result<BackendSwitch> decode(const wire::BackendSwitch& message) {
    const auto backend = narrow<BackendId>(message.backend(), kMaxBackends - 1, "switch backend");
    if (!backend) return tl::unexpected(backend.error());
    return BackendSwitch{*backend, Sequence{message.sequence()}, message.up(), message.keep(),
                         message.end_flows()};
}

Result<FlowLimit> decode(const wire::FlowLimit& message) {
    FlowLimit value;
    if (message.has_site() == message.has_pool())
        return fail(ErrorCode::kInvalidArgument, kDoing, "a flow limit names either a site or a pool");
    if (message.has_site()) {
        const auto site = narrow<SiteId>(message.site(), kMaxSites - 1, "flow limit's site");
        if (!site) return tl::unexpected(site.error());
        value.site = *site;
    } else {
        const auto pool = narrow<PoolId>(message.pool(), kMaxPools - 1, "flow limit's pool");
        if (!pool) return tl::unexpected(pool.error());
        value.pool = *pool;
    }
    const auto refusal = enumerator(message.refusal(), Refusal::kReset, "refusal");
    if (!refusal) return tl::unexpected(refusal.error());
    value.sequence = Sequence{message.sequence()};
    if (message.has_per_second()) value.per_second = message.per_second();
    value.refusal = *refusal;
    return value;
}

Error decode(const wire::Failure& message) {
    Error error;
    if (message.code() <= static_cast<std::uint32_t>(ErrorCode::kSystem))
        error.code = static_cast<ErrorCode>(message.code());
    error.doing = message.doing();
    error.what = message.what();
    return error;
}

}  // namespace detour::api
