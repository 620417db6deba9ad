#include "dataplane/io/request_handler.h"

#include <fmt/format.h>
#include <time.h>

#include <chrono>
#include <random>

#include "dataplane.pb.h"
#include "dataplane/api/wire.h"

namespace detour::io {
namespace {

using api::ErrorCode;
using Clock = std::chrono::steady_clock;

constexpr auto kApplying = "applying a plan";

std::uint64_t random_instance() {
    std::random_device source;
    return static_cast<std::uint64_t>(source()) << 32U | source();
}

std::uint64_t micros(std::chrono::nanoseconds time) {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(time).count());
}

std::uint64_t monotonic_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000ULL + static_cast<std::uint64_t>(t.tv_nsec);
}

template <class Messages, class Values>
api::Result<void> decode_all(const Messages& messages, Values& values) {
    values.clear();
    for (const auto& message : messages) {
        auto value = api::decode(message);
        if (!value) return tl::unexpected(value.error());
        values.push_back(*value);
    }
    return {};
}

/// Of a SetSwitches or of a StateReply. An error leaves `switches` half filled.
template <class Message>
api::Result<void> decode_switches(const Message& message, SwitchSet& switches) {
    if (auto done = decode_all(message.sites(), switches.sites); !done) return done;
    if (auto done = decode_all(message.backends(), switches.backends); !done) return done;
    return decode_all(message.limits(), switches.limits);
}

void encode_switches(const SwitchSet& switches, wire::StateReply& message) {
    for (const api::SiteSwitch& value : switches.sites) api::encode(value, *message.add_sites());
    for (const api::BackendSwitch& value : switches.backends) api::encode(value, *message.add_backends());
    for (const api::FlowLimit& value : switches.limits) api::encode(value, *message.add_limits());
}

void fill(wire::SwitchResult& message, const SwitchOutcome& outcome) {
    message.set_applied(outcome.applied);
    message.set_in_force(outcome.in_force.value());
}

}  // namespace

api::Result<RestoredState> read_state(const std::string& payload) {
    wire::StateReply message;
    if (!message.ParseFromString(payload)) {
        return api::fail(ErrorCode::kInvalidArgument, "reading the state", "it is no message of ours");
    }
    RestoredState state;
    if (message.has_plan()) {
        auto plan = api::decode(message.plan());
        if (!plan) return tl::unexpected(plan.error());
        state.plan = *std::move(plan);
    }
    if (auto done = decode_switches(message, state.switches); !done) return tl::unexpected(done.error());
    return state;
}

RequestHandler::RequestHandler(FastPath& fast_path)
    : fast_path_(fast_path),
      book_(fast_path.host()),
      introspection_(fast_path),
      instance_(random_instance()),
      plan_bytes_(std::make_shared<std::string>()) {}

api::Result<void> RequestHandler::restore(const RestoredState& switches, const RestoredState& plan) {
    std::vector<SwitchOutcome> outcomes(switches.switches.size());
    book_.apply(switches.switches, outcomes);
    if (!plan.plan) return {};
    if (auto fits = check_ports(*plan.plan); !fits) return fits;
    auto tables = core::build_tables(*plan.plan, nullptr);
    if (!tables) return tl::unexpected(tables.error());
    rebuilds_ += (*tables)->built.site_tables + (*tables)->built.maglev_tables;
    auto took = fast_path_.publish(*std::move(tables), *plan.plan);
    remember(*plan.plan);
    restored_ = true;
    if (!took) return tl::unexpected(took.error());
    return {};
}

bool RequestHandler::overtakes(const wire::Request& request) {
    return request.body_case() == wire::Request::kSetSwitches ||
           request.body_case() == wire::Request::kGetStats;
}

void RequestHandler::handle(const wire::Request& request, wire::Reply& reply) {
    api::Result<void> done;
    switch (request.body_case()) {
        case wire::Request::kHello:
            hello(reply);
            break;
        case wire::Request::kApplyPlan:
            done = apply(request.apply_plan(), reply);
            break;
        case wire::Request::kSetSwitches:
            done = set(request.set_switches(), reply);
            break;
        case wire::Request::kGetStats:
            stats(reply);
            break;
        case wire::Request::kGetState:
            state(reply);
            break;
        case wire::Request::kTrace:
            done = introspection_.trace(request.trace(), *reply.mutable_trace());
            break;
        case wire::Request::kStartCapture:
            done = introspection_.start(request.start_capture(), *reply.mutable_capture());
            break;
        case wire::Request::kReadCapture:
            done = introspection_.read(request.read_capture(), *reply.mutable_capture());
            break;
        case wire::Request::BODY_NOT_SET:
            done =
                api::fail(ErrorCode::kInvalidArgument, "reading a request", "it asks for nothing known here");
            break;
    }
    if (!done) api::encode(done.error(), *reply.mutable_failure());
    reply.set_id(request.id());
}

void RequestHandler::hello(wire::Reply& reply) const {
    wire::HelloReply& hello = *reply.mutable_hello();
    hello.set_version(DETOUR_VERSION);
    hello.set_instance(instance_);
    hello.set_generation(generation_);
    hello.set_restored(restored_);
    hello.set_workers(fast_path_.workers());
    std::uint32_t index = 0;
    for (const PortState& port : fast_path_.ports()) {
        wire::Port& row = *hello.add_ports();
        row.set_index(index++);
        row.set_name(port.name);
        row.set_mac(port.mac.bytes.data(), port.mac.bytes.size());
        row.set_link_up(port.link_up);
    }
}

void RequestHandler::stats(wire::Reply& reply) {
    introspection_.expire();
    wire::StatsReply& stats = *reply.mutable_stats();
    stats.set_now_ns(monotonic_ns());
    stats.set_generation(generation_);
    stats.set_rebuilds(rebuilds_);
    fast_path_.collect(stats);
}

void RequestHandler::state(wire::Reply& reply) const {
    wire::StateReply& state = *reply.mutable_state();
    // Our own bytes: they parse.
    state.ParseFromString(plan_payload());
    encode_switches(book_.snapshot(), state);
}

api::Result<void> RequestHandler::check_ports(const api::ForwardingPlan& plan) const {
    const std::size_t ports = fast_path_.ports().size();
    for (const api::PlanNextHop& hop : plan.next_hops) {
        if (hop.port.value() < ports) continue;
        return api::fail(ErrorCode::kInvalidArgument, kApplying,
                         fmt::format("next hop {} leaves by port {}, and there are {} ports", hop.id.value(),
                                     hop.port.value(), ports));
    }
    return {};
}

api::Result<void> RequestHandler::check_current(const api::ForwardingPlan& plan) const {
    if (plan.generation.value() <= generation_) {
        return api::fail(ErrorCode::kOutdated, kApplying,
                         fmt::format("generation {} is not above {}, which is in force",
                                     plan.generation.value(), generation_.load()));
    }
    for (const api::PlanSite& site : plan.sites) {
        const api::Sequence last = book_.verdict(site.id);
        if (site.verdict >= last) continue;
        return api::fail(ErrorCode::kOutdated, kApplying,
                         fmt::format("it was computed from verdict {} of site {}, and {} is in force",
                                     site.verdict.value(), site.name, last.value()));
    }
    return {};
}

api::Result<void> RequestHandler::apply(const wire::ApplyPlan& request, wire::Reply& reply) {
    auto plan = api::decode(request.plan());
    if (!plan) return tl::unexpected(plan.error());
    if (auto fits = check_ports(*plan); !fits) return fits;
    if (auto current = check_current(*plan); !current) return current;
    const auto start = Clock::now();
    auto tables = core::build_tables(*plan, &fast_path_.tables());
    if (!tables) return tl::unexpected(tables.error());
    const auto built = Clock::now() - start;
    const std::uint32_t count = (*tables)->built.site_tables + (*tables)->built.maglev_tables;
    rebuilds_ += count;
    auto took = fast_path_.publish(*std::move(tables), *plan);
    // In force even when a worker or the kernel lags behind, so it is remembered before that is reported.
    remember(*plan);
    if (marks_.plan) marks_.plan();
    if (!took) return tl::unexpected(took.error());
    wire::ApplyReply& applied = *reply.mutable_applied();
    applied.set_generation(generation_);
    applied.set_tables_built(count);
    applied.set_build_us(micros(built));
    applied.set_switch_us(micros(*took));
    return {};
}

api::Result<void> RequestHandler::set(const wire::SetSwitches& request, wire::Reply& reply) {
    if (auto done = decode_switches(request, switches_); !done) return done;
    outcomes_.resize(switches_.size());
    const auto start = Clock::now();
    book_.apply(switches_, outcomes_);
    const auto stored = Clock::now() - start;
    auto passed = fast_path_.wait_until_passed();
    const auto took = Clock::now() - start;
    if (marks_.switches) marks_.switches();
    if (!passed) return passed;
    wire::SetReply& set = *reply.mutable_set();
    auto outcome = outcomes_.begin();
    for (std::size_t i = 0; i < switches_.sites.size(); ++i) fill(*set.add_sites(), *outcome++);
    for (std::size_t i = 0; i < switches_.backends.size(); ++i) fill(*set.add_backends(), *outcome++);
    for (std::size_t i = 0; i < switches_.limits.size(); ++i) fill(*set.add_limits(), *outcome++);
    set.set_store_ns(static_cast<std::uint64_t>(std::chrono::nanoseconds(stored).count()));
    set.set_switch_us(micros(took));
    set.set_rebuilds(rebuilds_);
    return {};
}

void RequestHandler::remember(const api::ForwardingPlan& plan) {
    wire::StateReply message;
    api::encode(plan, *message.mutable_plan());
    auto bytes = std::make_shared<const std::string>(message.SerializeAsString());
    generation_ = plan.generation.value();
    const std::lock_guard lock(mutex_);
    plan_bytes_ = std::move(bytes);
}

std::string RequestHandler::plan_payload() const {
    const std::lock_guard lock(mutex_);
    return *plan_bytes_;
}

std::string RequestHandler::switches_payload() const {
    wire::StateReply message;
    encode_switches(book_.snapshot(), message);
    return message.SerializeAsString();
}

}  // namespace detour::io
