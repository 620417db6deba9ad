#include "control/publish/kernel_routes.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <set>
#include <utility>

#include "control/publish/netlink_socket.h"
#include "control/publish/route_table.h"

namespace detour::publish {

namespace {

namespace asio = boost::asio;
using asio::awaitable;
using std::chrono::steady_clock;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kLookupsPerTurn = 128;
constexpr std::size_t kAsksPerTick = 128;
constexpr std::size_t kDatagramsPerTurn = 64;

}  // namespace

class KernelRoutes::Impl : public std::enable_shared_from_this<Impl> {
  public:
    Impl(asio::io_context& io, KernelRoutesOptions options, OnChange on_change)
        : options_(std::move(options)),
          on_change_(std::move(on_change)),
          table_(options_.ports),
          readable_(io),
          change_(io, steady_clock::time_point::max()),
          pause_(io),
          ask_(io),
          io_(io) {}

    api::Result<void> start() {
        auto requests = NetlinkSocket::open(NetlinkSocket::Use::kRequests);
        if (!requests) return tl::unexpected(requests.error());
        auto notifications = NetlinkSocket::open(NetlinkSocket::Use::kNotifications);
        if (!notifications) return tl::unexpected(notifications.error());
        requests_ = std::move(*requests);
        notifications_ = std::move(*notifications);
        if (auto read = resync(); !read) return read;
        // The descriptor is lent: NetlinkSocket closes it, after release().
        readable_.assign(notifications_.descriptor());
        spawn(&Impl::listen_loop);
        spawn(&Impl::update_loop);
        spawn(&Impl::ask_loop);
        return {};
    }

    void stop() {
        if (std::exchange(stopped_, true)) return;
        on_change_ = nullptr;
        if (readable_.is_open()) {
            readable_.cancel();
            readable_.release();
        }
        for (auto* timer : {&change_, &pause_, &ask_}) timer->cancel();
    }

    void watch(std::vector<api::IpAddress> addresses) {
        wanted_ = {addresses.begin(), addresses.end()};
        told_.reset();
        routes_changed();
    }

  private:
    void spawn(awaitable<void> (Impl::*loop)()) {
        asio::co_spawn(
            io_, [self = shared_from_this(), loop] { return ((*self).*loop)(); }, asio::detached);
    }
    void routes_changed() {
        routes_dirty_ = true;
        hops_changed();
    }
    void hops_changed() {
        dirty_ = true;
        change_.cancel();
    }

    api::Result<void> resync();
    void take(const netlink::Message& message);
    void ask_neighbours();
    void tell();
    awaitable<void> listen_loop();
    awaitable<void> update_loop();
    awaitable<void> look_up_routes();
    awaitable<void> ask_loop();

    KernelRoutesOptions options_;
    OnChange on_change_;
    RouteTable table_;
    NetlinkSocket requests_;
    NetlinkSocket notifications_;
    asio::posix::stream_descriptor readable_;
    asio::steady_timer change_;  ///< cancelled when something changed
    asio::steady_timer pause_;   ///< debounce
    asio::steady_timer ask_;
    asio::io_context& io_;
    std::set<api::IpAddress> wanted_;
    std::optional<NextHops> told_;
    bool routes_dirty_ = false;
    bool dirty_ = false;
    bool stopped_ = false;
};

/// Links and neighbours anew; routes are looked up by the update loop.
api::Result<void> KernelRoutes::Impl::resync() {
    table_.begin_dump();
    for (const auto what :
         {netlink::Dump::kLinks, netlink::Dump::kNeighboursV4, netlink::Dump::kNeighboursV6}) {
        const auto messages = requests_.dump(what);
        if (!messages) return tl::unexpected(messages.error());
        for (const auto& message : *messages) take(message);
    }
    routes_changed();
    return {};
}

void KernelRoutes::Impl::take(const netlink::Message& message) {
    if (const auto* link = std::get_if<netlink::Link>(&message)) {
        table_.update(*link);
        routes_changed();
    } else if (const auto* neighbour = std::get_if<netlink::Neighbour>(&message)) {
        if (table_.update(*neighbour)) hops_changed();
    } else if (std::holds_alternative<netlink::RouteAnswer>(message) ||
               std::holds_alternative<netlink::RoutesChanged>(message)) {
        routes_changed();
    }
}

awaitable<void> KernelRoutes::Impl::listen_loop() {
    while (!stopped_) {
        const auto [ec] = co_await readable_.async_wait(asio::posix::descriptor_base::wait_read, kTuple);
        if (ec || stopped_) co_return;
        for (std::size_t i = 0; i < kDatagramsPerTurn; ++i) {
            const auto messages = notifications_.receive();
            if (!messages) {
                // Lost or unreadable: what we know may be wrong. A failed resync is repeated by the ask loop.
                (void)resync();
                break;
            }
            if (messages->empty()) break;
            for (const auto& message : *messages) take(message);
        }
    }
}

awaitable<void> KernelRoutes::Impl::update_loop() {
    while (!stopped_) {
        if (!dirty_) {
            change_.expires_at(steady_clock::time_point::max());
            co_await change_.async_wait(kTuple);
            continue;
        }
        // The first news is told without a wait, later ones are gathered.
        if (told_) {
            pause_.expires_after(options_.debounce);
            co_await pause_.async_wait(kTuple);
            if (stopped_) co_return;
        }
        dirty_ = false;
        if (std::exchange(routes_dirty_, false)) co_await look_up_routes();
        if (stopped_) co_return;
        tell();
    }
}

awaitable<void> KernelRoutes::Impl::look_up_routes() {
    const std::set<api::IpAddress> destinations = wanted_;  // watch() may replace it in between
    table_.keep_routes(destinations);
    std::size_t done = 0;
    for (const auto& destination : destinations) {
        table_.set_route(destination, requests_.route_to(destination));
        if (++done % kLookupsPerTurn != 0) continue;
        co_await asio::post(io_, asio::use_awaitable);
        if (stopped_) co_return;
    }
}

void KernelRoutes::Impl::tell() {
    NextHops hops = table_.next_hops();
    ask_neighbours();
    if (wanted_.empty() || (told_ && *told_ == hops)) return;
    told_ = std::move(hops);
    if (on_change_) on_change_(*told_);
}

void KernelRoutes::Impl::ask_neighbours() {
    for (const auto& key : table_.to_ask(kAsksPerTick)) {
        (void)requests_.send(
            netlink::use_neighbour_request(key.interface, key.address, requests_.next_sequence()));
    }
    requests_.drain();  // refusals: the next tick asks again
}

awaitable<void> KernelRoutes::Impl::ask_loop() {
    auto resync_at = steady_clock::now() + options_.resync_every;
    while (!stopped_) {
        ask_.expires_after(options_.ask_every);
        co_await ask_.async_wait(kTuple);
        if (stopped_) co_return;
        if (steady_clock::now() < resync_at) {
            ask_neighbours();
        } else if (resync()) {
            resync_at = steady_clock::now() + options_.resync_every;
        }
    }
}

KernelRoutes::KernelRoutes(asio::io_context& io, KernelRoutesOptions options, OnChange on_change)
    : impl_(std::make_shared<Impl>(io, std::move(options), std::move(on_change))) {}

KernelRoutes::~KernelRoutes() {
    impl_->stop();
}

api::Result<void> KernelRoutes::start() {
    return impl_->start();
}
void KernelRoutes::stop() {
    impl_->stop();
}
void KernelRoutes::watch(std::vector<api::IpAddress> addresses) {
    impl_->watch(std::move(addresses));
}

}  // namespace detour::publish
