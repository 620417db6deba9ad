// The API's handlers that look into the fast path: one packet traced, packets captured.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "control/api/json.h"
#include "control/app/handlers.h"
#include "control/app/later.h"
#include "control/plan/described_packet.h"
#include "dataplane.pb.h"
#include "dataplane/api/counters.h"
#include "dataplane/api/quic_server_id.h"

namespace detour::app {

namespace {

using control::ApiError;

ApiError wrong(std::string doing, std::string what) {
    return {api::ErrorCode::kInvalidArgument, std::move(doing), std::move(what)};
}

std::string_view outcome_name(api::Outcome outcome) {
    constexpr std::array<std::string_view, 4> kNames{"forwarded", "answered", "kernel", "dropped"};
    return kNames[static_cast<std::size_t>(outcome)];
}

/// Names for ids, of what is there now; the number where it has none.
class Names {
  public:
    Names(const Snapshot& snapshot, const config::Config& config) : snapshot_(snapshot), config_(config) {}

    [[nodiscard]] std::string pool(std::uint32_t id) const {
        for (const PoolStatus& pool : snapshot_.pools)
            if (pool.id.value() == id) return pool.name;
        return std::to_string(id);
    }
    [[nodiscard]] std::string site(std::uint32_t id) const {
        for (const SiteStatus& site : snapshot_.sites)
            if (site.id.value() == id) return site.name;
        return std::to_string(id);
    }
    [[nodiscard]] std::string backend(std::uint32_t id) const {
        for (const BackendStatus& backend : snapshot_.backends)
            if (backend.id.value() == id) return backend.address.to_string();
        return std::to_string(id);
    }
    [[nodiscard]] std::string port(std::uint32_t index) const {
        const auto& ports = config_.dataplane.ports;
        return index < ports.size() ? ports[index] : std::to_string(index);
    }

  private:
    const Snapshot& snapshot_;
    const config::Config& config_;
};

template <class Message, class Out>
void place(const Names& names, const Message& message, Out& out) {
    if (message.has_pool()) out.pool = names.pool(message.pool());
    if (message.has_site()) out.site = names.site(message.site());
    if (message.has_backend()) out.backend = names.backend(message.backend());
}

control::Outcome<plan::Segment> segment_of(const std::string& flags) {
    using enum plan::Segment;
    constexpr std::array<std::pair<std::string_view, plan::Segment>, 6> kWords{
        {{"", kSyn}, {"syn", kSyn}, {"ack", kAck}, {"data", kData}, {"fin", kFin}, {"rst", kRst}}};
    for (const auto& [word, segment] : kWords)
        if (word == flags) return segment;
    return tl::unexpected(
        wrong("describing a packet", fmt::format("flags '{}' is none of syn, ack, data, fin, rst", flags)));
}

/// From the IP header on.
control::Outcome<std::string> packet_of(const control::PacketTraceRequest& request) {
    if (!request.packet.empty()) {
        auto bytes = api::bytes_from_hex(request.packet);
        if (!bytes) return tl::unexpected(ApiError(bytes.error()));
        return *bytes;
    }
    auto flow = control::parse_flow(request.source, request.vip);
    if (!flow) return tl::unexpected(ApiError(flow.error()));
    plan::DescribedPacket described;
    described.flow = {flow->source, flow->source_port, flow->vip, {}};
    if (!request.cid.empty()) {
        auto cid = control::parse_cid(request.cid);
        if (!cid) return tl::unexpected(ApiError(cid.error()));
        described.flow.cid = *cid;
    }
    const auto segment = segment_of(request.flags);
    if (!segment) return tl::unexpected(segment.error());
    described.segment = *segment;
    described.size = request.size.value_or(0);
    auto packet = plan::make_packet(described);
    if (!packet) return tl::unexpected(ApiError(packet.error()));
    return *packet;
}

control::PacketTrace shown(const wire::TraceReply& reply, const Names& names) {
    control::PacketTrace out;
    if (reply.has_reason() && reply.reason() < api::kReasonCount) {
        const api::ReasonInfo& info = api::kReasons[reply.reason()];
        out.outcome = outcome_name(info.outcome);
        out.reason = info.name;
        out.description = info.description;
    } else {
        out.outcome = "held";
        out.description = "A later fragment: it would wait for the first one of its datagram.";
    }
    place(names, reply, out);
    out.known = reply.known() == 1 ? "flow" : reply.known() == 2 ? "syn" : "";
    if (reply.known() != 0) out.worker = reply.worker();
    out.frame = api::hex_of(reply.frame());
    out.length = reply.length();
    if (reply.length() != 0) out.port = names.port(reply.port());
    return out;
}

/// Before the pipeline or behind it: no packet there has such a reason yet.
bool counted_elsewhere(api::Reason reason) {
    return reason == api::Reason::kMultiSegment || reason == api::Reason::kTransmitFull ||
           reason == api::Reason::kKernelFull;
}

control::Outcome<wire::StartCapture> filter_of(const control::CaptureRequest& request,
                                               const Snapshot& snapshot) {
    const std::string doing = "starting a capture";
    wire::StartCapture out;
    out.set_sample(request.sample.value_or(1));
    out.set_snap(request.snap.value_or(0));
    if (!request.pool.empty()) {
        const auto pool = std::ranges::find(snapshot.pools, request.pool, &PoolStatus::name);
        if (pool == snapshot.pools.end())
            return tl::unexpected(wrong(doing, "there is no pool " + request.pool));
        out.set_pool(pool->id.value());
    }
    if (!request.site.empty()) {
        const auto site = std::ranges::find(snapshot.sites, request.site, &SiteStatus::name);
        if (site == snapshot.sites.end())
            return tl::unexpected(wrong(doing, "there is no site " + request.site));
        out.set_site(site->id.value());
    }
    if (!request.reason.empty()) {
        const auto info = std::ranges::find(api::kReasons, request.reason, &api::ReasonInfo::name);
        if (info == api::kReasons.end())
            return tl::unexpected(
                wrong(doing, "there is no reason " + request.reason + "; docs/counters.md has all"));
        if (counted_elsewhere(info->reason))
            return tl::unexpected(
                wrong(doing, request.reason + " is counted outside the stages: there is no packet to show"));
        out.set_reason(static_cast<std::uint32_t>(info->reason));
    }
    return out;
}

control::CapturedPacket shown(const wire::CapturedPacket& packet, const Names& names) {
    control::CapturedPacket out;
    out.time = control::Time(std::chrono::microseconds(packet.time_ns() / 1000));
    out.worker = packet.worker();
    out.port = names.port(packet.port());
    if (packet.reason() < api::kReasonCount) {
        out.outcome = outcome_name(api::kReasons[packet.reason()].outcome);
        out.reason = api::kReasons[packet.reason()].name;
    }
    place(names, packet, out);
    out.before = api::hex_of(packet.before());
    out.before_length = packet.before_length();
    if (packet.after_length() != 0) out.sent_port = names.port(packet.sent_port());
    out.after = api::hex_of(packet.after());
    out.after_length = packet.after_length();
    return out;
}

template <class Reply>
control::Outcome<Reply> brought(const std::optional<api::Result<Reply>>& value) {
    if (!value)
        return tl::unexpected(
            ApiError(api::ErrorCode::kUnavailable, "asking the fast path", "this process is stopping"));
    if (!*value) return tl::unexpected(ApiError(value->error()));
    return **value;
}

}  // namespace

control::Task<control::PacketTrace> ApiHandlers::trace_packet(control::PacketTraceRequest request) {
    using Reply = control::Outcome<control::PacketTrace>;
    const auto packet = packet_of(request);
    if (!packet) co_return Reply(tl::unexpect, packet.error());
    auto later = std::make_shared<Later<api::Result<wire::TraceReply>>>(service_.io());
    service_.fast_path().trace(
        *packet, [later](api::Result<wire::TraceReply> reply) { later->set(std::move(reply)); });
    co_await later->wait();
    const auto reply = brought(later->value);
    if (!reply) co_return Reply(tl::unexpect, reply.error());
    const Snapshot snapshot = service_.snapshot();
    auto out = shown(*reply, Names(snapshot, service_.config()));
    out.packet = api::hex_of(*packet);
    co_return out;
}

control::Task<control::CapturePage> ApiHandlers::capture(control::CaptureRequest request) {
    using Reply = control::Outcome<control::CapturePage>;
    const auto filter = filter_of(request, service_.snapshot());
    if (!filter) co_return Reply(tl::unexpect, filter.error());
    auto later = std::make_shared<Later<api::Result<wire::CaptureReply>>>(service_.io());
    service_.fast_path().start_capture(
        *filter, [later](api::Result<wire::CaptureReply> reply) { later->set(std::move(reply)); });
    co_await later->wait();
    const auto reply = brought(later->value);
    if (!reply) co_return Reply(tl::unexpect, reply.error());
    control::CapturePage page;
    page.capture = reply->capture();
    co_return page;
}

control::Task<control::CapturePage> ApiHandlers::read_capture(control::CaptureReadRequest request) {
    using Reply = control::Outcome<control::CapturePage>;
    wire::ReadCapture asked;
    asked.set_capture(request.capture);
    asked.set_end(request.end);
    auto later = std::make_shared<Later<api::Result<wire::CaptureReply>>>(service_.io());
    service_.fast_path().read_capture(
        asked, [later](api::Result<wire::CaptureReply> reply) { later->set(std::move(reply)); });
    co_await later->wait();
    const auto reply = brought(later->value);
    if (!reply) co_return Reply(tl::unexpect, reply.error());
    const Snapshot snapshot = service_.snapshot();
    const Names names(snapshot, service_.config());
    control::CapturePage page;
    page.capture = reply->capture();
    page.sampled = reply->sampled();
    page.missed = reply->missed();
    for (const auto& packet : reply->packets()) page.packets.push_back(shown(packet, names));
    co_return page;
}

}  // namespace detour::app
