// netlab-loadgen: real TCP clients, by the kernel's own stack, against real servers.
//
// Starts new connections at a steady rate, keeps long-lived ones (a third each sending, waiting, downloading;
// idle ones besides) and uploads now and then. Each connection gets a source address and port of its own,
// chosen here, so that what the load balancer would have done with it can be computed afterwards. Each ends
// as one JSON line in
// --out; totals go to stdout as one JSON line every --report ms. SIGTERM: no new connection, those under way
// get kGrace to finish, exit 0.
//
// One thread, one epoll; the timer ticks every 5 ms.
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tools/netlab/loadgen/connection.h"
#include "tools/netlab/loadgen/log.h"
#include "tools/netlab/loadgen/options.h"
#include "tools/netlab/loadgen/sources.h"

namespace {

using namespace detour::netlab;

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kTick = 5 * kMs;
constexpr std::uint64_t kGrace = 3000 * kMs;
constexpr std::uint64_t kRetryPause = 100 * kMs;  // after a refusal; a reset client comes back at once

class Generator {
  public:
    explicit Generator(Options options);
    int run();

  private:
    using Connections = std::unordered_map<std::uint64_t, std::unique_ptr<Connection>>;

    void watch(int fd, std::uint64_t id, std::uint32_t events);
    void start(Kind kind, std::uint32_t slot);
    void end(std::uint64_t id);
    void on_socket(std::uint64_t id);
    void on_timer();
    void start_due(std::uint64_t now);
    void tick_connections(std::uint64_t now);
    [[nodiscard]] bool finished(std::uint64_t now) const;
    [[nodiscard]] Kind kind_of_slot(std::uint32_t slot) const;
    [[nodiscard]] std::size_t answered_idle() const;
    void stop_rest();

    Options options_;
    Log log_;
    Sources sources_;
    Connections connections_;
    std::vector<std::pair<std::uint64_t, std::uint32_t>> retries_;  // when, slot
    int epoll_ = -1;
    int timer_ = -1;
    int signals_ = -1;
    std::uint64_t next_id_ = 1;
    std::uint64_t begin_ = 0;
    std::uint64_t started_new_ = 0;
    std::uint64_t started_uploads_ = 0;
    std::uint64_t next_scan_ = 0;
    std::uint64_t next_report_ = 0;
    std::uint64_t stopping_ = 0;  // since when; 0: not
};

constexpr std::uint64_t kTimer = ~0ULL;
constexpr std::uint64_t kSignals = ~0ULL - 1;

Generator::Generator(Options options)
    : options_(std::move(options)),
      log_(options_.out),
      sources_(options_.source_v4, options_.source_v6, options_.source_count, options_.prefixes) {
    rlimit files{65536, 65536};
    setrlimit(RLIMIT_NOFILE, &files);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    itimerspec every{};
    every.it_value.tv_nsec = every.it_interval.tv_nsec = kTick;
    timerfd_settime(timer_, 0, &every, nullptr);
    watch(timer_, kTimer, EPOLLIN);
    watch(signals_, kSignals, EPOLLIN);
}

void Generator::watch(int fd, std::uint64_t id, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = id;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
        throw std::runtime_error(std::string("epoll_ctl: ") + std::strerror(errno));
    }
}

int Generator::run() {
    begin_ = realtime_ns();
    for (std::uint32_t n = 0; n < options_.long_lived; ++n) {
        retries_.emplace_back(begin_ + n * kTick, n + 1);  // not all in one burst
    }
    for (std::uint64_t n = 0; n < options_.idle; ++n) {
        const std::uint64_t at = begin_ + n * 1'000'000'000U / options_.idle_rate;
        retries_.emplace_back(at, options_.long_lived + static_cast<std::uint32_t>(n) + 1);
    }
    std::array<epoll_event, 256> events{};
    while (!finished(realtime_ns())) {
        const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
        for (int n = 0; n < count; ++n) {
            const std::uint64_t id = events[static_cast<std::size_t>(n)].data.u64;
            if (id == kTimer) {
                on_timer();
            } else if (id == kSignals) {
                signalfd_siginfo info{};
                (void)!read(signals_, &info, sizeof info);
                stopping_ = realtime_ns();
            } else {
                on_socket(id);
            }
        }
    }
    stop_rest();
    return 0;
}

void Generator::on_socket(std::uint64_t id) {
    const auto found = connections_.find(id);
    if (found != connections_.end() && !found->second->on_event()) end(id);
}

Kind Generator::kind_of_slot(std::uint32_t slot) const {
    if (slot > options_.long_lived) return Kind::kIdle;
    constexpr std::array kinds = {Kind::kSending, Kind::kWaiting, Kind::kDownloading};
    return kinds.at(slot % kinds.size());
}

void Generator::start(Kind kind, std::uint32_t slot) {
    Record record;
    record.id = next_id_++;
    record.kind = kind;
    record.slot = slot;
    record.target = options_.targets[record.id % options_.targets.size()];
    record.local = sources_.next(record.target.is_v6());
    const std::uint64_t id = record.id;
    auto connection = std::make_unique<Connection>(options_, record);
    const bool opened = connection->open();
    if (opened) watch(connection->fd(), id, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    connections_.emplace(id, std::move(connection));
    if (!opened) end(id);
}

void Generator::end(std::uint64_t id) {
    const auto found = connections_.find(id);
    const Connection& connection = *found->second;
    log_.write(connection.record(), connection.answer());
    const bool again = connection.long_lived() && stopping_ == 0;
    const bool never = connection.record().connected == 0 && connection.record().result != Result::kTimeout;
    const std::uint32_t slot = connection.record().slot;
    connections_.erase(found);
    if (!again) return;
    if (never) {
        retries_.emplace_back(realtime_ns() + kRetryPause, slot);
    } else {
        start(kind_of_slot(slot), slot);
    }
}

void Generator::on_timer() {
    std::uint64_t expirations = 0;
    (void)!read(timer_, &expirations, sizeof expirations);
    const std::uint64_t now = realtime_ns();
    if (options_.duration_s != 0 && stopping_ == 0 && now > begin_ + options_.duration_s * 1000 * kMs)
        stopping_ = now;
    if (stopping_ == 0) start_due(now);
    tick_connections(now);
    if (now >= next_report_) {
        next_report_ = now + options_.report_ms * kMs;
        log_.report(now, connections_.size(), answered_idle());
        log_.flush();
    }
}

void Generator::start_due(std::uint64_t now) {
    const std::uint64_t due = (now - begin_) * options_.new_rate / 1'000'000'000U;
    for (; started_new_ < due; ++started_new_) start(Kind::kNew, 0);
    if (options_.upload_bytes != 0) {
        const std::uint64_t uploads = (now - begin_) / (options_.upload_every_ms * kMs);
        for (; started_uploads_ < uploads; ++started_uploads_) start(Kind::kUpload, 0);
    }
    const auto ready =
        std::partition(retries_.begin(), retries_.end(), [now](auto& r) { return r.first > now; });
    const std::vector<std::pair<std::uint64_t, std::uint32_t>> now_due(ready, retries_.end());
    retries_.erase(ready, retries_.end());
    for (const auto& retry : now_due) start(kind_of_slot(retry.second), retry.second);
}

/// Senders every tick; deadlines of all every 50 ms are exact enough.
void Generator::tick_connections(std::uint64_t now) {
    const bool all = now >= next_scan_;
    if (all) next_scan_ = now + 50 * kMs;
    if (!all && options_.long_lived == 0) return;
    std::vector<std::uint64_t> over;
    for (auto& [id, connection] : connections_) {
        if ((all || connection->record().kind == Kind::kSending) && !connection->on_tick(now))
            over.push_back(id);
    }
    for (const std::uint64_t id : over) end(id);
}

std::size_t Generator::answered_idle() const {
    if (options_.idle == 0) return 0;
    return static_cast<std::size_t>(
        std::count_if(connections_.begin(), connections_.end(), [](const auto& c) {
            return c.second->record().kind == Kind::kIdle && c.second->record().first != 0;
        }));
}

bool Generator::finished(std::uint64_t now) const {
    if (stopping_ == 0) return false;
    if (now > stopping_ + kGrace) return true;
    for (const auto& [id, connection] : connections_) {
        if (!connection->long_lived()) return false;
    }
    return true;
}

void Generator::stop_rest() {
    for (auto& [id, connection] : connections_) {
        connection->finish(Result::kStopped, 0);
        log_.write(connection->record(), connection->answer());
    }
    connections_.clear();
    log_.report(realtime_ns(), 0, 0);
    log_.flush();
}

}  // namespace

int main(int argc, char** argv) {
    try {
        Generator generator(parse_options(argc, argv));
        return generator.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "netlab-loadgen: %s\n", error.what());
        return 2;
    }
}
