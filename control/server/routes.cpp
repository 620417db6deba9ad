#include "control/server/routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "control/api/json.h"

namespace detour::control {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kTraceChunk = 2048;
constexpr std::size_t kDefaultEventPage = 100;
constexpr std::uint64_t kLongestDrainSeconds = 366ULL * 24 * 3600;

constexpr std::array<std::string_view, 9> kGetPaths{"/v1/version",   "/v1/status",   "/v1/sites",
                                                    "/v1/pools",     "/v1/backends", "/v1/events",
                                                    "/v1/incidents", "/v1/config",   "/v1/plan"};
constexpr std::array<std::string_view, 12> kPostPaths{
    "/v1/drain",       "/v1/undrain",      "/v1/hold",    "/v1/release",
    "/v1/weight",      "/v1/reload",       "/v1/trace",   "/v1/config/confirm",
    "/v1/config/diff", "/v1/trace/packet", "/v1/capture", "/v1/capture/read"};
constexpr std::string_view kMetricsPath = "/metrics";

bool holds(const auto& paths, std::string_view path) {
    return std::ranges::find(paths, path) != paths.end();
}

bool is_get_path(std::string_view path) {
    return path == kMetricsPath || holds(kGetPaths, path);
}

template <class T>
HttpReply json_reply(const Outcome<T>& outcome) {
    if (!outcome) return error_reply(outcome.error());
    return {.body = to_json(*outcome) + "\n"};
}

template <class T>
HttpReply json_reply(const T& value) {
    return {.body = to_json(value) + "\n"};
}

/// What the request's handler left behind, shared with a handler that may outlive the request.
template <class T>
struct Pending {
    explicit Pending(const asio::any_io_executor& loop) : timer(loop) {}
    asio::steady_timer timer;
    std::optional<Outcome<T>> result;
};

template <class T>
asio::awaitable<void> run_handler(Task<T> work, std::shared_ptr<Pending<T>> pending,
                                  std::shared_ptr<Running> running) {
    try {
        pending->result = co_await std::move(work);
    } catch (const std::exception& error) {
        pending->result =
            tl::unexpected(ApiError(api::ErrorCode::kSystem, "handling the request", error.what()));
    }
    pending->timer.cancel();
    --running->count;
    running->changed.cancel();
}

/// Waits for `work` until the limit. It is not cancelled then: a drain that is being written to disk goes on.
/// `doing` is a view: GCC 12 destroys a string made in a co_await expression twice.
template <class T>
asio::awaitable<Outcome<T>> bounded(Task<T> work, const Router::Context& context, std::string_view doing) {
    auto pending = std::make_shared<Pending<T>>(context.loop);
    pending->timer.expires_after(context.handler_limit);
    ++context.running->count;
    asio::co_spawn(context.loop, run_handler<T>(std::move(work), pending, context.running), asio::detached);
    boost::system::error_code ignored;
    if (!pending->result)
        co_await pending->timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    if (pending->result) co_return std::move(*pending->result);
    co_return tl::unexpected(ApiError(
        api::ErrorCode::kTimeout, std::string(doing),
        fmt::format("no result within {} ms; it may still be carried out", context.handler_limit.count())));
}

/// Runs a pure function on `executor` and comes back.
template <class F>
asio::awaitable<std::invoke_result_t<F>> elsewhere(asio::any_io_executor executor, F work) {
    auto call = [](F inner) -> asio::awaitable<std::invoke_result_t<F>> { co_return inner(); };
    co_return co_await asio::co_spawn(executor, call(std::move(work)), asio::use_awaitable);
}

/// Who asked: what the kernel says of the socket's peer, with the name that the client gave.
std::string asked_by(const std::string& claimed, const std::string& peer) {
    return claimed.empty() || claimed == peer ? peer : fmt::format("{} ({})", claimed, peer);
}

HttpReply not_allowed(std::string_view method, std::string_view path, std::string allow) {
    HttpReply reply =
        error_reply(ApiError(api::ErrorCode::kInvalidArgument, fmt::format("{} {}", method, path),
                             fmt::format("this path takes {}", allow)));
    reply.status = 405;
    reply.allow = std::move(allow);
    return reply;
}

/// Empty: it is right, or absent.
std::string wrong_time(const std::optional<std::uint64_t>& seconds, std::uint64_t least,
                       std::string_view name) {
    if (!seconds || (*seconds >= least && *seconds <= kLongestDrainSeconds)) return {};
    return fmt::format("{} is {}, expected {} to {}", name, *seconds, least, kLongestDrainSeconds);
}

/// A hold, a release or a weight.
template <class T>
Outcome<T> checked_intent(const HttpRequest& request) {
    auto asked = from_json<T>(request.body);
    if (!asked) return tl::unexpected(ApiError(asked.error()));
    if constexpr (requires { asked->for_s; }) {
        if (auto wrong = wrong_time(asked->for_s, 1, "for_s"); !wrong.empty())
            return tl::unexpected(ApiError(api::ErrorCode::kInvalidArgument, "reading the request", wrong));
    }
    asked->by = asked_by(asked->by, request.peer);
    return *asked;
}

Outcome<DrainRequest> checked_drain(const HttpRequest& request) {
    auto drain = from_json<DrainRequest>(request.body);
    if (!drain) return tl::unexpected(ApiError(drain.error()));
    const auto invalid = [](std::string what) {
        return tl::unexpected(ApiError(api::ErrorCode::kInvalidArgument, "reading a drain", std::move(what)));
    };
    if (drain->target.empty()) return invalid("target is empty");
    if (auto wrong = wrong_time(drain->for_s, 1, "for_s"); !wrong.empty()) return invalid(wrong);
    if (auto wrong = wrong_time(drain->deadline_s, 0, "deadline_s"); !wrong.empty()) return invalid(wrong);
    drain->by = asked_by(drain->by, request.peer);
    return *drain;
}

Outcome<UndrainRequest> checked_undrain(const HttpRequest& request) {
    auto undrain = from_json<UndrainRequest>(request.body);
    if (!undrain) return tl::unexpected(ApiError(undrain.error()));
    if (undrain->target.empty()) {
        return tl::unexpected(
            ApiError(api::ErrorCode::kInvalidArgument, "reading an undrain", "target is empty"));
    }
    undrain->by = asked_by(undrain->by, request.peer);
    return *undrain;
}

}  // namespace

HttpReply error_reply(const ApiError& error) {
    return {.status = http_status(error.code), .body = to_json(error) + "\n"};
}

Router::Router(Handlers& handlers, Context context) : handlers_(handlers), context_(std::move(context)) {}

std::string_view Router::known_path(std::string_view path) noexcept {
    const auto* found = std::ranges::find(kGetPaths, path);
    if (found != kGetPaths.end()) return *found;
    const auto* posted = std::ranges::find(kPostPaths, path);
    if (posted != kPostPaths.end()) return *posted;
    return path == kMetricsPath ? kMetricsPath : "other";
}

bool Router::is_event_stream(std::string_view method, std::string_view target) {
    if (method != "GET" || path_of(target) != "/v1/events") return false;
    const auto follow = query_value(target, "follow");
    return follow && *follow && **follow == "1";
}

asio::awaitable<HttpReply> Router::answer(HttpRequest request) {
    std::string problem;
    try {
        co_return co_await dispatch(std::move(request));
    } catch (const std::exception& error) {
        problem = error.what();
    }
    co_return error_reply(ApiError(api::ErrorCode::kSystem, "handling the request", problem));
}

asio::awaitable<HttpReply> Router::dispatch(HttpRequest request) {
    const std::string path(path_of(request.target));
    const bool reads = request.method == "GET" || request.method == "HEAD";
    if (is_get_path(path)) {
        if (!reads) co_return not_allowed(request.method, path, "GET, HEAD");
        co_return co_await get(std::move(request));
    }
    if (holds(kPostPaths, path)) {
        if (request.method != "POST") co_return not_allowed(request.method, path, "POST");
        co_return co_await post(std::move(request));
    }
    co_return error_reply(ApiError(api::ErrorCode::kNotFound, fmt::format("{} {}", request.method, path),
                                   "there is no such path; see docs/api.md"));
}

/// Of ten thousand backends the text takes longer than a probe's answer may wait.
template <class Write>
asio::awaitable<HttpReply> Router::written_elsewhere(Write write) {
    auto text = co_await elsewhere(context_.heavy, std::move(write));
    co_return HttpReply{.body = std::move(text)};
}

asio::awaitable<HttpReply> Router::get(HttpRequest request) {
    const std::string_view path = path_of(request.target);
    if (path == "/v1/version") co_return json_reply(handlers_.version());
    if (path == "/v1/status") co_return json_reply(handlers_.status());
    if (path == "/v1/sites") co_return json_reply(handlers_.sites());
    if (path == "/v1/pools") {
        auto write = [pools = handlers_.pools()] { return to_json(pools) + "\n"; };
        co_return co_await written_elsewhere(std::move(write));
    }
    if (path == "/v1/backends") {
        auto write = [backends = handlers_.backends()] { return to_json(backends) + "\n"; };
        co_return co_await written_elsewhere(std::move(write));
    }
    if (path == "/v1/events") co_return events(request.target);
    if (path == "/v1/config") co_return json_reply(handlers_.config());
    if (path == "/v1/plan") co_return co_await plan(std::move(request.target));
    if (path == "/v1/incidents") co_return incidents(request.target);
    auto write = [input = handlers_.metrics(), api = context_.api_metrics()] {
        return render_metrics(input, api);
    };
    auto reply = co_await written_elsewhere(std::move(write));
    reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
    co_return reply;
}

HttpReply Router::events(std::string_view target) {
    const auto since = query_number(target, "since");
    if (!since) return error_reply(since.error());
    const auto limit = query_number(target, "limit");
    if (!limit) return error_reply(limit.error());
    const std::uint64_t wanted = limit->value_or(kDefaultEventPage);
    if (wanted == 0 || wanted > kMaxEventPage) {
        return error_reply(ApiError(api::ErrorCode::kInvalidArgument, "reading the query",
                                    fmt::format("limit={} is not from 1 to {}", wanted, kMaxEventPage)));
    }
    return json_reply(handlers_.events(*since, wanted));
}

HttpReply Router::incidents(std::string_view target) {
    const auto number = query_number(target, "number");
    if (!number) return error_reply(number.error());
    if (!*number) return json_reply(handlers_.incidents());
    return json_reply(handlers_.incident(**number));
}

asio::awaitable<HttpReply> Router::plan(std::string target) {
    const auto domain = query_value(target, "fail");
    if (!domain) co_return error_reply(domain.error());
    if (!*domain || (*domain)->empty()) {
        co_return error_reply(ApiError(api::ErrorCode::kInvalidArgument, "reading the query",
                                       "fail is missing; expected ?fail=SITE or ?fail=DOMAIN"));
    }
    co_return json_reply(co_await bounded(handlers_.plan_fail(**domain), context_, "predicting a failure"));
}

asio::awaitable<HttpReply> Router::post(HttpRequest request) {
    const std::string_view path = path_of(request.target);
    if (path == "/v1/trace") co_return co_await trace(std::move(request.body));
    if (path == "/v1/trace/packet" || path.starts_with("/v1/capture"))
        co_return co_await inspect(std::move(request));
    if (path == "/v1/reload" || path.starts_with("/v1/config/"))
        co_return co_await config(std::move(request));
    if (path == "/v1/drain") {
        auto drain = checked_drain(request);
        if (!drain) co_return error_reply(drain.error());
        std::string doing = "draining " + drain->target;
        co_return json_reply(co_await bounded(handlers_.drain(std::move(*drain)), context_, doing));
    }
    if (path != "/v1/undrain") co_return co_await intent(std::move(request));
    auto undrain = checked_undrain(request);
    if (!undrain) co_return error_reply(undrain.error());
    std::string doing = "undraining " + undrain->target;
    co_return json_reply(co_await bounded(handlers_.undrain(std::move(*undrain)), context_, doing));
}

asio::awaitable<HttpReply> Router::config(HttpRequest request) {
    const std::string path(path_of(request.target));
    const std::string body = request.body.empty() ? "{}" : request.body;
    if (path == "/v1/config/confirm") {
        co_return json_reply(
            co_await bounded(handlers_.confirm_config(), context_, "confirming the configuration"));
    }
    if (path == "/v1/config/diff") {
        auto asked = from_json<ConfigDiffRequest>(body);
        if (!asked) co_return error_reply(asked.error());
        co_return json_reply(
            co_await bounded(handlers_.diff_config(std::move(*asked)), context_, "comparing configurations"));
    }
    auto asked = from_json<ReloadRequest>(body);
    if (!asked) co_return error_reply(asked.error());
    if (auto wrong = wrong_time(asked->confirm_within_s, 1, "confirm_within_s"); !wrong.empty()) {
        co_return error_reply(
            ApiError(api::ErrorCode::kInvalidArgument, "reloading the configuration", wrong));
    }
    co_return json_reply(
        co_await bounded(handlers_.reload(std::move(*asked)), context_, "reloading the configuration"));
}

asio::awaitable<HttpReply> Router::intent(HttpRequest request) {
    const std::string path(path_of(request.target));
    if (path == "/v1/hold") {
        auto asked = checked_intent<HoldRequest>(request);
        if (!asked) co_return error_reply(asked.error());
        co_return json_reply(co_await bounded(handlers_.hold(std::move(*asked)), context_, "holding"));
    }
    if (path == "/v1/release") {
        auto asked = checked_intent<ReleaseRequest>(request);
        if (!asked) co_return error_reply(asked.error());
        co_return json_reply(co_await bounded(handlers_.release(std::move(*asked)), context_, "releasing"));
    }
    auto asked = checked_intent<WeightRequest>(request);
    if (!asked) co_return error_reply(asked.error());
    co_return json_reply(co_await bounded(handlers_.weight(std::move(*asked)), context_, "setting a weight"));
}

asio::awaitable<HttpReply> Router::inspect(HttpRequest request) {
    const std::string path(path_of(request.target));
    if (path == "/v1/trace/packet") {
        auto asked = from_json<PacketTraceRequest>(request.body);
        if (!asked) co_return error_reply(asked.error());
        co_return json_reply(
            co_await bounded(handlers_.trace_packet(std::move(*asked)), context_, "tracing a packet"));
    }
    if (path == "/v1/capture") {
        auto asked = from_json<CaptureRequest>(request.body);
        if (!asked) co_return error_reply(asked.error());
        co_return json_reply(
            co_await bounded(handlers_.capture(std::move(*asked)), context_, "starting a capture"));
    }
    auto asked = from_json<CaptureReadRequest>(request.body);
    if (!asked) co_return error_reply(asked.error());
    auto page = co_await bounded(handlers_.read_capture(*asked), context_, "reading a capture");
    if (!page) co_return error_reply(page.error());
    auto write = [held = std::move(*page)] { return to_json(held) + "\n"; };
    co_return co_await written_elsewhere(std::move(write));
}

asio::awaitable<HttpReply> Router::trace(std::string body) {
    // Work with captures gets a name: GCC 12 destroys a temporary of a co_await expression twice.
    auto parse = [text = std::move(body)] { return parse_trace(text); };
    auto flows = co_await elsewhere(context_.heavy, std::move(parse));
    if (!flows) co_return error_reply(flows.error());
    std::vector<FlowPlacement> placements;
    placements.reserve(flows->size());
    const std::span<const FlowQuery> all(*flows);
    while (placements.size() < all.size()) {
        const std::size_t begin = placements.size();
        auto part = co_await handlers_.trace(all.subspan(begin, std::min(kTraceChunk, all.size() - begin)));
        if (!part) co_return error_reply(part.error());
        if (part->size() != std::min(kTraceChunk, all.size() - begin)) {
            co_return error_reply(
                ApiError(api::ErrorCode::kSystem, "tracing flows", "the answer is not complete"));
        }
        std::ranges::move(*part, std::back_inserter(placements));
        // Probes and verdicts come first: let the loop run between parts.
        co_await asio::post(context_.loop, asio::use_awaitable);
    }
    auto write = [held = std::move(placements)] { return to_json(held) + "\n"; };
    co_return co_await written_elsewhere(std::move(write));
}

}  // namespace detour::control
