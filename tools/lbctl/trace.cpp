// lbctl trace: what becomes of this packet, and where would these flows go?
#include <fmt/format.h>

#include <fstream>
#include <iostream>
#include <iterator>

#include "control/api/json.h"
#include "dataplane/api/quic_server_id.h"
#include "tools/lbctl/packet_line.h"
#include "tools/lbctl/verbs.h"

namespace detour::lbctl {

using namespace detour::control;

namespace {

constexpr std::chrono::seconds kTraceDeadline{60};

api::Result<std::string> read_all(const std::string& path) {
    if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
    std::ifstream file(path, std::ios::binary);
    std::string text(std::istreambuf_iterator<char>(file), {});
    if (!file) return api::fail(api::ErrorCode::kInvalidArgument, "reading the flows", "can't read " + path);
    return text;
}

api::Result<std::vector<FlowQuery>> flows_of(const TraceCommand& command) {
    if (command.file.empty()) {
        auto flow = parse_flow(command.source, command.vip);
        if (!flow) return tl::unexpected(flow.error());
        if (command.cid.empty()) return std::vector{*flow};
        auto cid = parse_cid(command.cid);
        if (!cid) return tl::unexpected(cid.error());
        flow->cid = std::move(*cid);
        return std::vector{*flow};
    }
    auto text = read_all(command.file);
    if (!text) return tl::unexpected(text.error());
    const std::size_t first = text->find_first_not_of(" \t\r\n");
    const bool is_list = first != std::string::npos && (*text)[first] == '[';
    return parse_trace(is_list ? "{\"flows\":" + *text + "}" : *text);
}

std::string table_of(const std::vector<FlowQuery>& flows, const std::vector<FlowPlacement>& placements,
                     const Settings& settings) {
    Table table({{"SOURCE"}, {"VIP"}, {"SITE"}, {"BACKEND"}, {"REASON"}});
    for (std::size_t i = 0; i < std::min(flows.size(), placements.size()); ++i) {
        const FlowQuery& flow = flows[i];
        const char* form = flow.source.is_v6() ? "[{}]:{}" : "{}:{}";
        table.row({{fmt::format(fmt::runtime(form), flow.source.to_string(), flow.source_port.value())},
                   {flow.vip.to_string()},
                   {placements[i].site, placements[i].site.empty() ? Tone::kBad : Tone::kPlain},
                   {placements[i].backend},
                   {placements[i].reason}});
    }
    return table.render(settings.colour);
}

/// As hexdump has it: 16 bytes a line.
std::string dump(const std::string& hex) {
    std::string out;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
        if (i % 32 == 0) out += fmt::format("{}    {:04x} ", i == 0 ? "" : "\n", i / 2);
        out += " " + hex.substr(i, 2);
    }
    return out + "\n";
}

std::string text_of(const PacketTrace& trace) {
    const std::string packet = api::bytes_from_hex(trace.packet).value_or(std::string());
    std::string out = fmt::format(
        "packet   {}, {} bytes\n",
        ip_line({reinterpret_cast<const std::uint8_t*>(packet.data()), packet.size()}), packet.size());
    const auto row = [&out](std::string_view name, const std::string& value) {
        if (!value.empty()) out += fmt::format("{:<8} {}\n", name, value);
    };
    row("outcome", trace.outcome);
    row("reason",
        trace.reason.empty() ? trace.description : fmt::format("{}: {}", trace.reason, trace.description));
    row("pool", trace.pool);
    row("site", trace.site);
    row("backend", trace.backend);
    row("known", trace.known.empty()
                     ? "nothing: no worker has an entry of this flow"
                     : fmt::format("{} of worker {}", trace.known == "flow" ? "a flow entry" : "its SYN",
                                   trace.worker.value_or(0)));
    if (trace.length == 0) return out;
    row("leaves", fmt::format("by {}, {} bytes", trace.port, trace.length));
    return out + dump(trace.frame);
}

ExitCode trace_packet(const Settings& settings, const TraceCommand& command) {
    const PacketTraceRequest request{command.packet, command.source, command.vip,
                                     command.flags,  command.cid,    command.size};
    if (command.packet.empty()) {
        const auto flows = flows_of(command);
        if (!flows) return report(settings, flows.error());
    }
    auto body = settings.client().post("/v1/trace/packet", to_json(request), kTraceDeadline);
    if (!body) return report(settings, body.error());
    if (settings.json()) {
        print(*body);
        return ExitCode::kDone;
    }
    const auto trace = from_json<PacketTrace>(*body);
    if (!trace) return report(settings, trace.error());
    print(text_of(*trace));
    return ExitCode::kDone;
}

}  // namespace

ExitCode trace(const Settings& settings, const TraceCommand& command) {
    if (command.file.empty() && !command.predict) return trace_packet(settings, command);
    const auto flows = flows_of(command);
    if (!flows) return report(settings, flows.error());
    auto body = settings.client().post("/v1/trace", trace_to_json(*flows), kTraceDeadline);
    if (!body) return report(settings, body.error());
    if (settings.json()) {
        print(*body);
        return ExitCode::kDone;
    }
    const auto placements = from_json<std::vector<FlowPlacement>>(*body);
    if (!placements) return report(settings, placements.error());
    print(table_of(*flows, *placements, settings));
    return ExitCode::kDone;
}

}  // namespace detour::lbctl
