// lbctl trace: where would this flow go?
#include <fmt/format.h>

#include <fstream>
#include <iostream>
#include <iterator>

#include "control/api/json.h"
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

}  // namespace

ExitCode trace(const Settings& settings, const TraceCommand& command) {
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
