#include "control/publish/fast_path_client.h"

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <random>
#include <utility>

#include "control/publish/request_queue.h"
#include "dataplane.pb.h"
#include "dataplane/api/framing.h"
#include "dataplane/api/wire.h"

namespace detour::publish {

namespace {

namespace asio = boost::asio;
using asio::awaitable;
using boost::system::error_code;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using stream = asio::local::stream_protocol;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr milliseconds kDeadlineTick{20};

api::Error unavailable(std::string what) {
    return {api::ErrorCode::kUnavailable, "talking to the fast path", std::move(what)};
}

/// Takes the part of a reply that answers the request, or says that it is missing.
template <class T, class Has, class Take>
std::function<void(api::Result<wire::Reply>)> expect(Answer<T> answer, Has has, Take take) {
    return [answer = std::move(answer), has, take](api::Result<wire::Reply> reply) {
        if (!reply) return answer(tl::unexpected<api::Error>(reply.error()));
        if (!has(*reply)) {
            return answer(api::fail(api::ErrorCode::kInvalidArgument, "reading a reply of the fast path",
                                    "it answers another kind of request"));
        }
        answer(std::move(*take(*reply)));
    };
}

}  // namespace

class FastPathClient::Impl : public std::enable_shared_from_this<Impl> {
  public:
    Impl(asio::io_context& io, FastPathOptions options, FastPathEvents events)
        : io_(io),
          options_(std::move(options)),
          events_(std::move(events)),
          queue_(options_.max_queue),
          socket_(io),
          wake_(io),
          tick_(io),
          pause_(io),
          random_(options_.jitter_seed) {}

    void start() {
        asio::co_spawn(
            io_, [self = shared_from_this()] { return self->run(); }, asio::detached);
    }

    void stop() {
        stopped_ = true;
        up_ = false;
        events_ = {};
        std::vector<DueAnswer> dropped;
        queue_.fail_all(unavailable("this process is stopping"), dropped);
        error_code ignored;
        socket_.close(ignored);
        for (auto* timer : {&wake_, &tick_, &pause_}) timer->cancel();
    }

    /// A request of the owner: refused while the connection is down.
    void ask(RequestKind kind, wire::Request& request, milliseconds timeout,
             std::function<void(api::Result<wire::Reply>)> done) {
        if (stopped_) return;
        std::vector<DueAnswer> due;
        if (up_) {
            push(kind, request, timeout, std::move(done), due);
        } else {
            due.push_back({[done = std::move(done)] {
                done(tl::unexpected<api::Error>(unavailable("not connected")));
            }});
        }
        if (due.empty()) return;
        asio::post(io_, [self = shared_from_this(), due = std::move(due)]() mutable { self->deliver(due); });
    }

    [[nodiscard]] bool up() const { return up_; }
    [[nodiscard]] std::uint64_t late_replies() const { return queue_.late_replies(); }
    [[nodiscard]] const FastPathOptions& options() const { return options_; }

  private:
    void push(RequestKind kind, wire::Request& request, milliseconds timeout,
              std::function<void(api::Result<wire::Reply>)> done, std::vector<DueAnswer>& due) {
        request.set_id(++last_id_);
        queue_.push({last_id_, kind, steady_clock::now() + timeout, api::frame(request.SerializeAsString()),
                     std::move(done)},
                    due);
        wake_.cancel();
    }

    void deliver(std::vector<DueAnswer>& due) {
        for (auto& answer : std::exchange(due, {})) {
            if (stopped_) return;
            answer.call();
        }
    }

    awaitable<void> run();
    awaitable<api::Error> session();
    awaitable<api::Result<void>> connect();
    void greet();
    awaitable<api::Error> read_loop();
    awaitable<api::Error> write_loop();
    awaitable<api::Error> deadline_loop();
    [[nodiscard]] milliseconds backoff(unsigned attempt);

    asio::io_context& io_;
    FastPathOptions options_;
    FastPathEvents events_;
    RequestQueue queue_;
    stream::socket socket_;
    asio::steady_timer wake_;   ///< cancelled when there may be something to write
    asio::steady_timer tick_;   ///< deadlines
    asio::steady_timer pause_;  ///< back-off
    std::minstd_rand random_;
    std::uint64_t last_id_ = 0;
    SteadyTime waiting_since_;  ///< last reply, or first request of an idle connection
    std::optional<wire::HelloReply> hello_;
    std::optional<api::Error> broken_;  ///< why the session has to end
    bool up_ = false;
    bool stopped_ = false;
};

milliseconds FastPathClient::Impl::backoff(unsigned attempt) {
    const auto doubled = options_.backoff_first.count() << std::min(attempt, 16U);
    const auto capped = std::min<std::int64_t>(doubled, options_.backoff_cap.count());
    // Half fixed, half random: many control processes do not come back in step.
    std::uniform_int_distribution<std::int64_t> jitter(0, capped / 2);
    return milliseconds(capped - jitter(random_));
}

awaitable<void> FastPathClient::Impl::run() {
    unsigned attempt = 0;
    while (!stopped_) {
        const api::Error why = co_await session();
        if (stopped_) co_return;
        attempt = std::exchange(up_, false) ? 0 : attempt + 1;
        std::vector<DueAnswer> due;
        queue_.fail_all(unavailable(why.what), due);
        deliver(due);
        if (events_.on_down) events_.on_down(why);
        if (stopped_) co_return;
        pause_.expires_after(backoff(attempt));
        co_await pause_.async_wait(kTuple);
    }
}

awaitable<api::Error> FastPathClient::Impl::session() {
    using namespace asio::experimental::awaitable_operators;
    if (auto connected = co_await connect(); !connected) co_return connected.error();
    broken_.reset();
    waiting_since_ = steady_clock::now();
    greet();
    const auto ended = co_await (read_loop() || write_loop() || deadline_loop());
    error_code ignored;
    socket_.close(ignored);
    co_return std::visit([](const api::Error& error) { return error; }, ended);
}

awaitable<api::Result<void>> FastPathClient::Impl::connect() {
    // A Unix socket connects or refuses at once, so no deadline is needed; a full backlog is a refusal.
    error_code ec;
    socket_ = stream::socket(io_);
    if (options_.socket.size() >= sizeof(sockaddr_un::sun_path)) {
        co_return api::fail(api::ErrorCode::kInvalidArgument, "connecting to the fast path",
                            "the path of its socket is too long: " + options_.socket);
    }
    socket_.open(stream(), ec);
    if (!ec) socket_.non_blocking(true, ec);
    if (!ec) socket_.connect(stream::endpoint(options_.socket), ec);
    if (!ec) co_return api::Result<void>{};
    co_return api::fail(api::ErrorCode::kUnavailable, "connecting to the fast path",
                        options_.socket + ": " + ec.message());
}

void FastPathClient::Impl::greet() {
    hello_.reset();
    std::vector<DueAnswer> due;
    wire::Request hello;
    hello.mutable_hello()->set_version(options_.version);
    push(
        RequestKind::kGreeting, hello, options_.request_timeout,
        [this](api::Result<wire::Reply> reply) {
            if (!reply)
                broken_ = reply.error();
            else if (!reply->has_hello())
                broken_ = unavailable("it does not answer a greeting with a greeting");
            else
                hello_ = std::move(*reply->mutable_hello());
        },
        due);
    wire::Request state;
    state.mutable_get_state();
    push(
        RequestKind::kGreeting, state, options_.plan_timeout,
        [this](api::Result<wire::Reply> reply) {
            if (broken_) return;
            if (!reply)
                broken_ = reply.error();
            else if (!reply->has_state() || !hello_)
                broken_ = unavailable("it does not tell its state");
            if (broken_) return;
            up_ = true;
            if (events_.on_up) events_.on_up(*hello_, reply->state());
        },
        due);
}

awaitable<api::Error> FastPathClient::Impl::read_loop() {
    api::FrameReader frames;
    std::array<char, 1U << 16U> buffer;
    while (true) {
        const auto [ec, size] = co_await socket_.async_read_some(asio::buffer(buffer), kTuple);
        if (ec) co_return unavailable("connection lost: " + ec.message());
        frames.feed({buffer.data(), size});
        while (true) {
            auto payload = frames.next();
            if (!payload) co_return payload.error();
            if (!*payload) break;
            wire::Reply reply;
            if (!reply.ParseFromString(**payload)) co_return unavailable("a reply is not readable");
            std::vector<DueAnswer> due;
            waiting_since_ = steady_clock::now();
            if (auto taken = queue_.on_reply(std::move(reply), due); !taken) co_return taken.error();
            deliver(due);
            if (broken_) co_return *broken_;
            if (stopped_) co_return unavailable("stopped");
            wake_.cancel();  // a plan that waited for the one in flight may go
        }
    }
}

awaitable<api::Error> FastPathClient::Impl::write_loop() {
    while (!stopped_) {
        if (!queue_.replies_due()) waiting_since_ = steady_clock::now();
        const auto frame = queue_.next_frame();
        if (!frame) {
            wake_.expires_at(SteadyTime::max());
            co_await wake_.async_wait(kTuple);
            continue;
        }
        const auto [ec, size] = co_await asio::async_write(socket_, asio::buffer(*frame), kTuple);
        if (ec) co_return unavailable("connection lost: " + ec.message());
    }
    co_return unavailable("stopped");
}

awaitable<api::Error> FastPathClient::Impl::deadline_loop() {
    while (!stopped_) {
        tick_.expires_after(kDeadlineTick);
        co_await tick_.async_wait(kTuple);
        const auto now = steady_clock::now();
        std::vector<DueAnswer> due;
        queue_.expire(now, due);
        deliver(due);
        if (broken_) co_return *broken_;
        if (queue_.replies_due() && now - waiting_since_ > options_.silence_timeout) {
            co_return api::Error{api::ErrorCode::kTimeout, "talking to the fast path",
                                 "it does not answer any more"};
        }
    }
    co_return unavailable("stopped");
}

FastPathClient::FastPathClient(asio::io_context& io, FastPathOptions options, FastPathEvents events)
    : impl_(std::make_shared<Impl>(io, std::move(options), std::move(events))) {}

FastPathClient::~FastPathClient() {
    impl_->stop();
}

void FastPathClient::start() {
    impl_->start();
}
void FastPathClient::stop() {
    impl_->stop();
}
bool FastPathClient::up() const {
    return impl_->up();
}
std::uint64_t FastPathClient::late_replies() const {
    return impl_->late_replies();
}

void FastPathClient::apply_plan(wire::Plan&& plan, Answer<wire::ApplyReply> answer) {
    wire::Request request;
    *request.mutable_apply_plan()->mutable_plan() = std::move(plan);
    impl_->ask(RequestKind::kPlan, request, impl_->options().plan_timeout,
               expect<wire::ApplyReply>(
                   std::move(answer), [](const wire::Reply& reply) { return reply.has_applied(); },
                   [](wire::Reply& reply) { return reply.mutable_applied(); }));
}

void FastPathClient::set_switches(const std::vector<api::SiteSwitch>& sites,
                                  const std::vector<api::BackendSwitch>& backends,
                                  Answer<wire::SetReply> answer) {
    wire::Request request;
    auto& message = *request.mutable_set_switches();
    for (const auto& site : sites) api::encode(site, *message.add_sites());
    for (const auto& backend : backends) api::encode(backend, *message.add_backends());
    impl_->ask(RequestKind::kSwitch, request, impl_->options().request_timeout,
               expect<wire::SetReply>(
                   std::move(answer), [](const wire::Reply& reply) { return reply.has_set(); },
                   [](wire::Reply& reply) { return reply.mutable_set(); }));
}

void FastPathClient::set_limits(const std::vector<api::FlowLimit>& limits, Answer<wire::SetReply> answer) {
    wire::Request request;
    auto& message = *request.mutable_set_switches();
    for (const auto& limit : limits) api::encode(limit, *message.add_limits());
    impl_->ask(RequestKind::kSwitch, request, impl_->options().request_timeout,
               expect<wire::SetReply>(
                   std::move(answer), [](const wire::Reply& reply) { return reply.has_set(); },
                   [](wire::Reply& reply) { return reply.mutable_set(); }));
}

void FastPathClient::get_stats(Answer<wire::StatsReply> answer) {
    wire::Request request;
    request.mutable_get_stats();
    impl_->ask(RequestKind::kStats, request, impl_->options().request_timeout,
               expect<wire::StatsReply>(
                   std::move(answer), [](const wire::Reply& reply) { return reply.has_stats(); },
                   [](wire::Reply& reply) { return reply.mutable_stats(); }));
}

void FastPathClient::trace(std::string packet, Answer<wire::TraceReply> answer) {
    wire::Request request;
    request.mutable_trace()->set_packet(std::move(packet));
    impl_->ask(RequestKind::kStats, request, impl_->options().request_timeout,
               expect<wire::TraceReply>(
                   std::move(answer), [](const wire::Reply& reply) { return reply.has_trace(); },
                   [](wire::Reply& reply) { return reply.mutable_trace(); }));
}

void FastPathClient::start_capture(const wire::StartCapture& capture, Answer<wire::CaptureReply> answer) {
    wire::Request request;
    *request.mutable_start_capture() = capture;
    impl_->ask(RequestKind::kStats, request, impl_->options().request_timeout,
               expect<wire::CaptureReply>(
                   std::move(answer), [](const wire::Reply& reply) { return reply.has_capture(); },
                   [](wire::Reply& reply) { return reply.mutable_capture(); }));
}

void FastPathClient::read_capture(const wire::ReadCapture& capture, Answer<wire::CaptureReply> answer) {
    wire::Request request;
    *request.mutable_read_capture() = capture;
    impl_->ask(RequestKind::kStats, request, impl_->options().request_timeout,
               expect<wire::CaptureReply>(
                   std::move(answer), [](const wire::Reply& reply) { return reply.has_capture(); },
                   [](wire::Reply& reply) { return reply.mutable_capture(); }));
}

void FastPathClient::get_state(Answer<wire::StateReply> answer) {
    wire::Request request;
    request.mutable_get_state();
    impl_->ask(RequestKind::kStats, request, impl_->options().plan_timeout,
               expect<wire::StateReply>(
                   std::move(answer), [](const wire::Reply& reply) { return reply.has_state(); },
                   [](wire::Reply& reply) { return reply.mutable_state(); }));
}

}  // namespace detour::publish
