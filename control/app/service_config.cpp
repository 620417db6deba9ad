// Another configuration: read, compared, put in force, put on trial and taken back.
#include <spdlog/spdlog.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "control/app/config_preview.h"
#include "control/app/event_text.h"
#include "control/app/service.h"
#include "dataplane.pb.h"

namespace detour::app {

namespace {

namespace asio = boost::asio;
using asio::awaitable;
using control::ApiError;

const api::Error kStopping{api::ErrorCode::kUnavailable, "carrying out the request",
                           "this process is stopping"};
constexpr const char* kApplying = "putting the configuration in force";

}  // namespace

/// Off the loop. Read again when a file changed between, so that text and configuration are of one moment.
awaitable<Service::ReadConfig> Service::read_config(std::string path) {
    const auto read = [&options = options_, &path] {
        constexpr int kTries = 5;
        Documents text = read_config_text(path);
        for (int i = 0;; ++i) {
            config::Loaded loaded = options.load(path);
            Documents again = read_config_text(path);
            const bool same = text_mark(again) == text_mark(text);
            text = std::move(again);
            if (same || i == kTries) return ReadConfig{std::move(loaded), std::move(text)};
        }
    };
    co_return co_await beside(read);
}

/// Off the loop: of ten thousand backends it takes longer than a probe may. Under the lock, so that what is
/// in force stays so meanwhile.
awaitable<std::vector<std::string>> Service::changes_to(const config::Config& next) {
    const auto work = [&now = config(), &next] { return describe_changes(now, next); };
    co_return co_await beside(work);
}

ApiError Service::refuse_config(const std::vector<config::Mistake>& mistakes) {
    ApiError refusal{api::ErrorCode::kInvalidArgument, "reading the configuration",
                     "it has mistakes and was refused; what ran before goes on"};
    for (const auto& mistake : mistakes) {
        refusal.details.push_back(mistake.to_string());
        spdlog::error("{}", refusal.details.back());
    }
    ++counters_.reloads_refused;
    counters_.config_refused = options_.now().wall;
    counters_.mistakes = refusal.details;
    note(EventKind::kAlarm, "the configuration was refused: " + refusal.details.front());
    return refusal;
}

/// What ran until now is on disk before the new one is in force.
awaitable<api::Result<void>> Service::keep_for_trial(Trial trial) {
    const std::string folder = config().control.state_dir;
    const Documents before = options_.config_text;
    const auto keep = [&] { return begin_trial(folder, before, trial); };
    co_return co_await beside(keep);
}

/// On disk too, off the loop: a disk may take seconds.
awaitable<api::Result<void>> Service::forget_trial(std::string folder) {
    const auto forget = [&] { return end_trial(folder); };
    auto forgotten = co_await beside(forget);
    if (!forgotten && !stopped_)
        note(EventKind::kAlarm,
             "a restart may take the configuration back: " + forgotten.error().to_string());
    co_return forgotten;
}

/// What is being made may be of the configuration before; the next one is not. Not longer: neighbours that
/// change all the time order plans all the time.
awaitable<void> Service::plan_made() {
    const std::uint64_t enough = plans_made_ + 2;
    while (engine_->plan_ordered() && plans_made_ < enough && !stopped_) {
        plan_made_.expires_at(std::chrono::steady_clock::time_point::max());
        co_await plan_made_.async_wait(asio::as_tuple(asio::use_awaitable));
    }
}

api::Result<void> Service::put_in_force(config::Config config) {
    if (auto prepared = prepare_tunnel(config); !prepared) {
        note(EventKind::kAlarm, "the configuration was refused: " + prepared.error().to_string());
        return prepared;
    }
    auto actions = engine_->reload(std::move(config), options_.now());
    if (!actions) {
        (void)prepare_tunnel(engine_->config());
        return tl::unexpected(actions.error());
    }
    ++counters_.reloads;
    counters_.config_loaded = options_.now().wall;
    counters_.config_refused.reset();
    counters_.mistakes.clear();
    carry_out(std::move(*actions));
    watch_backends();
    site_of_backend_ = engine_->sites_of_backends();
    bfd_.use(engine_->config());
    std::set<std::string> sites;
    for (const auto& site : engine_->config().sites) sites.insert(site.name);
    incidents_.keep_sites(sites, to_api(options_.now().wall));
    incident_files_->save(incidents_);
    return {};
}

awaitable<control::Outcome<control::ReloadReply>> Service::reload(
    std::optional<std::chrono::seconds> confirm_within) {
    using Reply = control::Outcome<control::ReloadReply>;
    ReadConfig read = co_await read_config(options_.config_path);
    if (!read.loaded) co_return Reply(tl::unexpect, refuse_config(read.loaded.error()));
    co_await lock();
    if (stopped_) co_return Reply(tl::unexpect, kStopping);
    if (counters_.trial && !counters_.trial->taken_back) {
        unlock();
        co_return Reply(tl::unexpect, ApiError(api::ErrorCode::kUnavailable, kApplying,
                                               "the last one is still on trial: confirm it first (lbctl "
                                               "config confirm), or wait until it is taken back"));
    }
    control::ReloadReply reply;
    reply.changes = co_await changes_to(*read.loaded);
    if (stopped_) co_return Reply(tl::unexpect, kStopping);
    reply.changed = !reply.changes.empty();
    if (!engine_->intents().weights.empty()) {  // a snapshot of a large fleet takes its time
        for (std::string& said : overruled_weights(snapshot(), *read.loaded))
            reply.changes.push_back(std::move(said));
    }
    if (confirm_within && read.loaded->control.state_dir != config().control.state_dir) {
        unlock();
        co_return Reply(tl::unexpect,
                        ApiError(api::ErrorCode::kInvalidArgument, kApplying,
                                 "control.state_dir is another one: a restart would not find what ran "
                                 "before. Apply it without --confirm-within"));
    }
    // Said aloud: who asks for a way back must not believe that there is one.
    if (confirm_within && !reply.changed) {
        unlock();
        co_return Reply(
            tl::unexpect,
            ApiError(api::ErrorCode::kNotFound, "putting the configuration on trial",
                     "what is on disk is in force already, so there is nothing to take back. With "
                     "--watch a changed file is in force by itself, half a second later"));
    }
    std::optional<Trial> trial;
    if (confirm_within) trial = Trial{text_mark(read.text), options_.now().wall + *confirm_within, false};
    if (trial) {
        if (auto kept = co_await keep_for_trial(*trial); !kept) {
            unlock();
            co_return Reply(tl::unexpect, kept.error());
        }
    }
    const bool forget = !trial && counters_.trial.has_value();
    const std::string folder = config().control.state_dir;
    if (auto done = put_in_force(std::move(*read.loaded)); !done) {
        if (trial) (void)co_await forget_trial(folder);
        unlock();
        co_return Reply(tl::unexpect, done.error());
    }
    options_.config_text = std::move(read.text);
    counters_.trial = trial;
    if (forget) (void)co_await forget_trial(folder);
    unlock();
    arm_trial();
    if (trial) reply.confirm_until = to_api(trial->until);
    co_await plan_made();
    reply.generation = engine_->generation().value();
    co_return reply;
}

awaitable<control::Outcome<control::IntentReply>> Service::confirm_config() {
    using Reply = control::Outcome<control::IntentReply>;
    co_await lock();
    if (stopped_) co_return Reply(tl::unexpect, kStopping);
    if (!counters_.trial || counters_.trial->taken_back) {
        unlock();
        co_return Reply(tl::unexpect, ApiError(api::ErrorCode::kNotFound, "confirming the configuration",
                                               counters_.trial ? "it was taken back already; apply it again"
                                                               : "there is none that waits for it"));
    }
    if (auto forgotten = co_await forget_trial(config().control.state_dir); !forgotten) {
        unlock();
        co_return Reply(tl::unexpect, forgotten.error());
    }
    counters_.trial.reset();
    trial_.cancel();
    unlock();
    note(EventKind::kReload, "the configuration is confirmed");
    control::IntentReply reply;
    reply.effect = "the configuration is confirmed and stays";
    co_return reply;
}

void Service::arm_trial() {
    if (!counters_.trial || counters_.trial->taken_back || stopped_) return;
    const health::nanoseconds left = counters_.trial->until - options_.now().wall;
    trial_.expires_after(std::max(left, health::nanoseconds{0}));
    trial_.async_wait([this, alive = std::weak_ptr(alive_)](const boost::system::error_code& ec) {
        if (ec || alive.expired() || stopped_) return;
        asio::co_spawn(io_, take_back(), asio::detached);
    });
}

awaitable<void> Service::take_back() {
    co_await lock();
    const bool due = !stopped_ && counters_.trial && !counters_.trial->taken_back &&
                     counters_.trial->until <= options_.now().wall;
    if (!due) {
        unlock();
        arm_trial();  // the wall clock was set back meanwhile; nothing when it was confirmed
        co_return;
    }
    Trial trial = *counters_.trial;
    trial.taken_back = true;
    const std::string folder = config().control.state_dir;
    const auto read = [&] {
        config::Loaded before = options_.load(config_before(folder));
        (void)write_trial(folder, trial);
        return ReadConfig{std::move(before), read_config_text(config_before(folder))};
    };
    ReadConfig before = co_await beside(read);
    counters_.trial = trial;
    std::string said = "the configuration was not confirmed in time: the one before is in force again";
    if (!before.loaded) {
        said = "the configuration was not confirmed, but the one before can't be read: " +
               before.loaded.error().front().to_string();
    } else if (auto done = put_in_force(std::move(*before.loaded)); !done) {
        said =
            "the configuration was not confirmed, but the one before is refused: " + done.error().to_string();
    } else {
        options_.config_text = std::move(before.text);
    }
    note(EventKind::kAlarm, said);
    unlock();
}

awaitable<control::Outcome<control::ConfigDiff>> Service::diff_config(std::string path) {
    using Reply = control::Outcome<control::ConfigDiff>;
    if (path.empty()) path = options_.config_path;
    ReadConfig read = co_await read_config(std::move(path));
    if (stopped_) co_return Reply(tl::unexpect, kStopping);
    if (!read.loaded) {
        ApiError refusal{api::ErrorCode::kInvalidArgument, "reading the configuration", "it has mistakes"};
        for (const auto& mistake : read.loaded.error()) refusal.details.push_back(mistake.to_string());
        co_return Reply(tl::unexpect, std::move(refusal));
    }
    PreviewInput input{snapshot(), config(), std::move(*read.loaded), {}};
    for (const auto& backend : figures_.stats().backends()) {
        input.flows[api::BackendId(static_cast<std::uint16_t>(backend.backend()))] = backend.flows();
    }
    const auto work = [&input] { return preview(input); };
    auto diff = co_await beside(work);
    if (!diff) co_return Reply(tl::unexpect, diff.error());
    co_return std::move(*diff);
}

}  // namespace detour::app
