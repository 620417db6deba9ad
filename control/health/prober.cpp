#include "control/health/prober.h"

#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

#include "control/health/probe_arrival.h"
#include "control/health/probe_connects.h"
#include "control/health/probe_grpc.h"
#include "control/health/probe_http.h"
#include "control/health/probe_icmp.h"
#include "control/health/probe_io.h"
#include "control/health/probe_path.h"
#include "control/health/probe_tls.h"
#include "control/health/probe_udp.h"

namespace detour::health {

namespace {

namespace asio = boost::asio;
using asio::awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::steady_clock;

/// One probe under way.
struct Attempt {
    Attempt(asio::io_context& io, std::uint64_t number, ProbeRequest asked, std::shared_ptr<Tunnel> tunnel)
        : id(number), request(std::move(asked)), path(std::move(tunnel)), socket(io), deadline(io) {}
    ~Attempt() { close(); }
    Attempt(const Attempt&) = delete;
    Attempt& operator=(const Attempt&) = delete;

    void close() {
        if (plain >= 0) ::close(std::exchange(plain, -1));
        error_code ignored;
        socket.close(ignored);  // with linger 0: a reset
        if (datagram) datagram->close(ignored);
        if (echo) echo->close(ignored);
    }

    std::uint64_t id;
    ProbeRequest request;
    ProbePath path;  // before the sockets: it ends after they are closed
    int plain = -1;  ///< of a probe that only connects
    tcp::socket socket;
    std::optional<asio::ip::udp::socket> datagram;
    std::optional<asio::posix::stream_descriptor> echo;
    asio::steady_timer deadline;
    steady_clock::time_point sent;
    std::chrono::nanoseconds late{0};    ///< how late the deadline was noticed, when that was not prompt
    std::chrono::nanoseconds unread{0};  ///< how long what ended earlier steps lay in the socket
    Cause overdue = Cause::kOk;          ///< what the deadline says, once it has passed
};

tcp::endpoint endpoint_of(const ProbeRequest& request) {
    const api::IpAddress& to = destination(request);
    const auto& bytes = to.bytes();
    const std::uint16_t port = request.health->port.value();
    if (to.is_v6()) return {asio::ip::address_v6(bytes), port};
    return {asio::ip::address_v4({bytes[0], bytes[1], bytes[2], bytes[3]}), port};
}

/// Later than this, and the loop was away: answers may have come that nobody has looked at yet.
constexpr std::chrono::milliseconds kPrompt{10};

/// Opens and connects. The error is empty when the connection stands.
awaitable<error_code> connect(Attempt& attempt) {
    const auto endpoint = endpoint_of(attempt.request);
    error_code ec;
    attempt.socket.open(endpoint.protocol(), ec);
    if (!ec) attempt.socket.set_option(asio::socket_base::linger(true, 0), ec);
    if (!ec) attempt.socket.set_option(tcp::no_delay(true), ec);
    if (!ec) ec = attempt.path.prepare(attempt.socket.native_handle(), attempt.request);
    if (ec) {
        co_await asio::post(attempt.socket.get_executor(), asio::use_awaitable);  // not inside send()
        co_return ec;
    }
    const auto [connected] = co_await attempt.socket.async_connect(endpoint, kTuple);
    const std::chrono::nanoseconds elapsed = steady_clock::now() - attempt.sent;
    if (!connected && elapsed > kPrompt)
        attempt.unread = elapsed - connect_time(attempt.socket.native_handle(), elapsed);
    co_return connected;
}

/// One question, one answer: no step between that this process may have been late for unseen.
bool one_exchange(config::ProbeType type) {
    using enum config::ProbeType;
    return type == kTcp || type == kHttp || type == kUdp || type == kDns || type == kIcmp;
}

/// How long the answer that was just read had lain in its socket.
std::chrono::nanoseconds waited_unread(Attempt& attempt, std::chrono::nanoseconds elapsed) {
    if (attempt.plain >= 0) return elapsed - connect_time(attempt.plain, elapsed);
    const auto unread = attempt.datagram ? since_datagram(attempt.datagram->native_handle())
                        : attempt.echo   ? since_datagram(attempt.echo->native_handle())
                                         : since_last_data(attempt.socket.native_handle());
    return std::min(unread, elapsed);
}

/// What types share and reuse from probe to probe.
struct Tools {
    TlsContexts tls;
    ArrivalsNoted arrivals;
};

awaitable<Outcome> over_tcp(Attempt& attempt, Tools& tools) {
    if (const error_code ec = co_await connect(attempt)) co_return Outcome{cause_of(ec), 0, {}};
    switch (attempt.request.health->type) {
        case config::ProbeType::kHttp:
            co_return co_await http_exchange(attempt.socket, attempt.request);
        case config::ProbeType::kGrpc:
            co_return co_await grpc_call(attempt.socket, attempt.request);
        case config::ProbeType::kGrpcs:
        case config::ProbeType::kHttps:
        case config::ProbeType::kTls:
            co_return co_await tls_probe(attempt.socket, attempt.request, tools.tls);
        default:
            co_return Outcome{};  // kTcp is no coroutine
    }
}

awaitable<Outcome> by_type(Attempt& attempt, Tools& tools) {
    switch (attempt.request.health->type) {
        case config::ProbeType::kUdp:
        case config::ProbeType::kDns:
            co_return co_await udp_probe(attempt.datagram.emplace(attempt.socket.get_executor()),
                                         attempt.request, attempt.path);
        case config::ProbeType::kIcmp:
            co_return co_await icmp_probe(attempt.echo.emplace(attempt.socket.get_executor()),
                                          attempt.request, attempt.path);
        default:
            co_return co_await over_tcp(attempt, tools);
    }
}

}  // namespace

class Prober::Impl : public std::enable_shared_from_this<Impl> {
  public:
    Impl(asio::io_context& io, ProberOptions options, Done done)
        : io_(io),
          options_(options),
          done_(std::move(done)),
          connects_(io, [this](std::uint64_t id, const error_code& ec) { connected(id, ec); }) {}

    void send(const ProbeRequest& request) {
        if (stopped_) return;
        if (attempts_.size() >= options_.max_in_flight) {
            asio::post(io_, [self = shared_from_this(), serial = request.serial] {
                self->report(serial, Outcome{});
            });
            return;
        }
        auto attempt = std::make_shared<Attempt>(io_, ++last_id_, request, tunnel_);
        attempts_.emplace(attempt->id, attempt);
        if (request.health->type == config::ProbeType::kTcp) return only_connect(attempt);
        asio::co_spawn(
            io_, [self = shared_from_this(), attempt = std::move(attempt)] { return self->run(attempt); },
            asio::detached);
    }

    void stop() {
        stopped_ = true;
        done_ = nullptr;
        connects_.stop();
        for (const auto& [id, attempt] : attempts_) finish(*attempt);
        attempts_.clear();
    }

    void use(std::shared_ptr<Tunnel> tunnel) { tunnel_ = std::move(tunnel); }
    [[nodiscard]] std::size_t in_flight() const { return attempts_.size(); }
    [[nodiscard]] std::uint64_t shed() const { return shed_; }

  private:
    void begin(const std::shared_ptr<Attempt>& attempt) {
        // Counted from here and not from send(): a long queue of the loop is no fault of the backend.
        attempt->sent = steady_clock::now();
        arm_deadline(attempt, attempt->sent + attempt->request.health->timeout);
    }

    void arm_deadline(const std::shared_ptr<Attempt>& attempt, steady_clock::time_point at) {
        attempt->deadline.expires_at(at);
        attempt->deadline.async_wait([self = shared_from_this(), attempt](const error_code& ec) {
            if (!ec) self->expire(attempt);
        });
    }

    void expire(const std::shared_ptr<Attempt>& attempt) {
        if (stopped_) return;
        const std::chrono::nanoseconds timeout = attempt->request.health->timeout;
        const auto now = steady_clock::now();
        if (attempt->late.count() == 0 && now - attempt->deadline.expiry() > kPrompt) {
            // What waits in the sockets comes first, however many steps it takes: as much time as was lost.
            attempt->late = now - attempt->deadline.expiry();
            return arm_deadline(attempt, now + std::min(attempt->late, timeout / 2));
        }
        attempt->overdue = attempt->late > timeout / 2 ? Cause::kNotSent : Cause::kTimeout;
        if (attempt->plain >= 0) return end(attempt, Outcome{attempt->overdue, 0, {}});
        // Closed and not cancelled: a step that is done but not yet looked at would start the next one.
        attempt->close();
    }

    awaitable<void> run(std::shared_ptr<Attempt> attempt) {
        begin(attempt);
        Outcome outcome = co_await by_type(*attempt, tools_);
        end(attempt, std::move(outcome));
    }

    /// The commonest probe by far, and a single step.
    void only_connect(const std::shared_ptr<Attempt>& attempt) {
        begin(attempt);
        const auto endpoint = endpoint_of(attempt->request);
        error_code ec;
        attempt->plain = open_tcp(endpoint.address().is_v6(), ec);
        if (!ec) ec = attempt->path.prepare(attempt->plain, attempt->request);
        if (!ec) ec = connects_.start(attempt->id, attempt->plain, endpoint);
        if (!ec) return;
        asio::post(io_, [self = shared_from_this(), id = attempt->id, ec] { self->connected(id, ec); });
    }

    void connected(std::uint64_t id, const error_code& ec) {
        const auto self = shared_from_this();  // whom we report to may let us go
        const auto found = attempts_.find(id);
        if (found == attempts_.end()) return;  // its time was over
        const std::shared_ptr<Attempt> attempt = found->second;
        end(attempt, Outcome{ec ? cause_of(ec) : Cause::kOk, 0, {}});
    }

    void end(const std::shared_ptr<Attempt>& attempt, Outcome outcome) {
        if (outcome.cause == Cause::kOk) {
            judge_arrival(*attempt, outcome);
        } else if (attempt->overdue != Cause::kOk) {
            outcome = {attempt->overdue, 0, {}};
        }
        finish(*attempt);
        attempts_.erase(attempt->id);
        report(attempt->request.serial, outcome);
    }

    /// An answer counts when the kernel received it. The kernel is asked only when it matters.
    static void judge_arrival(Attempt& attempt, Outcome& outcome) {
        const std::chrono::nanoseconds timeout = attempt.request.health->timeout;
        const std::chrono::nanoseconds elapsed = steady_clock::now() - attempt.sent;
        outcome.round_trip = elapsed;
        if (elapsed < timeout / 2) return;
        const auto unread = std::min(elapsed, attempt.unread + waited_unread(attempt, elapsed));
        outcome.round_trip -= unread;
        if (outcome.round_trip <= timeout + kArrivalGrain || !one_exchange(attempt.request.health->type))
            return;
        // Too late, and with a loop that was away for so long nobody knows whose fault it was.
        const bool away = std::max(unread, attempt.late) > timeout / 2;
        outcome = {away ? Cause::kNotSent : Cause::kTimeout, 0, {}};
    }

    static void finish(Attempt& attempt) {
        attempt.close();
        attempt.deadline.cancel();
    }

    void report(std::uint64_t serial, const Outcome& outcome) {
        if (stopped_) return;
        if (outcome.cause == Cause::kNotSent) ++shed_;
        if (done_) done_(serial, outcome);
    }

    asio::io_context& io_;
    ProberOptions options_;
    Done done_;
    Tools tools_;
    std::shared_ptr<Tunnel> tunnel_;
    std::unordered_map<std::uint64_t, std::shared_ptr<Attempt>> attempts_;
    std::uint64_t last_id_ = 0;
    TcpConnects connects_;
    std::uint64_t shed_ = 0;
    bool stopped_ = false;
};

Prober::Prober(asio::io_context& io, ProberOptions options, Done done)
    : impl_(std::make_shared<Impl>(io, options, std::move(done))) {}

Prober::~Prober() {
    impl_->stop();
}

void Prober::send(const ProbeRequest& request) {
    impl_->send(request);
}
void Prober::use(std::shared_ptr<Tunnel> tunnel) {
    impl_->use(std::move(tunnel));
}
void Prober::stop() {
    impl_->stop();
}
std::size_t Prober::in_flight() const {
    return impl_->in_flight();
}
std::uint64_t Prober::shed() const {
    return impl_->shed();
}

}  // namespace detour::health
