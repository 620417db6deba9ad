// What operators ask of the service: drains, holds, weights. One at a time.
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "control/app/later.h"
#include "control/app/service.h"

namespace detour::app {

namespace {

namespace asio = boost::asio;
using asio::awaitable;
using std::chrono::steady_clock;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

const api::Error kStopping{api::ErrorCode::kUnavailable, "carrying out the request",
                           "this process is stopping"};

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

awaitable<api::Result<IntentResult>> Service::intend(failover::IntentRequest request) {
    co_await lock();
    if (stopped_) co_return tl::unexpected<api::Error>(kStopping);
    IntentResult result;
    result.before = snapshot();
    auto prepared = engine_->prepare(request, options_.now());
    if (!prepared) {
        unlock();
        co_return tl::unexpected<api::Error>(prepared.error());
    }
    result.sites = std::move(prepared->sites);
    result.warnings = std::move(prepared->warnings);
    result.changed = prepared->changed;
    if (!result.changed) {
        engine_->abort();
        unlock();
        result.switch_us = 0;
        result.after = result.before;
        co_return result;
    }
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
    const bool nothing =
        connected && actions.sites.empty() && actions.backends.empty() && !engine_->plan_ordered();
    carry_out(std::move(actions),
              [later](const api::Result<std::uint64_t>& switched) { later->set(switched); });
    if (nothing) co_return std::uint64_t{0};
    co_await later->wait();
    if (!later->value) co_return tl::unexpected<api::Error>(kStopping);
    co_return *later->value;
}

}  // namespace detour::app
