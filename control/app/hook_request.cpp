#include <openssl/ssl.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <utility>

#include "config/duration.h"
#include "control/app/hook.h"

namespace detour::app {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::awaitable;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kMaxAnswerBytes = 65'536;

HookResult failed(const std::string& doing, const error_code& ec) {
    return {false, doing + ": " + ec.message(), {}};
}

template <class Stream>
awaitable<HookResult> exchange(Stream& stream, const HookOrder& order, const HookUrl& url) {
    http::request<http::string_body> request{http::verb::post, url.target, 11};
    const std::string host = url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]";
    request.set(http::field::host, host + ":" + url.port);
    request.set(http::field::user_agent, "detour");
    request.set(http::field::content_type, "application/json");
    // Names hold nothing that JSON would want escaped.
    request.body() = R"({"site":")" + order.site + R"(","pop":")" + order.pop + R"("})";
    request.prepare_payload();
    const auto [write_error, written] = co_await http::async_write(stream, request, kTuple);
    if (write_error) co_return failed("sending the request", write_error);
    boost::beast::flat_buffer buffer;
    http::response_parser<http::string_body> answer;
    answer.body_limit(kMaxAnswerBytes);
    const auto [read_error, size] = co_await http::async_read(stream, buffer, answer, kTuple);
    if (read_error) co_return failed("reading the answer", read_error);
    const unsigned status = answer.get().result_int();
    co_return HookResult{status >= 200 && status < 300, "HTTP status " + std::to_string(status),
                         one_line(answer.get().body())};
}

class RequestRun : public Hook, public std::enable_shared_from_this<RequestRun> {
  public:
    RequestRun(asio::io_context& io, HookOrder order, HookDone done)
        : order_(std::move(order)),
          url_(split_url(order_.activation.url)),
          done_(std::move(done)),
          resolver_(io),
          socket_(io),
          deadline_(io) {}

    void start(asio::io_context& io) {
        deadline_.expires_after(order_.activation.deadline);
        deadline_.async_wait([self = shared_from_this()](const error_code& ec) {
            if (ec || !self->done_) return;
            self->late_ = true;
            self->close();
        });
        asio::co_spawn(
            io, [self = shared_from_this()] { return self->run(); }, asio::detached);
    }

    void stop() override {
        done_ = nullptr;
        close();
        deadline_.cancel();
    }

  private:
    void close() {
        error_code ignored;
        resolver_.cancel();
        socket_.close(ignored);
    }

    awaitable<void> run() {
        const auto self = shared_from_this();
        HookResult result = co_await request();
        if (late_)
            result = {false, "no answer within " + config::duration_text(order_.activation.deadline), {}};
        deadline_.cancel();
        if (const HookDone done = std::exchange(done_, nullptr)) done(result);
    }

    awaitable<HookResult> request() {
        const auto [resolve_error, found] = co_await resolver_.async_resolve(url_.host, url_.port, kTuple);
        if (resolve_error) co_return failed("looking up " + url_.host, resolve_error);
        error_code connect_error = asio::error::not_found;
        for (const auto& entry : found) {
            if (late_ || !done_) break;
            error_code ignored;
            socket_.close(ignored);
            const auto [ec] = co_await socket_.async_connect(entry.endpoint(), kTuple);
            connect_error = ec;
            if (!ec) break;
        }
        if (connect_error) co_return failed("connecting to " + url_.host, connect_error);
        if (url_.tls) co_return co_await over_tls();
        co_return co_await exchange(socket_, order_, url_);
    }

    awaitable<HookResult> over_tls() {
        asio::ssl::context context(asio::ssl::context::tls_client);
        error_code ec;
        const std::string& authorities = order_.activation.ca_file;
        if (authorities.empty())
            context.set_default_verify_paths(ec);
        else
            context.load_verify_file(authorities, ec);
        if (ec) co_return failed("reading the authorities", ec);
        asio::ssl::stream<tcp::socket&> stream(socket_, context);
        stream.set_verify_mode(asio::ssl::verify_peer);
        stream.set_verify_callback(asio::ssl::host_name_verification(url_.host));
        (void)SSL_set_tlsext_host_name(stream.native_handle(), url_.host.c_str());
        const auto [handshake_error] =
            co_await stream.async_handshake(asio::ssl::stream_base::client, kTuple);
        if (handshake_error) co_return failed("the TLS handshake with " + url_.host, handshake_error);
        co_return co_await exchange(stream, order_, url_);
    }

    HookOrder order_;
    HookUrl url_;
    HookDone done_;
    tcp::resolver resolver_;
    tcp::socket socket_;
    asio::steady_timer deadline_;
    bool late_ = false;
};

}  // namespace

HookUrl split_url(const std::string& url) {
    HookUrl parts;
    parts.tls = url.starts_with("https://");
    const std::size_t begin = parts.tls ? 8 : 7;
    const std::size_t end = std::min(url.find_first_of("/?", begin), url.size());
    std::string authority = url.substr(begin, end - begin);
    parts.target = url.substr(end);
    if (!parts.target.starts_with('/')) parts.target.insert(0, "/");
    const std::size_t bracket = authority.find(']');
    const std::size_t colon = authority.find(':', bracket == std::string::npos ? 0 : bracket);
    parts.port = colon == std::string::npos ? (parts.tls ? "443" : "80") : authority.substr(colon + 1);
    parts.host = authority.substr(0, colon);
    if (parts.host.starts_with('[') && parts.host.ends_with(']'))
        parts.host = parts.host.substr(1, parts.host.size() - 2);
    return parts;
}

std::shared_ptr<Hook> send_request(asio::io_context& io, HookOrder order, HookDone done) {
    auto run = std::make_shared<RequestRun>(io, std::move(order), std::move(done));
    run->start(io);
    return run;
}

}  // namespace detour::app
