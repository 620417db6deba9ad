#include "control/server/server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <list>

#include "control/server/session.h"
#include "control/server/socket_file.h"

namespace detour::control {

namespace asio = boost::asio;
using Protocol = asio::local::stream_protocol;
constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);

struct Server::Impl : std::enable_shared_from_this<Server::Impl> {
    Impl(asio::any_io_executor executor, std::string path_in, Handlers& handlers, const Limits& limits)
        : path(std::move(path_in)),
          hub(handlers, limits, executor),
          acceptor(executor),
          running(std::make_shared<Running>(executor)),
          router(handlers, context(executor, limits)) {}

    Router::Context context(const asio::any_io_executor& executor, const Limits& limits) {
        return {executor, heavy.get_executor(), [this] { return api_metrics(); }, limits.handler, running};
    }
    ApiMetrics api_metrics() const;
    asio::awaitable<void> accept();
    asio::awaitable<void> serve(Protocol::socket socket);
    asio::awaitable<void> turn_away(Protocol::socket socket);

    std::string path;
    Hub hub;
    Protocol::acceptor acceptor;
    std::shared_ptr<Running> running;  ///< its `changed` tells of ended sessions too
    asio::thread_pool heavy{1};        ///< reads and writes big bodies
    Router router;
    std::list<Session*> sessions;
    std::uint64_t refused = 0;
};

ApiMetrics Server::Impl::api_metrics() const {
    ApiMetrics result;
    for (const auto& [key, count] : hub.requests) result.requests.push_back({key.first, key.second, count});
    result.connections = sessions.size();
    result.refused = refused;
    return result;
}

asio::awaitable<void> Server::Impl::accept() {
    asio::steady_timer pause(acceptor.get_executor());
    while (!hub.closing) {
        auto [error, socket] = co_await acceptor.async_accept(kAsTuple);
        if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) co_return;
        if (error) {
            // No descriptor or memory left: those in use will be given back, don't spin until then.
            pause.expires_after(std::chrono::milliseconds(100));
            co_await pause.async_wait(kAsTuple);
            continue;
        }
        const bool full = sessions.size() >= hub.limits.connections;
        auto self = shared_from_this();
        asio::co_spawn(acceptor.get_executor(),
                       full ? turn_away(std::move(socket)) : serve(std::move(socket)),
                       [self](const std::exception_ptr&) { self->running->changed.cancel(); });
    }
}

asio::awaitable<void> Server::Impl::serve(Protocol::socket socket) {
    Session session(std::move(socket), hub, router);
    const auto place = sessions.insert(sessions.end(), &session);
    try {
        co_await session.run();
    } catch (const std::exception&) {
        // Out of memory for one connection: it ends, the others go on.
    }
    sessions.erase(place);
}

asio::awaitable<void> Server::Impl::turn_away(Protocol::socket socket) {
    ++refused;
    const HttpReply reply = error_reply(
        ApiError(api::ErrorCode::kUnavailable, "connecting", "too many connections are open, try again"));
    const std::string text =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
        "Content-Length: " +
        std::to_string(reply.body.size()) + "\r\n\r\n" + reply.body;
    // It fits into an empty socket buffer, so this doesn't wait for the peer.
    boost::system::error_code ignored;
    socket.non_blocking(true, ignored);
    socket.write_some(asio::buffer(text), ignored);
    co_return;
}

Server::Server(asio::any_io_executor executor, std::string socket_path, Handlers& handlers, Limits limits)
    : impl_(std::make_shared<Impl>(std::move(executor), std::move(socket_path), handlers, limits)) {}

Server::~Server() {
    if (!impl_->acceptor.is_open()) return;
    remove_socket(impl_->path, impl_->acceptor.native_handle());
    impl_->hub.closing = true;
    boost::system::error_code ignored;
    impl_->acceptor.close(ignored);
    for (Session* session : impl_->sessions) session->close_now();
}

api::Result<void> Server::start() {
    auto descriptor = listen_at(impl_->path);
    if (!descriptor) return tl::unexpected(descriptor.error());
    impl_->acceptor.assign(Protocol(), *descriptor);
    auto self = impl_;
    asio::co_spawn(impl_->acceptor.get_executor(), impl_->accept(), [self](const std::exception_ptr&) {});
    return {};
}

void Server::notify_events() {
    impl_->hub.wake();
}

asio::awaitable<void> Server::stop() {
    auto self = impl_;
    if (!self->acceptor.is_open()) co_return;
    remove_socket(self->path, self->acceptor.native_handle());
    self->hub.closing = true;
    boost::system::error_code ignored;
    self->acceptor.close(ignored);
    for (Session* session : self->sessions) session->close_if_idle();
    self->hub.wake();
    const auto deadline = std::chrono::steady_clock::now() + self->hub.limits.handler;
    while ((!self->sessions.empty() || self->running->count > 0) &&
           std::chrono::steady_clock::now() < deadline) {
        self->running->changed.expires_at(deadline);
        co_await self->running->changed.async_wait(kAsTuple);
    }
    for (Session* session : self->sessions) session->close_now();
}

}  // namespace detour::control
