#include "control/server/session.h"

#include <fmt/format.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include "control/api/json.h"
#include "control/server/socket_file.h"

namespace detour::control {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

namespace {

using Stream = beast::basic_stream<asio::local::stream_protocol>;
using Parser = http::request_parser<http::string_body>;
constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kStreamPage = 256;

std::string text_of(beast::string_view text) {
    return {text.data(), text.size()};
}

HttpReply problem(unsigned status, api::ErrorCode code, std::string what) {
    HttpReply reply = error_reply(ApiError(code, "reading the request", std::move(what)));
    reply.status = status;
    return reply;
}

/// What a request that could not be read is answered; status 0: nobody is there to answer. (A stalled one is
/// closed by the stream's deadline.)
HttpReply read_problem(const boost::system::error_code& error, const Limits& limits) {
    const auto invalid = api::ErrorCode::kInvalidArgument;
    if (error == http::error::header_limit) {
        return problem(431, api::ErrorCode::kLimit,
                       fmt::format("the header is longer than {} bytes", limits.header_bytes));
    }
    if (error == http::error::body_limit) {
        return problem(413, api::ErrorCode::kLimit, "the body is too long for this path");
    }
    if (error == http::error::partial_message) return problem(400, invalid, "it ends in the middle");
    if (error.category() == make_error_code(http::error::bad_method).category()) {
        return problem(400, invalid, fmt::format("this is not HTTP/1.1: {}", error.message()));
    }
    return {.status = 0};
}

/// Takes its place among the big requests for as long as it lives.
class LargePlace {
  public:
    explicit LargePlace(Hub& hub) noexcept : hub_(hub) {}
    ~LargePlace() {
        if (taken_) --hub_.large;
    }
    LargePlace(const LargePlace&) = delete;
    LargePlace& operator=(const LargePlace&) = delete;
    [[nodiscard]] bool take() noexcept {
        if (hub_.large >= kMaxLarge) return false;
        ++hub_.large;
        taken_ = true;
        return true;
    }

  private:
    Hub& hub_;
    bool taken_ = false;
};

}  // namespace

struct Session::Impl {
    Impl(Socket socket, Hub& hub_in, Router& router_in)
        : stream(std::move(socket)),
          hub(hub_in),
          router(router_in),
          peer(peer_name(stream.socket().native_handle())) {}

    Stream stream;
    Hub& hub;
    Router& router;
    std::string peer;
    beast::flat_buffer buffer;
    bool idle = true;

    asio::awaitable<void> serve();
    asio::awaitable<bool> serve_one();
    asio::awaitable<bool> handle(Parser& parser);
    asio::awaitable<HttpReply> read_body(Parser& parser, LargePlace& place);
    asio::awaitable<bool> refuse(const boost::system::error_code& error);
    asio::awaitable<bool> write(const http::request<http::string_body>* request, HttpReply reply, bool keep);
    asio::awaitable<void> follow(std::string target);
    asio::awaitable<void> send_events(std::optional<std::uint64_t> since);
    asio::awaitable<bool> send_chunk(std::string text);
    void count(std::string_view target, unsigned status);
};

Session::Session(Socket socket, Hub& hub, Router& router)
    : impl_(std::make_unique<Impl>(std::move(socket), hub, router)) {}
Session::~Session() = default;

asio::awaitable<void> Session::run() {
    return impl_->serve();
}

void Session::close_if_idle() {
    if (impl_->idle) impl_->stream.cancel();
}

void Session::close_now() {
    impl_->stream.close();
}

void Session::Impl::count(std::string_view target, unsigned status) {
    ++hub.requests[{std::string(Router::known_path(path_of(target))), status}];
}

asio::awaitable<void> Session::Impl::serve() {
    while (!hub.closing && co_await serve_one()) {
    }
    boost::system::error_code ignored;
    stream.socket().shutdown(asio::socket_base::shutdown_both, ignored);
}

/// False: the connection ends.
asio::awaitable<bool> Session::Impl::serve_one() {
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(hub.limits.header_bytes));
    parser.body_limit(boost::none);  // judged below, when the path is known
    idle = true;
    // The first byte may take as long as an idle connection may live, the rest of the header may not.
    if (buffer.size() == 0) {
        stream.expires_after(hub.limits.idle);
        auto [error, size] = co_await stream.async_read_some(buffer.prepare(4096), kAsTuple);
        if (error || hub.closing) co_return false;
        buffer.commit(size);
    }
    idle = false;
    stream.expires_after(hub.limits.request);
    auto [error, size] = co_await http::async_read_header(stream, buffer, parser, kAsTuple);
    if (error) co_return co_await refuse(error);
    co_return co_await handle(parser);
}

asio::awaitable<bool> Session::Impl::refuse(const boost::system::error_code& error) {
    HttpReply reply = read_problem(error, hub.limits);
    if (reply.status == 0) co_return false;
    count("", reply.status);
    co_return co_await write(nullptr, std::move(reply), false);
}

asio::awaitable<bool> Session::Impl::handle(Parser& parser) {
    LargePlace place(hub);
    HttpReply refusal = co_await read_body(parser, place);
    const auto& request = parser.get();
    const std::string target = text_of(request.target());
    if (refusal.status != 200) {
        count(target, refusal.status);
        if (refusal.status == 0) co_return false;
        co_return co_await write(&request, std::move(refusal), false);
    }
    const std::string method = text_of(request.method_string());
    if (Router::is_event_stream(method, target)) {
        count(target, 200);
        co_await follow(target);
        co_return false;
    }
    HttpRequest call{method, target, std::move(parser.get().body()), peer};
    stream.expires_never();
    HttpReply reply = co_await router.answer(std::move(call));
    count(target, reply.status);
    co_return co_await write(&request, std::move(reply), request.keep_alive() && !hub.closing);
}

/// Status 200: the body is there.
asio::awaitable<HttpReply> Session::Impl::read_body(Parser& parser, LargePlace& place) {
    const auto& request = parser.get();
    const bool is_trace = path_of(text_of(request.target())) == "/v1/trace";
    const std::uint64_t limit = is_trace ? hub.limits.trace_body_bytes : hub.limits.body_bytes;
    const std::uint64_t length = parser.content_length().value_or(0);
    if (length > limit) {
        co_return problem(413, api::ErrorCode::kLimit,
                          fmt::format("the body has {} bytes, at most {} for this path", length, limit));
    }
    if (is_trace && !place.take()) {
        co_return problem(503, api::ErrorCode::kUnavailable,
                          fmt::format("{} trace requests are under way, try again", kMaxLarge));
    }
    parser.body_limit(limit);
    if (beast::iequals(request[http::field::expect], "100-continue")) {
        const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
        auto [error, size] = co_await asio::async_write(stream, asio::buffer(go_on), kAsTuple);
        if (error) co_return HttpReply{.status = 0};
    }
    auto [error, size] = co_await http::async_read(stream, buffer, parser, kAsTuple);
    if (error) co_return read_problem(error, hub.limits);
    co_return HttpReply{};
}

asio::awaitable<bool> Session::Impl::write(const http::request<http::string_body>* request, HttpReply reply,
                                           bool keep) {
    http::response<http::string_body> response;
    response.version(11);
    response.result(reply.status);
    response.set(http::field::server, "detour-control");
    response.set(http::field::content_type, reply.content_type);
    if (!reply.allow.empty()) response.set(http::field::allow, reply.allow);
    response.keep_alive(keep);
    if (request != nullptr && request->method() == http::verb::head) {
        response.content_length(reply.body.size());
    } else {
        response.body() = std::move(reply.body);
        response.prepare_payload();
    }
    stream.expires_after(hub.limits.request);
    auto [error, size] = co_await http::async_write(stream, response, kAsTuple);
    co_return keep && !error;
}

asio::awaitable<void> Session::Impl::follow(std::string target) {
    const auto since = query_number(target, "since");
    const auto limit = query_number(target, "limit");
    if (!since || !limit) {
        co_await write(nullptr, error_reply(ApiError(!since ? since.error() : limit.error())), false);
        co_return;
    }
    std::optional<std::uint64_t> from = *since;
    if (!from) {
        // Like `tail -f`: the newest few, then what comes.
        const std::size_t shown = std::min<std::size_t>(limit->value_or(10), kMaxEventPage);
        const EventPage page = hub.handlers.events(std::nullopt, std::max<std::size_t>(shown, 1));
        from = page.last > shown ? page.last - shown : 0;
    }
    http::response<http::empty_body> response(http::status::ok, 11);
    response.set(http::field::server, "detour-control");
    response.set(http::field::content_type, "application/x-ndjson");
    response.keep_alive(false);
    response.chunked(true);
    http::response_serializer<http::empty_body> serializer(response);
    stream.expires_after(hub.limits.request);
    auto [error, size] = co_await http::async_write_header(stream, serializer, kAsTuple);
    if (!error) co_await send_events(from);
}

asio::awaitable<void> Session::Impl::send_events(std::optional<std::uint64_t> since) {
    asio::steady_timer woken(hub.loop);
    const auto place = hub.followers.insert(hub.followers.end(), &woken);
    bool going = true;
    while (going && !hub.closing) {
        const EventPage page = hub.handlers.events(since, kStreamPage);
        if (page.events.empty()) {
            stream.expires_never();
            woken.expires_after(hub.limits.heartbeat);
            auto [error] = co_await woken.async_wait(kAsTuple);
            // Nothing came: an empty line tells both sides that the other is there.
            if (!error) going = co_await send_chunk("\n");
            continue;
        }
        since = page.events.back().sequence;
        std::string lines;
        for (const Event& event : page.events) lines += to_json(event) + "\n";
        going = co_await send_chunk(std::move(lines));
    }
    hub.followers.erase(place);
    if (going) {
        stream.expires_after(hub.limits.request);
        co_await asio::async_write(stream, http::make_chunk_last(), kAsTuple);
    }
}

asio::awaitable<bool> Session::Impl::send_chunk(std::string text) {
    stream.expires_after(hub.limits.request);
    auto [error, size] = co_await asio::async_write(stream, http::make_chunk(asio::buffer(text)), kAsTuple);
    co_return !error;
}

}  // namespace detour::control
