// The BFD sessions that the configuration names, run by a thread of their own, and what becomes of them as
// reports for the engine.
//
// A session that a reload leaves as it is goes on; one that changed or went is ended (its router is told),
// one that is new is begun. One that can't be begun (another BFD speaker holds the port, an address or
// interface is not there) is said once and tried again every few seconds. Thread: the io_context's; BFD's own
// thread has no part in what is here. `io` must outlive it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/model.h"
#include "control/app/engine.h"
#include "control/health/bfd/runner.h"

namespace detour::app {

class BfdLink {
  public:
    using Report = std::function<void(const BfdReport&)>;
    using Problem = std::function<void(const std::string&)>;  ///< for the operator

    BfdLink(boost::asio::io_context& io, Report report, Problem problem);
    ~BfdLink();
    BfdLink(const BfdLink&) = delete;
    BfdLink& operator=(const BfdLink&) = delete;

    /// At the start, and after each reload.
    void use(const config::Config& config);
    /// Ends all sessions; their routers are told that this is no failure.
    void stop();
    /// Nothing without a session.
    [[nodiscard]] std::optional<bfd::RunnerCounters> counters() const;

  private:
    struct Session {
        std::string site;  ///< key
        config::BfdPeer peer;
        std::optional<bfd::SessionId> id;  ///< absent: not begun yet
        std::string problem;               ///< why not, as it was said last
        bool was_up = false;
    };

    [[nodiscard]] bool start_runner();
    void begin_all();
    void begin(Session& session);
    void wait();
    void read_events();
    void on_event(const bfd::SessionEvent& event);
    void retry_later();

    boost::asio::io_context& io_;
    Report report_;
    Problem problem_;
    std::unique_ptr<bfd::Runner> runner_;
    std::optional<boost::asio::posix::stream_descriptor> ready_;
    boost::asio::steady_timer retry_;
    std::vector<Session> sessions_;
    std::shared_ptr<int> alive_ = std::make_shared<int>(0);  ///< asked for by what runs later than this
    bool stopped_ = false;
};

}  // namespace detour::app
