// A fast path in memory behind a real Unix socket: takes plans and switches, and remembers all that was
// asked.
#pragma once

#include <boost/asio.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dataplane.pb.h"
#include "dataplane/api/framing.h"

namespace detour::testing {

class FakeFastPath {
  public:
    using stream = boost::asio::local::stream_protocol;

    FakeFastPath(boost::asio::io_context& io, std::string path) : io_(io), path_(std::move(path)) {
        listen();
    }
    ~FakeFastPath() { stop(); }

    void listen() {
        ::unlink(path_.c_str());
        acceptor_ = std::make_unique<stream::acceptor>(io_, stream::endpoint(path_));
        boost::asio::co_spawn(io_, accept_loop(*acceptor_), boost::asio::detached);
    }
    /// As kill -9: connections break, what was remembered stays.
    void stop() {
        acceptor_.reset();
        if (peer_) peer_->close();
        ::unlink(path_.c_str());
    }

    std::uint64_t instance = 1;
    bool refuse_switches = false;
    wire::Plan plan;
    std::map<std::pair<std::uint32_t, std::int64_t>, wire::SiteSwitch> sites;  ///< by (site, pool or -1)
    std::map<std::uint32_t, wire::BackendSwitch> backends;
    std::vector<std::string> asked;  ///< "hello", "state", "plan", "set", in order; stats are left out

    [[nodiscard]] std::uint32_t admit(const std::string& site) const {
        for (const auto& known : plan.sites()) {
            if (known.name() != site) continue;
            const auto found = sites.find({known.id(), -1});
            return found == sites.end() ? 65535 : found->second.admit();
        }
        return 70000;
    }

  private:
    boost::asio::awaitable<void> accept_loop(stream::acceptor& acceptor) {
        while (true) {
            auto [ec, socket] =
                co_await acceptor.async_accept(boost::asio::as_tuple(boost::asio::use_awaitable));
            if (ec) co_return;
            peer_ = std::make_shared<stream::socket>(std::move(socket));
            boost::asio::co_spawn(io_, serve(peer_), boost::asio::detached);
        }
    }

    boost::asio::awaitable<void> serve(std::shared_ptr<stream::socket> peer) {
        api::FrameReader reader;
        std::array<char, 65536> buffer;
        while (true) {
            auto [ec, size] = co_await peer->async_read_some(
                boost::asio::buffer(buffer), boost::asio::as_tuple(boost::asio::use_awaitable));
            if (ec) co_return;
            reader.feed({buffer.data(), size});
            while (auto payload = reader.next().value()) {
                wire::Request request;
                request.ParseFromString(*payload);
                const std::string reply = api::frame(answer(request).SerializeAsString());
                co_await boost::asio::async_write(*peer, boost::asio::buffer(reply),
                                                  boost::asio::as_tuple(boost::asio::use_awaitable));
            }
        }
    }

    wire::Reply answer(const wire::Request& request) {
        wire::Reply reply;
        reply.set_id(request.id());
        if (request.has_hello()) {
            asked.push_back("hello");
            reply.mutable_hello()->set_instance(instance);
            reply.mutable_hello()->set_generation(plan.generation());
            reply.mutable_hello()->set_workers(1);
        } else if (request.has_get_state()) {
            asked.push_back("state");
            auto& state = *reply.mutable_state();
            if (plan.generation() > 0) *state.mutable_plan() = plan;
            for (const auto& [key, value] : sites) *state.add_sites() = value;
            for (const auto& [key, value] : backends) *state.add_backends() = value;
        } else if (request.has_apply_plan()) {
            asked.push_back("plan");
            plan = request.apply_plan().plan();
            reply.mutable_applied()->set_generation(plan.generation());
        } else if (request.has_set_switches()) {
            asked.push_back("set");
            set(request.set_switches(), *reply.mutable_set());
        } else if (request.has_get_stats()) {
            fill_stats(*reply.mutable_stats());
        }
        return reply;
    }

    void set(const wire::SetSwitches& request, wire::SetReply& reply) {
        for (const auto& value : request.sites()) {
            const auto key = std::pair{value.site(), value.has_pool() ? std::int64_t{value.pool()} : -1};
            if (!refuse_switches) sites[key] = value;
            reply.add_sites()->set_applied(!refuse_switches);
        }
        for (const auto& value : request.backends()) {
            if (!refuse_switches) backends[value.backend()] = value;
            reply.add_backends()->set_applied(!refuse_switches);
        }
        reply.set_switch_us(123);
    }

    void fill_stats(wire::StatsReply& stats) {
        stats.set_now_ns(
            static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()));
        auto& worker = *stats.add_workers();
        worker.set_acknowledged(plan.generation());
        worker.set_scanned(plan.generation());
    }

    boost::asio::io_context& io_;
    std::string path_;
    std::unique_ptr<stream::acceptor> acceptor_;
    std::shared_ptr<stream::socket> peer_;
};

}  // namespace detour::testing
