// One request to one reply: paths and methods (docs/api.md), without sockets or HTTP
// parsing.
//
// Thread rule: the loop; big bodies are read and written on `heavy`. `Handlers` must outlive every call.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/server/query.h"
#include "control/server/server.h"

namespace detour::control {

struct HttpRequest {
    std::string method;
    std::string target;  ///< path and query, as sent
    std::string body;
    std::string peer;  ///< "root", "uid 1000"
};

struct HttpReply {
    unsigned status = 200;
    std::string content_type = "application/json";
    std::string body;
    std::string allow;  ///< for 405
};

/// The reply that carries an error.
[[nodiscard]] HttpReply error_reply(const ApiError& error);

/// Handlers under way; one may outlive its request, and its server. `changed` is cancelled when one ends.
struct Running {
    explicit Running(const boost::asio::any_io_executor& loop) : changed(loop) {}
    std::size_t count = 0;
    boost::asio::steady_timer changed;
};

class Router {
  public:
    struct Context {
        boost::asio::any_io_executor loop;
        boost::asio::any_io_executor heavy;
        std::function<ApiMetrics()> api_metrics;
        std::chrono::milliseconds handler_limit{30'000};
        std::shared_ptr<Running> running;
    };
    Router(Handlers& handlers, Context context);

    /// Always answers; an exception of a handler becomes a 500.
    boost::asio::awaitable<HttpReply> answer(HttpRequest request);
    /// Paths for metrics: a known path, or "other".
    [[nodiscard]] static std::string_view known_path(std::string_view path) noexcept;
    [[nodiscard]] static bool is_event_stream(std::string_view method, std::string_view target);

  private:
    boost::asio::awaitable<HttpReply> dispatch(HttpRequest request);
    boost::asio::awaitable<HttpReply> post(HttpRequest request);
    boost::asio::awaitable<HttpReply> intent(HttpRequest request);
    boost::asio::awaitable<HttpReply> config(HttpRequest request);
    boost::asio::awaitable<HttpReply> trace(std::string body);
    boost::asio::awaitable<HttpReply> inspect(HttpRequest request);
    boost::asio::awaitable<HttpReply> get(HttpRequest request);
    template <class Write>
    boost::asio::awaitable<HttpReply> written_elsewhere(Write write);
    HttpReply events(std::string_view target);
    boost::asio::awaitable<HttpReply> plan(std::string target);
    HttpReply incidents(std::string_view target);

    Handlers& handlers_;
    Context context_;
};

}  // namespace detour::control
