// What operators ask of the service: drains, undrains, a new configuration. One at a time.
#include <spdlog/spdlog.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "config/diff.h"
#include "control/app/service.h"

namespace detour::app {

namespace {

namespace asio = boost::asio;
using asio::awaitable;
using std::chrono::steady_clock;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

/// A value that a callback will bring.
template <class T>
struct Later {
    explicit Later(asio::io_context& io) : ready(io, steady_clock::time_point::max()) {}
    void set(T brought) {
        value = std::move(brought);
        ready.cancel();
    }
    awaitable<void> wait() {
        if (!value) co_await ready.async_wait(kTuple);
    }
    asio::steady_timer ready;
    std::optional<T> value;
};

const api::Error kStopping{api::ErrorCode::kUnavailable, "carrying out the request",
                           "this process is stopping"};

std::string describe(const config::Change& change) {
    if (change.before.empty()) return change.path + " = " + change.after + " is new";
    if (change.after.empty()) return change.path + " = " + change.before + " is gone";
    return change.path + " goes from " + change.before + " to " + change.after;
}

/// What is read at start alone.
bool needs_restart(const std::string& path) {
    for (const char* part : {"dataplane.ports", "dataplane.workers", "dataplane.socket",
                             "dataplane.state_dir", "dataplane.flows_per_worker", "control."}) {
        if (path.starts_with(part)) return true;
    }
    return false;
}

}  // namespace

awaitable<void> Service::lock() {
    while (locked_ && !stopped_) {
        unlocked_.expires_at(steady_clock::time_point::max());
        co_await unlocked_.async_wait(kTuple);
    }
    locked_ = true;
}

void Service::unlock() {
    locked_ = false;
    unlocked_.cancel();
}

awaitable<api::Result<IntentResult>> Service::drain(failover::DrainRequest request) {
    return carry_intent(
        [this, request = std::move(request)] { return engine_->prepare_drain(request, options_.now()); });
}

awaitable<api::Result<IntentResult>> Service::undrain(std::string target, std::string by) {
    return carry_intent([this, target = std::move(target), by = std::move(by)] {
        return engine_->prepare_undrain(target, by);
    });
}

awaitable<api::Result<IntentResult>> Service::carry_intent(Prepare prepare) {
    co_await lock();
    if (stopped_) co_return tl::unexpected<api::Error>(kStopping);
    IntentResult result;
    result.before = snapshot();
    auto prepared = prepare();
    if (!prepared) {
        unlock();
        co_return tl::unexpected<api::Error>(prepared.error());
    }
    result.sites = std::move(prepared->sites);
    result.warnings = std::move(prepared->warnings);
    if (auto written = co_await write_intents(std::move(prepared->intents)); !written) {
        engine_->abort();
        unlock();
        co_return tl::unexpected<api::Error>(written.error());
    }
    const auto switched = co_await commit_intent();
    unlock();
    if (switched)
        result.switch_us = *switched;
    else
        result.not_switched = switched.error();
    result.after = snapshot();
    co_return result;
}

awaitable<api::Result<void>> Service::write_intents(std::string content) {
    auto later = std::make_shared<Later<api::Result<void>>>(io_);
    intents_writer_->write(std::move(content),
                           [later](const api::Result<void>& written) { later->set(written); });
    co_await later->wait();
    if (!later->value) co_return tl::unexpected<api::Error>(kStopping);
    co_return *later->value;
}

awaitable<api::Result<std::uint64_t>> Service::commit_intent() {
    auto later = std::make_shared<Later<api::Result<std::uint64_t>>>(io_);
    const bool connected = connected_;
    Actions actions = engine_->commit(options_.now());
    // An intent may need no switch (a site that is dark already): then there is nothing to wait for.
    const bool nothing = connected && actions.sites.empty() && actions.backends.empty();
    carry_out(std::move(actions),
              [later](const api::Result<std::uint64_t>& switched) { later->set(switched); });
    if (nothing) co_return std::uint64_t{0};
    co_await later->wait();
    if (!later->value) co_return tl::unexpected<api::Error>(kStopping);
    co_return *later->value;
}

awaitable<control::Outcome<control::ReloadReply>> Service::reload() {
    using Reply = control::Outcome<control::ReloadReply>;
    // A named lambda without owned captures: GCC 12 destroys those of a temporary in a co_await expression
    // twice.
    const auto read = [&options = options_]() -> awaitable<config::Loaded> {
        co_return options.load(options.config_path);
    };
    auto loaded = co_await asio::co_spawn(pool_, read, asio::use_awaitable);
    if (!loaded) {
        control::ApiError refusal{api::ErrorCode::kInvalidArgument, "reading the configuration",
                                  "it has mistakes and was refused; what ran before goes on"};
        for (const auto& mistake : loaded.error()) {
            refusal.details.push_back(mistake.to_string());
            spdlog::error("{}", refusal.details.back());
        }
        ++counters_.reloads_refused;
        counters_.config_refused = options_.now().wall;
        counters_.mistakes = refusal.details;
        note(EventKind::kAlarm, "the configuration was refused: " + refusal.details.front());
        co_return Reply(tl::unexpect, std::move(refusal));
    }
    co_await lock();
    if (stopped_) co_return Reply(tl::unexpect, kStopping);
    control::ReloadReply reply;
    for (const auto& change : config::diff(config(), *loaded)) {
        reply.changes.push_back(describe(change));
        if (needs_restart(change.path)) reply.changes.back() += " (at the next restart)";
    }
    reply.changed = !reply.changes.empty();
    if (auto prepared = prepare_tunnel(*loaded); !prepared) {
        unlock();
        note(EventKind::kAlarm, "the configuration was refused: " + prepared.error().to_string());
        co_return Reply(tl::unexpect, prepared.error());
    }
    auto actions = engine_->reload(std::move(*loaded), options_.now());
    unlock();
    if (!actions) {
        (void)prepare_tunnel(config());
        co_return Reply(tl::unexpect, actions.error());
    }
    ++counters_.reloads;
    counters_.config_loaded = options_.now().wall;
    counters_.config_refused.reset();
    counters_.mistakes.clear();
    carry_out(std::move(*actions));
    watch_backends();
    name_backends();
    bfd_.use(config());
    reply.generation = snapshot().generation.value();
    co_return reply;
}

}  // namespace detour::app
