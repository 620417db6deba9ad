// drain, undrain, and waiting for a drain.
#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "control/api/json.h"
#include "tools/lbctl/interrupt.h"
#include "tools/lbctl/text.h"
#include "tools/lbctl/verbs.h"

namespace detour::lbctl {

using namespace detour::control;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::seconds kCommandDeadline{40};  // longer than the server's own
constexpr std::chrono::seconds kPollDeadline{5};
constexpr std::chrono::milliseconds kPollEvery{500};
constexpr std::chrono::seconds kSpeakEvery{3};

Outcome<DrainRequest> request_of(const DrainCommand& command) {
    DrainRequest request{.target = command.target,
                         .for_s = std::nullopt,
                         .reason = command.reason,
                         .force = command.force,
                         .last_resort = command.last_resort,
                         .by = person(),
                         .percent = command.percent,
                         .deadline_s = std::nullopt,
                         .here = command.here};
    const auto seconds = whole_seconds(command.duration, "--for", 1);
    if (!seconds) return tl::unexpected(seconds.error());
    request.for_s = *seconds;
    const auto deadline = whole_seconds(command.deadline, "--deadline", 1);
    if (!deadline) return tl::unexpected(deadline.error());
    request.deadline_s = command.now ? std::optional<std::uint64_t>(0) : *deadline;
    return request;
}

std::string undone_note(const std::string& target) {
    return fmt::format("lbctl: interrupted; the drain of {} is in force and goes on. Undo: lbctl undrain {}",
                       printable(target), shell_word(target));
}

/// One look at a drain that is waited for.
struct Look {
    enum class State { kGoing, kDone, kGone, kBlind } state = State::kBlind;
    std::string text;
};

Look look_at(const Settings& settings, const std::string& target, Clock::duration left) {
    const auto deadline = std::min<std::chrono::milliseconds>(
        kPollDeadline, std::chrono::ceil<std::chrono::milliseconds>(left));
    auto body = settings.client().get("/v1/status", deadline);
    if (!body) return {Look::State::kBlind, "can't see: " + printable(body.error().to_string())};
    auto status = from_json<Status>(*body);
    if (!status) return {Look::State::kBlind, "can't read the status: " + printable(status.error().what)};
    const auto found = std::ranges::find(status->drains, target, &Drain::target);
    if (found == status->drains.end()) return {Look::State::kGone, "the drain is not in force any more"};
    std::string text = found->acknowledged ? "acknowledged" : "not acknowledged by the fast path yet";
    if (found->new_flows_per_second)
        text += fmt::format(", {} new flows/s", rate_text(found->new_flows_per_second));
    if (found->flows_left) text += fmt::format(", {} left", plural(*found->flows_left, "flow"));
    // What takes a part of the flows away never empties what is left.
    const bool part = found->percent < 100;
    const bool quiet =
        part || (found->new_flows_per_second.value_or(0) <= 0 && found->flows_left.value_or(0) == 0);
    return {found->acknowledged && quiet ? Look::State::kDone : Look::State::kGoing, text};
}

/// The name under which the server knows the drain.
std::string drain_name(const std::string& reply, const std::string& asked) {
    auto parsed = from_json<DrainReply>(reply);
    return parsed ? parsed->drain.target : asked;
}

}  // namespace

std::string person() {
    // Read before any thread is started.
    const char* sudo = std::getenv("SUDO_USER");  // NOLINT(concurrency-mt-unsafe)
    if (sudo != nullptr && *sudo != '\0') return sudo;
    const passwd* entry = ::getpwuid(::getuid());  // NOLINT(concurrency-mt-unsafe)
    return entry == nullptr ? "" : entry->pw_name;
}

ExitCode wait_for_drain(const Settings& settings, const std::string& target,
                        std::chrono::milliseconds timeout) {
    const InterruptNote interrupted(undone_note(target));
    const auto begin = Clock::now();
    auto spoke = begin - kSpeakEvery;
    Look last;
    while (Clock::now() - begin < timeout) {
        const Look look = look_at(settings, target, timeout - (Clock::now() - begin));
        const auto waited = std::chrono::floor<std::chrono::milliseconds>(Clock::now() - begin);
        if (look.state == Look::State::kDone) {
            note(fmt::format("{:>6}  {}: done\n", duration_text(waited), look.text));
            return ExitCode::kDone;
        }
        if (look.state == Look::State::kGone) {
            note("lbctl: " + look.text + "\n");
            return ExitCode::kFailed;
        }
        if (look.text != last.text || Clock::now() - spoke >= kSpeakEvery) {
            note(fmt::format("{:>6}  {}\n", duration_text(waited), look.text));
            spoke = Clock::now();
        }
        last = look;
        std::this_thread::sleep_for(std::min<Clock::duration>(
            kPollEvery, timeout - std::min<Clock::duration>(timeout, Clock::now() - begin)));
    }
    note(fmt::format("lbctl: not empty after {}; the drain goes on. Undo: lbctl undrain {}\n",
                     duration_text(timeout), shell_word(target)));
    return ExitCode::kTimedOut;
}

ExitCode drain(const Settings& settings, const DrainCommand& command) {
    auto request = request_of(command);
    if (!request) return report(settings, request.error());
    Outcome<std::string> body;
    {
        const InterruptNote interrupted(fmt::format(
            "lbctl: interrupted before the answer; the drain of {} may be in force. See: lbctl status",
            printable(command.target)));
        body = settings.client().post("/v1/drain", to_json(*request), kCommandDeadline);
    }
    if (!body) return report(settings, body.error());
    const auto reply = from_json<DrainReply>(*body);
    if (!reply) return report(settings, reply.error());
    print(settings.json() ? *body : render(*reply, settings.view()));
    const ExitCode done = reply->not_done.empty() ? ExitCode::kDone : ExitCode::kNotEverywhere;
    if (!command.wait) return done;
    const ExitCode waited = wait_for_drain(settings, drain_name(*body, command.target), command.timeout);
    return waited == ExitCode::kDone ? done : waited;
}

ExitCode undrain(const Settings& settings, const std::string& target) {
    const UndrainRequest request{.target = target, .by = person()};
    auto body = settings.client().post("/v1/undrain", to_json(request), kCommandDeadline);
    if (!body) return report(settings, body.error());
    const auto reply = from_json<UndrainReply>(*body);
    if (!reply) return report(settings, reply.error());
    print(settings.json() ? *body : render(*reply, settings.view()));
    return reply->not_done.empty() ? ExitCode::kDone : ExitCode::kNotEverywhere;
}

}  // namespace detour::lbctl
