#include "control/app/bfd_link.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace detour::app {

namespace {

constexpr std::chrono::seconds kRetryEvery{5};

static_assert(config::kMaxBfdPeers <= bfd::kMaxSessions);

bfd::SessionConfig to_session(const config::BfdPeer& peer) {
    bfd::SessionConfig session;
    session.hop = peer.multihop ? bfd::Hop::kMulti : bfd::Hop::kSingle;
    session.remote = peer.address;
    session.local = peer.source;
    session.interface = peer.interface;
    session.least_ttl = bfd::Ttl{peer.min_ttl};
    session.intervals = {peer.interval, peer.interval, peer.multiplier};
    return session;
}

}  // namespace

BfdLink::BfdLink(boost::asio::io_context& io, Report report, Problem problem)
    : io_(io), report_(std::move(report)), problem_(std::move(problem)), retry_(io) {}

BfdLink::~BfdLink() {
    stop();
}

void BfdLink::stop() {
    stopped_ = true;
    retry_.cancel();
    ready_.reset();
    sessions_.clear();
    runner_.reset();
}

void BfdLink::use(const config::Config& config) {
    std::vector<Session> wanted;
    for (const config::Site& site : config.sites) {
        for (const config::BfdPeer& peer : site.bfd) {
            Session session{site.key, peer, {}, {}, false};
            const auto old = std::ranges::find_if(
                sessions_, [&](const Session& one) { return one.site == site.key && one.peer == peer; });
            if (old != sessions_.end()) session = std::exchange(*old, {});
            wanted.push_back(std::move(session));
        }
    }
    // First the old ones go: a changed session has the path of the one before.
    for (const Session& gone : sessions_) {
        if (gone.id) runner_->remove(*gone.id);
    }
    sessions_ = std::move(wanted);
    begin_all();
}

bool BfdLink::start_runner() {
    if (runner_) return true;
    auto runner = bfd::Runner::create();
    if (!runner) {
        problem_("BFD can't be run: " + runner.error().to_string());
        return false;
    }
    runner_ = std::move(*runner);
    // A copy, for Asio closes what it holds.
    const int copy = dup(runner_->event_fd());
    if (copy < 0) {
        problem_("BFD can't be run: no descriptor");
        runner_.reset();
        return false;
    }
    ready_.emplace(io_, copy);
    wait();
    return true;
}

void BfdLink::begin_all() {
    if (sessions_.empty() || stopped_) return;
    if (!start_runner()) return retry_later();
    for (Session& session : sessions_) {
        if (!session.id) begin(session);
    }
    if (std::ranges::any_of(sessions_, [](const Session& session) { return !session.id; })) retry_later();
}

void BfdLink::begin(Session& session) {
    const auto id = runner_->add(to_session(session.peer));
    if (id) {
        session.id = *id;
        session.problem.clear();
        return;
    }
    const std::string problem = id.error().to_string();
    if (std::exchange(session.problem, problem) == problem) return;
    problem_(fmt::format("BFD with {} can't be begun and is tried again: {}",
                         session.peer.address.to_string(), problem));
}

void BfdLink::retry_later() {
    retry_.expires_after(kRetryEvery);
    retry_.async_wait([this, alive = std::weak_ptr(alive_)](const boost::system::error_code& ec) {
        if (!ec && !alive.expired()) begin_all();
    });
}

void BfdLink::wait() {
    ready_->async_wait(boost::asio::posix::stream_descriptor::wait_read,
                       [this, alive = std::weak_ptr(alive_)](const boost::system::error_code& ec) {
                           if (ec || alive.expired() || stopped_) return;
                           read_events();
                           if (ready_) wait();
                       });
}

void BfdLink::read_events() {
    for (const bfd::SessionEvent& event : runner_->take_events()) on_event(event);
}

void BfdLink::on_event(const bfd::SessionEvent& event) {
    const auto found =
        std::ranges::find_if(sessions_, [&](const Session& session) { return session.id == event.session; });
    if (found == sessions_.end() || event.state == bfd::State::kInit) return;
    BfdReport report{found->site, found->peer, failover::BfdPath::kUnknown, {}};
    if (event.state == bfd::State::kUp) {
        found->was_up = true;
        report.path = failover::BfdPath::kUp;
    } else if (event.state == bfd::State::kDown && found->was_up) {
        report.why = to_string(event.diagnostic);
        // Switched off by the router's operator: no reason to call a site dark.
        if (event.remote_state == bfd::State::kAdminDown) {
            found->was_up = false;
            report.why = "switched off at the router";
        } else {
            report.path = failover::BfdPath::kDown;
        }
    }
    report_(report);
}

std::optional<bfd::RunnerCounters> BfdLink::counters() const {
    if (!runner_) return std::nullopt;
    return runner_->counters();
}

}  // namespace detour::app
