// hold, release, weight.
#include <fmt/format.h>

#include "control/api/json.h"
#include "tools/lbctl/text.h"
#include "tools/lbctl/verbs.h"

namespace detour::lbctl {

using namespace detour::control;

namespace {

constexpr std::chrono::seconds kCommandDeadline{40};  // longer than the server's own

/// Posts the request and shows the answer; `undo` is the command that takes it back.
ExitCode intend(const Settings& settings, const std::string& path, const std::string& request,
                const std::string& undo) {
    auto body = settings.client().post(path, request, kCommandDeadline);
    if (!body) return report(settings, body.error());
    const auto reply = from_json<IntentReply>(*body);
    if (!reply) return report(settings, reply.error());
    if (settings.json())
        print(*body);
    else
        print(render(*reply, settings.view()) + (undo.empty() ? "" : "undo:  " + undo + "\n"));
    return reply->not_done.empty() ? ExitCode::kDone : ExitCode::kNotEverywhere;
}

}  // namespace

Outcome<std::optional<std::uint64_t>> whole_seconds(const std::optional<std::chrono::milliseconds>& duration,
                                                    const std::string& option, std::uint64_t least) {
    if (!duration) return std::nullopt;
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(*duration).count();
    if (seconds >= static_cast<std::int64_t>(least)) return static_cast<std::uint64_t>(seconds);
    return tl::unexpected(ApiError(api::ErrorCode::kInvalidArgument, "reading " + option,
                                   fmt::format("it is shorter than {}s", least)));
}

ExitCode hold(const Settings& settings, const HoldCommand& command) {
    const auto seconds = whole_seconds(command.duration, "--for", 1);
    if (!seconds) return report(settings, seconds.error());
    const HoldRequest request{
        .for_s = *seconds, .reason = command.reason, .by = person(), .here = command.here};
    return intend(settings, "/v1/hold", to_json(request), "lbctl release");
}

ExitCode release(const Settings& settings) {
    return intend(settings, "/v1/release", to_json(ReleaseRequest{.by = person()}), "");
}

ExitCode weight(const Settings& settings, const WeightCommand& command) {
    if (command.clear == command.weight.has_value()) {
        return report(settings, ApiError(api::ErrorCode::kInvalidArgument, "reading the command line",
                                         "expected either a weight from 0 to 65535 or --clear"));
    }
    const auto seconds = whole_seconds(command.duration, "--for", 1);
    if (!seconds) return report(settings, seconds.error());
    const WeightRequest request{.target = command.target,
                                .weight = command.weight,
                                .for_s = *seconds,
                                .reason = command.reason,
                                .by = person(),
                                .force = command.force,
                                .here = command.here};
    const std::string undo =
        command.clear ? "" : fmt::format("lbctl weight {} --clear", shell_word(command.target));
    return intend(settings, "/v1/weight", to_json(request), undo);
}

}  // namespace detour::lbctl
