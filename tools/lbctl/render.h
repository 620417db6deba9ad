// Replies as text for a person at three in the morning: what is wrong first, units in the headers, and at the
// end the command that is likely next. Pure, any thread.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "control/api/messages.h"
#include "tools/lbctl/table.h"

namespace detour::lbctl {

struct View {
    Colour colour = Colour::kOff;
    control::Time now;
};

[[nodiscard]] std::string render(const control::Status& status, const View& view);
[[nodiscard]] std::string render_flows(const control::Status& status, const View& view);
[[nodiscard]] std::string render(std::span<const control::SiteStatus> sites, const View& view);
[[nodiscard]] std::string render(std::span<const control::PoolStatus> pools, const View& view);
[[nodiscard]] std::string render(std::span<const control::BackendStatus> backends, const View& view);
[[nodiscard]] std::string render(const control::Event& event, const View& view);
[[nodiscard]] std::string render(std::span<const control::IncidentSummary> incidents, const View& view);
[[nodiscard]] std::string render(const control::Incident& incident, const View& view);
[[nodiscard]] std::string render(const control::DrainReply& reply, const View& view);
[[nodiscard]] std::string render(const control::UndrainReply& reply, const View& view);
[[nodiscard]] std::string render(const control::IntentReply& reply, const View& view);
[[nodiscard]] std::string render(const control::ReloadReply& reply, const View& view);
[[nodiscard]] std::string render(const control::ConfigDiff& diff, const View& view);
[[nodiscard]] std::string render(const control::ConfigInfo& config, const View& view);
[[nodiscard]] std::string render(const control::PlanFailReply& forecast, const View& view);
[[nodiscard]] std::string render(const control::Version& version, const View& view);
[[nodiscard]] std::string render(const control::ApiError& error, const View& view);
/// "talk@pangyo" quoted for a shell where it must be.
[[nodiscard]] std::string shell_word(const std::string& word);

}  // namespace detour::lbctl
