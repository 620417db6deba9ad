#include "control/app/service.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <random>
#include <set>
#include <utility>

#include "control/app/durable_file.h"
#include "control/app/event_text.h"
#include "control/health/reverse_path.h"
#include "dataplane.pb.h"
#include "dataplane/api/wire.h"

namespace detour::app {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPollEvery{100};
constexpr milliseconds kResyncDelay{100};
constexpr milliseconds kUnreadableDelay{1'000};
/// Probes that are due within this time share one tick.
constexpr milliseconds kTickGrain{2};

steady_clock::time_point to_steady(health::Monotonic at) {
    return steady_clock::time_point(at.value);
}

publish::FastPathOptions client_options(const config::Config& config, const std::string& version) {
    publish::FastPathOptions options;
    options.socket = config.dataplane.socket;
    options.version = version;
    options.jitter_seed = std::random_device{}();
    return options;
}

plan::NextHops to_plan(const publish::NextHops& hops) {
    plan::NextHops out;
    for (const auto& [address, hop] : hops) {
        out[address] = {hop.port, hop.source, hop.destination, hop.mtu, hop.resolved, hop.vlan};
    }
    return out;
}

/// Damaged content is set aside, so that somebody can look at it.
template <class T>
T read_stored(const std::string& path, api::Result<T> (*decode)(std::string_view),
              std::vector<std::string>& alarms) {
    const auto content = read_file(path);
    if (!content) {
        if (content.error().code != api::ErrorCode::kNotFound) alarms.push_back(content.error().to_string());
        return {};
    }
    auto stored = decode(*content);
    if (stored) return std::move(*stored);
    alarms.push_back(
        fmt::format("{} is damaged and was set aside as {}.damaged: {}", path, path, stored.error().what));
    std::error_code ignored;
    std::filesystem::rename(path, path + ".damaged", ignored);
    return {};
}

}  // namespace

health::Now system_now() {
    return {{steady_clock::now().time_since_epoch()}, {std::chrono::system_clock::now().time_since_epoch()}};
}

Service::Service(boost::asio::io_context& io, config::Config config, ServiceOptions options,
                 control::EventLog& log)
    : io_(io),
      options_(std::move(options)),
      log_(log),
      first_config_(std::move(config)),
      prober_(io, {},
              [this](std::uint64_t serial, const health::Outcome& outcome) { on_probe(serial, outcome); }),
      bfd_(
          io, [this](const BfdReport& report) { carry_out(engine_->on_bfd(report, options_.now())); },
          [this](const std::string& problem) { note(EventKind::kAlarm, problem); }),
      wakeup_(io),
      poll_(io),
      resync_(io),
      trial_(io),
      unlocked_(io),
      plan_made_(io) {
    if (!options_.load) options_.load = config::load;
    if (!options_.write) {
        options_.write = [](const std::string& path, const std::string& content) {
            return write_durably(path, content);
        };
    }
}

Service::~Service() {
    stop();
}

api::Result<void> Service::load_state() {
    const std::string& folder = first_config_.control.state_dir;
    std::error_code ec;
    std::filesystem::create_directories(folder, ec);
    if (ec) {
        return api::fail(api::ErrorCode::kSystem, "making the folder for the state",
                         folder + ": " + ec.message());
    }
    state_writer_ = std::make_unique<DurableWriter>(io_, pool_, folder + "/state", options_.write);
    intents_writer_ = std::make_unique<DurableWriter>(io_, pool_, folder + "/intents", options_.write);
    std::vector<std::string> alarms;
    incident_files_ = std::make_unique<IncidentFiles>(
        io_, folder + "/incidents", options_.write,
        [this](const api::Error& error) { note(EventKind::kAlarm, error.to_string()); });
    incidents_ = IncidentBook(incident_files_->read());
    auto state = read_stored<StoredState>(folder + "/state", decode_state, alarms);
    auto intents = read_stored<StoredIntents>(folder + "/intents", decode_intents, alarms);
    engine_.emplace(std::move(first_config_), std::move(state), std::move(intents), options_.now());
    for (const auto& alarm : alarms) note(EventKind::kAlarm, alarm);
    return {};
}

void Service::load_activations() {
    const std::string path = config().control.state_dir + "/activations";
    activations_writer_ = std::make_unique<DurableWriter>(io_, pool_, path, options_.write);
    Activations::Shell shell;
    shell.tell = [this](EventKind kind, const std::string& site, const std::string& text) {
        append(to_api(Event{options_.now(), kind, site, {}, {}, {}, {}, text}));
    };
    shell.write = [this](std::string content, std::function<void()> written) {
        activations_writer_->write(std::move(content),
                                   [this, written = std::move(written)](const auto& done) {
                                       if (!done) note(EventKind::kAlarm, done.error().to_string());
                                       if (written) written();
                                   });
    };
    shell.run = [this](HookOrder order, HookDone done) {
        return run_hook(io_, std::move(order), std::move(done));
    };
    const auto stored = read_file(path);
    activations_ =
        std::make_unique<Activations>(std::move(shell), stored ? *stored : std::string(), options_.now());
}

api::Result<void> Service::start() {
    if (auto prepared = prepare_tunnel(first_config_); !prepared) return prepared;
    if (auto loaded = load_state(); !loaded) return loaded;
    load_activations();
    const auto now = options_.now();
    counters_.started = counters_.config_loaded = now.wall;
    if (options_.routes == ServiceOptions::Routes::kKernel) {
        routes_ = std::make_unique<publish::KernelRoutes>(
            io_, publish::KernelRoutesOptions{.ports = config().dataplane.ports},
            [this](const publish::NextHops& hops) { on_next_hops(hops); });
        if (auto started = routes_->start(); !started) return started;
        watch_backends();
    }
    client_ = std::make_unique<publish::FastPathClient>(
        io_, client_options(config(), options_.version),
        publish::FastPathEvents{[this](const auto& hello, const auto& state) { on_up(hello, state); },
                                [this](const api::Error& why) { on_down(why); }});
    site_of_backend_ = engine_->sites_of_backends();
    carry_out(engine_->start(now));
    bfd_.use(config());
    client_->start();
    poll_figures();
    counters_.trial = options_.trial;
    arm_trial();
    return {};
}

void Service::stop() {
    if (std::exchange(stopped_, true)) return;
    if (routes_) routes_->stop();
    if (client_) client_->stop();
    prober_.stop();
    prober_.use(nullptr);
    tunnel_.reset();
    activations_.reset();
    bfd_.stop();
    for (auto* timer : {&wakeup_, &poll_, &resync_, &trial_, &unlocked_, &plan_made_}) timer->cancel();
    planner_.join();
    pool_.join();
    for (auto& event : std::exchange(pending_events_, {})) write_event(std::move(event));
    if (incident_files_) {
        incident_files_->save(incidents_);
        incident_files_->stop(incidents_);
    }
}

void Service::carry_out(Actions actions, Switched switched) {
    if (stopped_) return;
    // Who waits, waits for the switches, or where there are none for the plan.
    const bool plan_alone = actions.sites.empty() && actions.backends.empty() && engine_->plan_ordered();
    if (plan_alone && switched) planned_.push_back(std::move(switched));
    if (!plan_alone) send_switches(actions, std::move(switched));
    send_limits(actions.limits);
    record(actions.events);
    if (actions.order) make_plan(std::move(*actions.order));
    for (const auto& probe : actions.probes) {
        const auto site = site_of_backend_.find(probe.backend);
        probed_site_[probe.serial] = site == site_of_backend_.end() ? std::string() : site->second;
        prober_.send(probe);
    }
    const auto report = [this](const api::Result<void>& written) {
        if (!written) note(EventKind::kAlarm, written.error().to_string());
    };
    if (actions.state) {
        state_writer_->write([state = std::move(*actions.state)] { return encode(state); }, report);
    }
    if (actions.intents) intents_writer_->write(std::move(*actions.intents), report);
    arm(actions.next_wakeup);
}

void Service::send_switches(const Actions& actions, Switched switched) {
    if (actions.sites.empty() && actions.backends.empty()) {
        if (switched) switched(api::fail(api::ErrorCode::kUnavailable, "switching", figures_.problem()));
        return;
    }
    std::set<std::string> told;  // by a verdict or an operator: the timeline says when it was done
    for (const auto& event : actions.events) {
        if (event.kind == EventKind::kSwitch || event.kind == EventKind::kStrand) told.insert(event.site);
    }
    ++switches_pending_;
    client_->set_switches(actions.sites, actions.backends,
                          [this, told = std::move(told), switched = std::move(switched),
                           asked = options_.now().monotonic](const auto& reply) {
                              --switches_pending_;
                              const auto done = reply
                                                    ? on_switched(*reply, told, asked)
                                                    : api::Result<std::uint64_t>(tl::unexpect, reply.error());
                              // A lost connection is repaired by the next one.
                              if (!done && done.error().code != api::ErrorCode::kUnavailable) {
                                  resync_after(kResyncDelay);
                              }
                              if (switched) switched(done);
                          });
}

void Service::send_limits(const std::vector<api::FlowLimit>& limits) {
    if (limits.empty()) return;
    client_->set_limits(limits, [this](const auto& reply) {
        bool all = reply.has_value();
        if (reply) {
            for (const auto& result : reply->limits()) all = all && result.applied();
        } else if (reply.error().code == api::ErrorCode::kUnavailable) {
            return;  // a lost connection is repaired by the next one
        }
        if (!all) resync_after(kResyncDelay);
    });
}

api::Result<std::uint64_t> Service::on_switched(const wire::SetReply& reply,
                                                const std::set<std::string>& sites, health::Monotonic asked) {
    bool all = true;
    for (const auto& result : reply.sites()) all = all && result.applied();
    for (const auto& result : reply.backends()) all = all && result.applied();
    if (!all) {
        return api::fail(api::ErrorCode::kOutdated, "switching",
                         "the fast path knows newer switches than these");
    }
    counters_.last_switch = std::chrono::microseconds(reply.switch_us());
    const auto now = options_.now();
    for (const auto& site : sites) {
        control::Event event = to_api(Event{now, EventKind::kSwitchDone, site, {}, {}, {}, {}, {}});
        event.data["switch_us"] = static_cast<std::int64_t>(reply.switch_us());
        event.data["store_ns"] = static_cast<std::int64_t>(reply.store_ns());
        event.data["reported_us"] = static_cast<std::int64_t>((now.monotonic - asked).count() / 1000);
        append(std::move(event));
    }
    return reply.switch_us();
}

/// Off the loop: of ten thousand backends it takes longer than a probe's answer may wait.
void Service::make_plan(plan::Order order) {
    boost::asio::post(planner_, [this, order = std::move(order), alive = std::weak_ptr(alive_)] {
        auto made = std::make_shared<plan::Made>(plan::carry_out(order));
        auto encoded = std::make_shared<wire::Plan>();
        if (made->plan && *made->plan != nullptr) api::encode(**made->plan, *encoded);
        boost::asio::post(io_, [this, made = std::move(made), encoded = std::move(encoded), alive] {
            if (!alive.expired() && !stopped_) on_plan_made(std::move(*made), *encoded);
        });
    });
}

void Service::on_plan_made(plan::Made made, wire::Plan& encoded) {
    Actions actions = engine_->on_plan_made(std::move(made), options_.now());
    const auto plan = std::exchange(actions.plan, nullptr);
    carry_out(std::move(actions));  // its switches before it
    if (plan != nullptr) {
        send_plan(*plan, encoded);
    } else if (!engine_->plan_ordered()) {
        answer_planned(connected_ ? api::Result<std::uint64_t>(0)
                                  : api::fail(api::ErrorCode::kUnavailable, "switching", figures_.problem()));
    }
    ++plans_made_;
    plan_made_.cancel();
}

void Service::answer_planned(const api::Result<std::uint64_t>& switch_us) {
    for (const auto& planned : std::exchange(planned_, {})) planned(switch_us);
}

void Service::send_plan(const api::ForwardingPlan& plan, wire::Plan& encoded) {
    ++counters_.plans;
    counters_.plan_sent = options_.now().monotonic;
    counters_.plan_lag.reset();
    // Known only now, when it leaves.
    for (int i = 0; i < encoded.sites_size(); ++i) {
        encoded.mutable_sites(i)->set_verdict(plan.sites[static_cast<std::size_t>(i)].verdict.value());
    }
    client_->apply_plan(std::move(encoded), [this, generation = plan.generation,
                                             planned = std::exchange(planned_, {})](const auto& reply) {
        const auto now = options_.now();
        const auto done = reply ? api::Result<std::uint64_t>(reply->switch_us())
                                : api::Result<std::uint64_t>(tl::unexpect, reply.error());
        for (const auto& waits : planned) waits(done);
        if (reply) {
            counters_.plan_lag = now.monotonic - counters_.plan_sent;
            carry_out(engine_->on_plan_applied(api::Generation(reply->generation()), now));
            return;
        }
        // With the connection gone nobody knows; the next adoption tells.
        if (reply.error().code == api::ErrorCode::kUnavailable) return;
        ++counters_.plans_refused;
        carry_out(engine_->on_plan_refused(generation, reply.error(), now));
        resync_after(kResyncDelay);
    });
}

void Service::record(const std::vector<Event>& events) {
    for (const auto& event : events) {
        if (event.kind == EventKind::kVerdict) ++counters_.verdict_changes[event.site];
        if (event.kind == EventKind::kSwitch) ++counters_.switches[event.site];
        append(to_api(event));
    }
}

void Service::note(EventKind kind, std::string reason) {
    append(to_api(Event{options_.now(), kind, {}, {}, {}, {}, {}, std::move(reason)}));
}

/// Events are logged in a turn of the loop of their own: a slow terminal must not stand before a switch.
void Service::append(control::Event event) {
    pending_events_.push_back(std::move(event));
    if (pending_events_.size() == 1) {
        boost::asio::post(io_, [this, alive = std::weak_ptr(alive_)] {
            if (!alive.expired()) flush_events();
        });
    }
}

void Service::flush_events() {
    for (auto& event : std::exchange(pending_events_, {})) write_event(std::move(event));
    if (incident_files_) incident_files_->save(incidents_);
    if (notify_) notify_();
}

void Service::write_event(control::Event event) {
    const auto level = event.severity == "alarm"     ? spdlog::level::err
                       : event.severity == "warning" ? spdlog::level::warn
                                                     : spdlog::level::info;
    spdlog::log(level, "{}", event.text);
    if (const std::uint64_t incident = incidents_.on_event(event); incident > 0) {
        event.data["incident"] = static_cast<std::int64_t>(incident);
    }
    log_.append(std::move(event));
}

void Service::arm(health::Monotonic at) {
    if (at == health::kNever) return;
    // What is due already waits for a tick that is on its way; arming it anew with each answer would put it
    // off for ever. A wake-up that turns out to be early is harmless; each engine call names the next one.
    const health::Monotonic wake = std::max(at, options_.now().monotonic + kTickGrain);
    if (armed_ != health::kNever && armed_ <= wake) return;
    armed_ = wake;
    wakeup_.expires_at(to_steady(armed_));
    wakeup_.async_wait([this, alive = std::weak_ptr(alive_)](const boost::system::error_code& ec) {
        if (ec || alive.expired() || stopped_) return;
        armed_ = health::kNever;
        carry_out(engine_->on_tick(options_.now()));
    });
}

void Service::poll_figures() {
    poll_.expires_after(kPollEvery);
    poll_.async_wait([this, alive = std::weak_ptr(alive_)](const boost::system::error_code& ec) {
        if (ec || alive.expired() || stopped_) return;
        counters_.loop_lag = steady_clock::now() - poll_.expiry();
        activations_->update(config(), engine_->needs(), options_.now());
        if (client_->up() && !std::exchange(stats_asked_, true)) {
            client_->get_stats([this](auto reply) {
                stats_asked_ = false;
                if (!reply) return;
                figures_.on_stats(std::move(*reply));
                watch_incidents();
                if (connected_) carry_out(engine_->on_signals(signals_of(figures_.stats()), options_.now()));
            });
        }
        poll_figures();
    });
}

/// Made when the first pool wants it and given back when none does.
api::Result<void> Service::prepare_tunnel(const config::Config& config) {
    if (!health::wants_tunnel(config)) {
        tunnel_.reset();
    } else if (tunnel_) {
        return tunnel_->use(config);
    } else {
        auto opened = health::Tunnel::open(io_, config);
        if (!opened) return tl::unexpected(opened.error());
        tunnel_ = std::move(*opened);
        for (const std::string& name : health::strict_reverse_path()) {
            spdlog::warn(
                "{} has strict reverse path filtering (net.ipv4.conf.{}.rp_filter=1, or that of all): it "
                "drops what "
                "backends answer to probes through the tunnel; set it to 2 or 0 where such answers arrive",
                name, name);
        }
    }
    prober_.use(tunnel_);
    return {};
}

/// When the last flow of a dark site is gone.
void Service::watch_incidents() {
    const auto sites = incidents_.open_sites();
    if (sites.empty() || figures_.stats().backends().empty()) return;
    std::map<std::string, std::uint64_t> flows;
    for (const auto& backend : figures_.stats().backends()) {
        const auto site =
            site_of_backend_.find(api::BackendId(static_cast<std::uint16_t>(backend.backend())));
        if (site != site_of_backend_.end()) flows[site->second] += backend.flows();
    }
    for (const auto& site : sites) {
        const auto found = flows.find(site);
        if (found != flows.end()) incidents_.on_flows(site, found->second, to_api(options_.now().wall));
    }
    incident_files_->save(incidents_);
}

void Service::watch_backends() {
    std::set<api::IpAddress> addresses;
    for (const auto& pool : config().pools) {
        for (const auto& backend : pool.backends) addresses.insert(backend.address);
    }
    if (routes_) routes_->watch({addresses.begin(), addresses.end()});
}

void Service::on_next_hops(const publish::NextHops& next_hops) {
    for (const auto& [address, hop] : next_hops) {
        const auto known = next_hops_.find(address);
        const bool news = known == next_hops_.end() || known->second.problem != hop.problem;
        if (news && !hop.resolved) spdlog::warn("{} can't be reached: {}", address.to_string(), hop.problem);
    }
    next_hops_ = next_hops;
    carry_out(engine_->on_next_hops(to_plan(next_hops_), options_.now()));
}

void Service::on_up(const wire::HelloReply& hello, const wire::StateReply& state) {
    figures_.on_up(hello);
    adopt(state);
}

void Service::on_down(const api::Error& why) {
    const bool was_up = figures_.up();
    if (was_up || figures_.problem() != why.to_string()) spdlog::warn("{}", why.to_string());
    figures_.on_down(why);
    if (std::exchange(connected_, false)) carry_out(engine_->on_disconnected(options_.now()));
}

void Service::on_probe(std::uint64_t serial, const health::Outcome& outcome) {
    if (auto site = probed_site_.extract(serial); !site.empty()) {
        ++counters_.probes[{std::move(site.mapped()), std::string(to_string(outcome.cause))}];
    }
    carry_out(engine_->on_probe(serial, outcome, options_.now()));
}

void Service::adopt(const wire::StateReply& state) {
    const auto read = read_state(figures_.hello(), state);
    if (!read) {
        note(EventKind::kAlarm, "the fast path's state can't be read: " + read.error().to_string());
        resync_after(kUnreadableDelay);
        return;
    }
    connected_ = true;
    carry_out(engine_->adopt(*read, options_.now()));
    site_of_backend_ = engine_->sites_of_backends();  // ids may be other ones now
}

void Service::resync_after(milliseconds delay) {
    if (stopped_ || std::exchange(resyncing_, true)) return;
    resync_.expires_after(delay);
    resync_.async_wait([this, alive = std::weak_ptr(alive_)](const boost::system::error_code& ec) {
        if (alive.expired()) return;
        resyncing_ = false;
        if (ec || stopped_ || !client_->up()) return;
        client_->get_state([this](const auto& reply) {
            if (reply)
                adopt(*reply);
            else if (reply.error().code != api::ErrorCode::kUnavailable)
                resync_after(kUnreadableDelay);
        });
    });
}

}  // namespace detour::app
