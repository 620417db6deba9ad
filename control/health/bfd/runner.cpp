#include "control/health/bfd/runner.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include "control/health/bfd/runner_socket.h"

namespace detour::bfd {

namespace {

constexpr std::size_t kMaxEvents = 1024;
constexpr int kBatch = 64;       // packets read under one lock
constexpr int kMaxBatches = 64;  // before timers get their turn, whatever still waits
constexpr int kNice = -10;
constexpr std::size_t kBufferSize = 512;  // longer datagrams are cut; BFD reads 24 bytes

Monotonic monotonic_now() {
    return {
        std::chrono::duration_cast<health::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())};
}

/// The thread that runs timers can't fail here: a kernel that gives no random bytes at this size does not
/// exist after start-up, and create() asks it once.
std::uint32_t kernel_random() {
    std::uint32_t value = 0;
    while (getrandom(&value, sizeof value, 0) != sizeof value) {
    }
    return value;
}

void add_one(int event_fd) {
    const std::uint64_t one = 1;
    // Fails only when the counter is full: then it is readable anyway.
    [[maybe_unused]] const auto written = write(event_fd, &one, sizeof one);
}

void clear(int fd) {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto got = read(fd, &count, sizeof count);
}

itimerspec absolute(Monotonic at) {
    itimerspec spec{};
    if (at == health::kNever) return spec;  // disarmed
    // Zero would disarm it; a time that has passed fires at once.
    const std::int64_t nanoseconds = std::max<std::int64_t>(at.value.count(), 1);
    spec.it_value.tv_sec = nanoseconds / 1'000'000'000;
    spec.it_value.tv_nsec = nanoseconds % 1'000'000'000;
    return spec;
}

}  // namespace

/// `mutex_` guards everything but the descriptors that never change. Callers hold it for microseconds; the
/// thread lets go of it between batches and while it waits.
class Runner::Impl {
  public:
    Impl() : table_(kernel_random) {}
    ~Impl();

    api::Result<void> start();
    api::Result<SessionId> add(const SessionConfig& config);
    void remove(SessionId id);
    void change(SessionId id, Step (Session::*action)(Monotonic));
    [[nodiscard]] int event_fd() const noexcept { return events_ready_.get(); }
    std::vector<SessionEvent> take_events();
    std::optional<SessionStatus> status(SessionId id);
    RunnerCounters counters();

  private:
    struct Receiver {
        Hop hop = Hop::kSingle;
        Family family = Family::kV4;
        Descriptor socket;
    };

    void run();
    void drain();
    bool read_batch(const Receiver& receiver);
    void run_timers();
    api::Result<void> listen(Hop hop, Family family);
    api::Result<void> watch(int fd);
    void carry_out(SessionId id, const Step& step);
    void send(SessionId id, const ControlPacket& packet);
    void report(SessionId id);
    void say_goodbye(SessionId id);
    SessionEvent event_of(SessionId id, const Session& session) const;
    void arm();

    Descriptor epoll_;
    Descriptor timer_;
    Descriptor stop_;
    Descriptor events_ready_;

    std::mutex mutex_;
    SessionTable table_;
    std::map<SessionId, Sender> senders_;
    std::deque<Receiver> receivers_;  // at most 4, never removed: references stay good
    std::deque<SessionEvent> events_;
    std::uint64_t sent_ = 0;
    std::uint64_t send_failed_ = 0;
    std::uint64_t events_lost_ = 0;
    std::array<std::uint8_t, kBufferSize> buffer_{};

    std::atomic<bool> stopping_{false};
    std::thread thread_;
};

api::Result<void> Runner::Impl::start() {
    epoll_ = Descriptor(epoll_create1(EPOLL_CLOEXEC));
    timer_ = Descriptor(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    stop_ = Descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    events_ready_ = Descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!epoll_ || !timer_ || !stop_ || !events_ready_) return system_error("descriptors of the BFD thread");
    for (const int fd : {timer_.get(), stop_.get()})
        if (const auto watched = watch(fd); !watched) return watched;
    // Signals are for the process's own loop.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& error) {
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        return api::fail(api::ErrorCode::kSystem, "starting the BFD thread", error.what());
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return {};
}

Runner::Impl::~Impl() {
    if (!thread_.joinable()) return;
    stopping_ = true;
    add_one(stop_.get());
    thread_.join();
    for (const auto& [id, sender] : senders_) say_goodbye(id);
}

void Runner::Impl::run() {
    pthread_setname_np(pthread_self(), "bfd");
    // Best effort: before the other threads when both want the core. On Linux this is the calling thread's
    // alone.
    (void)setpriority(PRIO_PROCESS, 0, kNice);
    std::array<epoll_event, 8> ready{};
    while (!stopping_) {
        if (epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), -1) < 0 && errno != EINTR)
            break;
        clear(timer_.get());
        drain();
        run_timers();
    }
}

/// Before timers, so that what waits in a socket counts as heard.
void Runner::Impl::drain() {
    std::size_t count = 0;
    {
        const std::lock_guard lock(mutex_);
        count = receivers_.size();
    }
    for (std::size_t i = 0; i < count; ++i) {
        for (int batch = 0; batch < kMaxBatches; ++batch) {
            const std::lock_guard lock(mutex_);
            if (!read_batch(receivers_[i])) break;
        }
    }
}

/// True when more may wait.
bool Runner::Impl::read_batch(const Receiver& receiver) {
    for (int i = 0; i < kBatch; ++i) {
        const auto datagram = receive(receiver.socket, receiver.hop, buffer_);
        if (!datagram) return false;
        table_.on_datagram(datagram->payload, datagram->arrival, monotonic_now(),
                           [this](SessionId id, const Step& step) { carry_out(id, step); });
    }
    return true;
}

void Runner::Impl::run_timers() {
    const std::lock_guard lock(mutex_);
    table_.on_timer(monotonic_now(), [this](SessionId id, const Step& step) { carry_out(id, step); });
    arm();
}

void Runner::Impl::arm() {
    const itimerspec spec = absolute(table_.next_timer());
    (void)timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr);
}

api::Result<void> Runner::Impl::watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return system_error("watching a descriptor");
    return {};
}

api::Result<void> Runner::Impl::listen(Hop hop, Family family) {
    for (const Receiver& receiver : receivers_)
        if (receiver.hop == hop && receiver.family == family) return {};
    auto socket = open_receiver(hop, family);
    if (!socket) return tl::unexpected(socket.error());
    if (auto watched = watch(socket->get()); !watched) return watched;
    receivers_.push_back({hop, family, std::move(*socket)});
    return {};
}

api::Result<SessionId> Runner::Impl::add(const SessionConfig& config) {
    const auto interface = find_interface(config.interface);
    if (!interface) return tl::unexpected(interface.error());
    const Path path{config.hop, config.remote, config.local, *interface, config.least_ttl};
    auto sender = Sender::open(path, kernel_random);
    if (!sender) return tl::unexpected(sender.error());
    const std::lock_guard lock(mutex_);
    if (const auto done = listen(config.hop, family_of(config.remote)); !done)
        return tl::unexpected(done.error());
    auto id = table_.add(path, config.intervals, monotonic_now());
    if (!id) return id;
    senders_.emplace(*id, std::move(*sender));
    arm();
    return id;
}

void Runner::Impl::remove(SessionId id) {
    const std::lock_guard lock(mutex_);
    say_goodbye(id);
    table_.remove(id);
    senders_.erase(id);
    arm();
}

void Runner::Impl::say_goodbye(SessionId id) {
    Session* session = table_.find(id);
    if (session == nullptr) return;
    const Step step = session->disable(monotonic_now());
    if (step.send) send(id, *step.send);
}

void Runner::Impl::change(SessionId id, Step (Session::*action)(Monotonic)) {
    const std::lock_guard lock(mutex_);
    Session* session = table_.find(id);
    if (session == nullptr) return;
    carry_out(id, (session->*action)(monotonic_now()));
    arm();
}

void Runner::Impl::carry_out(SessionId id, const Step& step) {
    if (step.send) send(id, *step.send);
    if (step.changed) report(id);
}

void Runner::Impl::send(SessionId id, const ControlPacket& packet) {
    const auto bytes = encode(packet);
    ++(senders_.at(id).send(bytes) ? sent_ : send_failed_);
}

SessionEvent Runner::Impl::event_of(SessionId id, const Session& session) const {
    return {id,
            session.state(),
            session.diagnostic(),
            session.remote_state(),
            session.remote_diagnostic(),
            monotonic_now()};
}

void Runner::Impl::report(SessionId id) {
    const Session* session = table_.find(id);
    if (session == nullptr) return;
    if (events_.size() >= kMaxEvents) {
        events_.pop_front();
        ++events_lost_;
    }
    events_.push_back(event_of(id, *session));
    add_one(events_ready_.get());
}

std::vector<SessionEvent> Runner::Impl::take_events() {
    const std::lock_guard lock(mutex_);
    clear(events_ready_.get());
    std::vector<SessionEvent> taken(events_.begin(), events_.end());
    events_.clear();
    return taken;
}

std::optional<SessionStatus> Runner::Impl::status(SessionId id) {
    const std::lock_guard lock(mutex_);
    const Session* session = table_.find(id);
    if (session == nullptr) return std::nullopt;
    return SessionStatus{event_of(id, *session), session->transmit_interval(), session->detection_time()};
}

RunnerCounters Runner::Impl::counters() {
    const std::lock_guard lock(mutex_);
    return {table_.counters(), sent_, send_failed_, events_lost_};
}

Runner::Runner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Runner::~Runner() = default;

api::Result<std::unique_ptr<Runner>> Runner::create() {
    auto impl = std::make_unique<Impl>();
    if (const auto started = impl->start(); !started) return tl::unexpected(started.error());
    return std::unique_ptr<Runner>(new Runner(std::move(impl)));
}

api::Result<SessionId> Runner::add(const SessionConfig& config) {
    return impl_->add(config);
}
void Runner::remove(SessionId id) {
    impl_->remove(id);
}
void Runner::disable(SessionId id) {
    impl_->change(id, &Session::disable);
}
void Runner::enable(SessionId id) {
    impl_->change(id, &Session::enable);
}
int Runner::event_fd() const noexcept {
    return impl_->event_fd();
}
std::vector<SessionEvent> Runner::take_events() {
    return impl_->take_events();
}
std::optional<SessionStatus> Runner::status(SessionId id) const {
    return impl_->status(id);
}
RunnerCounters Runner::counters() const {
    return impl_->counters();
}

}  // namespace detour::bfd
