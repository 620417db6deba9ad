// The lab's wire with a length: joins pairs of interfaces and gives each frame a delay, or loses it.
//
// The kernel of a test machine may have no netem. This reads every frame that arrives on one interface of a
// pair (AF_PACKET, all protocols, byte-exact) and sends it on the other one `delay` later. Frames keep their
// order; the queue of each direction is bounded and drops at its end, counted. One thread, one epoll, one
// timer; frames are received and sent in batches. Frames that are due within kSlack go out together, so that
// load does not mean one wake-up a frame.
//
// Control: text datagrams on a Unix socket, answered to the sender if it is bound to a name:
//   delay DIRECTION MICROSECONDS     DIRECTION: an interface's name (frames that arrive there) or "all"
//   loss DIRECTION PARTS             of 10,000
//   stats                            one line a direction: name, received, sent, lost, overflowed, queued
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::uint64_t kNever = ~0ULL;
constexpr std::uint64_t kSlack = 200'000;  // ns
constexpr std::size_t kBatch = 64;
constexpr std::size_t kHeader = 18;  // Ethernet with one VLAN tag

struct Options {
    std::string control;
    std::uint64_t delay_ns = 0;
    std::size_t mtu = 1500;
    std::size_t queue = 16384;
    std::vector<std::string> interfaces;  // neighbours 2n and 2n+1 are a pair
};

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
}

std::uint64_t now_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
}

/// xorshift64*: losses need no better randomness, and a fixed seed makes a run repeatable.
class Random {
  public:
    std::uint32_t below(std::uint32_t limit) {
        state_ ^= state_ >> 12U;
        state_ ^= state_ << 25U;
        state_ ^= state_ >> 27U;
        return static_cast<std::uint32_t>(((state_ * 0x2545F4914F6CDD1DULL) >> 32U) % limit);
    }

  private:
    std::uint64_t state_ = 0x9E3779B97F4A7C15ULL;
};

/// Frames on their way in one direction: a ring of fixed slots, all memory taken at start.
class Queue {
  public:
    Queue(std::size_t slots, std::size_t frame_size)
        : slots_(slots),
          frame_size_(frame_size),
          bytes_(new std::uint8_t[slots * frame_size]),
          meta_(slots) {}

    [[nodiscard]] bool empty() const { return head_ == tail_; }
    [[nodiscard]] std::size_t size() const { return tail_ - head_; }
    [[nodiscard]] bool full() const { return size() == slots_; }
    [[nodiscard]] std::uint64_t due() const { return empty() ? kNever : meta_[head_ % slots_].due; }
    [[nodiscard]] std::uint64_t due_at(std::size_t n) const { return meta_[(head_ + n) % slots_].due; }
    [[nodiscard]] std::size_t length_at(std::size_t n) const { return meta_[(head_ + n) % slots_].length; }
    [[nodiscard]] std::uint8_t* frame_at(std::size_t n) {
        return &bytes_[((head_ + n) % slots_) * frame_size_];
    }

    void push(const std::uint8_t* frame, std::size_t length, std::uint64_t due) {
        std::memcpy(&bytes_[(tail_ % slots_) * frame_size_], frame, length);
        meta_[tail_ % slots_] = {due, length};
        ++tail_;
    }
    void pop(std::size_t count) { head_ += count; }

  private:
    struct Meta {
        std::uint64_t due = 0;
        std::size_t length = 0;
    };
    std::size_t slots_;
    std::size_t frame_size_;
    std::size_t head_ = 0;
    std::size_t tail_ = 0;
    std::unique_ptr<std::uint8_t[]> bytes_;  // untouched pages cost nothing
    std::vector<Meta> meta_;
};

int open_interface(const std::string& name) {
    const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("packet socket");
    const int on = 1;
    if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0)
        fail("PACKET_IGNORE_OUTGOING");
    const int room = 8 << 20U;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(if_nametoindex(name.c_str()));
    if (address.sll_ifindex == 0) fail("interface " + name);
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("bind to " + name);
    packet_mreq promiscuous{};
    promiscuous.mr_ifindex = address.sll_ifindex;
    promiscuous.mr_type = PACKET_MR_PROMISC;
    if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) != 0)
        fail("promiscuous " + name);
    return fd;
}

/// One direction: what arrives on `in` leaves on `out`.
struct Direction {
    std::string name;
    int in = -1;
    int out = -1;
    std::uint64_t delay = 0;
    std::uint32_t loss = 0;  // of 10,000
    Queue queue;
    std::uint64_t received = 0;
    std::uint64_t sent = 0;
    std::uint64_t lost = 0;
    std::uint64_t overflowed = 0;

    Direction(std::string interface, const Options& options)
        : name(std::move(interface)), delay(options.delay_ns), queue(options.queue, options.mtu + kHeader) {}
};

class Relay {
  public:
    explicit Relay(const Options& options);
    int run();

  private:
    void watch(int fd, std::uint32_t index);
    void receive(Direction& direction);
    void take(Direction& direction, const std::uint8_t* frame, std::size_t length, std::uint64_t now);
    void send_due(Direction& direction, std::uint64_t now);
    void arm();
    void control();
    std::string obey(const std::string& text);

    std::size_t frame_size_;
    std::vector<std::unique_ptr<Direction>> directions_;
    std::vector<std::uint8_t> scratch_;
    Random random_;
    int epoll_ = -1;
    int timer_ = -1;
    int control_ = -1;
    int signals_ = -1;
    std::uint64_t armed_ = kNever;
};

constexpr std::uint32_t kTimer = 1'000'000;
constexpr std::uint32_t kControl = 1'000'001;
constexpr std::uint32_t kSignals = 1'000'002;

int open_control(const std::string& path) {
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (fd < 0 || path.size() >= sizeof address.sun_path) fail("control socket " + path);
    path.copy(address.sun_path, path.size());
    unlink(path.c_str());
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("bind to " + path);
    return fd;
}

Relay::Relay(const Options& options)
    : frame_size_(options.mtu + kHeader), scratch_(kBatch * (frame_size_ + 1)) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    signals_ = signalfd(-1, &set, SFD_CLOEXEC);
    for (const std::string& name : options.interfaces) {
        directions_.push_back(std::make_unique<Direction>(name, options));
        directions_.back()->in = open_interface(name);
    }
    for (std::size_t n = 0; n < directions_.size(); ++n) {
        directions_[n]->out = directions_[n ^ 1U]->in;
        watch(directions_[n]->in, static_cast<std::uint32_t>(n));
    }
    control_ = open_control(options.control);
    watch(timer_, kTimer);
    watch(control_, kControl);
    watch(signals_, kSignals);
}

void Relay::watch(int fd, std::uint32_t index) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = index;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

int Relay::run() {
    std::printf("ready\n");
    std::fflush(stdout);
    std::array<epoll_event, 16> events{};
    while (true) {
        const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int n = 0; n < count; ++n) {
            const std::uint32_t index = events[static_cast<std::size_t>(n)].data.u32;
            if (index < directions_.size()) receive(*directions_[index]);
            if (index == kControl) control();
            if (index == kSignals) return 0;
        }
        const std::uint64_t now = now_ns();
        for (auto& direction : directions_) send_due(*direction, now);
        arm();
    }
}

void Relay::receive(Direction& direction) {
    std::array<mmsghdr, kBatch> messages{};
    std::array<iovec, kBatch> parts{};
    const std::size_t stride = frame_size_ + 1;  // one byte more, so that a frame too long shows
    for (std::size_t n = 0; n < kBatch; ++n) {
        parts[n] = {&scratch_[n * stride], stride};
        messages[n].msg_hdr.msg_iov = &parts[n];
        messages[n].msg_hdr.msg_iovlen = 1;
    }
    for (int round = 0; round < 4; ++round) {  // then the other direction's turn
        const int count = recvmmsg(direction.in, messages.data(), kBatch, MSG_DONTWAIT, nullptr);
        if (count <= 0) return;
        const std::uint64_t now = now_ns();
        for (std::size_t n = 0; n < static_cast<std::size_t>(count); ++n) {
            take(direction, static_cast<std::uint8_t*>(parts[n].iov_base), messages[n].msg_len, now);
        }
        if (static_cast<std::size_t>(count) < kBatch) return;
    }
}

void Relay::take(Direction& direction, const std::uint8_t* frame, std::size_t length, std::uint64_t now) {
    ++direction.received;
    if (direction.loss != 0 && random_.below(10'000) < direction.loss) {
        ++direction.lost;
    } else if (length > frame_size_ || direction.queue.full()) {
        ++direction.overflowed;
    } else {
        direction.queue.push(frame, length, now + direction.delay);
    }
}

void Relay::send_due(Direction& direction, std::uint64_t now) {
    std::array<mmsghdr, kBatch> messages{};
    std::array<iovec, kBatch> parts{};
    while (direction.queue.due() <= now + kSlack) {
        std::size_t count = 0;
        while (count < kBatch && count < direction.queue.size() &&
               direction.queue.due_at(count) <= now + kSlack) {
            parts[count] = {direction.queue.frame_at(count), direction.queue.length_at(count)};
            messages[count].msg_hdr.msg_iov = &parts[count];
            messages[count].msg_hdr.msg_iovlen = 1;
            ++count;
        }
        const int sent = sendmmsg(direction.out, messages.data(), static_cast<unsigned>(count), MSG_DONTWAIT);
        // What the kernel does not take now is lost, as on a wire: waiting would delay everything behind it.
        direction.queue.pop(sent > 0 ? static_cast<std::size_t>(sent) : 1);
        direction.sent += sent > 0 ? static_cast<std::uint64_t>(sent) : 0;
        direction.overflowed += sent > 0 ? 0 : 1;
    }
}

void Relay::arm() {
    std::uint64_t next = kNever;
    for (auto& direction : directions_) next = std::min(next, direction->queue.due());
    std::uint64_t expirations = 0;
    if (read(timer_, &expirations, sizeof expirations) > 0) armed_ = kNever;
    if (next == armed_) return;
    armed_ = next;
    itimerspec when{};
    if (next != kNever) {
        when.it_value.tv_sec = static_cast<time_t>(next / 1'000'000'000U);
        when.it_value.tv_nsec = static_cast<long>(next % 1'000'000'000U);
    }
    if (timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr) != 0) fail("timerfd_settime");
}

void Relay::control() {
    std::array<char, 256> text{};
    sockaddr_un peer{};
    socklen_t length = sizeof peer;
    const ssize_t size = recvfrom(control_, text.data(), text.size(), MSG_DONTWAIT,
                                  reinterpret_cast<sockaddr*>(&peer), &length);
    if (size <= 0) return;
    const std::string answer = obey(std::string(text.data(), static_cast<std::size_t>(size)));
    if (length > sizeof(sa_family_t)) {
        sendto(control_, answer.data(), answer.size(), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&peer),
               length);
    }
}

std::string Relay::obey(const std::string& text) {
    std::istringstream words(text);
    std::string verb;
    std::string name;
    std::uint64_t value = 0;
    words >> verb;
    std::ostringstream answer;
    if (verb == "stats") {
        for (const auto& d : directions_) {
            answer << d->name << ' ' << d->received << ' ' << d->sent << ' ' << d->lost << ' '
                   << d->overflowed << ' ' << d->queue.size() << '\n';
        }
        return answer.str();
    }
    if (!(words >> name >> value) || (verb != "delay" && verb != "loss"))
        return "error: not understood: " + text + "\n";
    int hits = 0;
    for (auto& d : directions_) {
        if (name != "all" && name != d->name) continue;
        ++hits;
        if (verb == "delay") d->delay = std::min<std::uint64_t>(value, 10'000'000) * 1000;
        if (verb == "loss") d->loss = static_cast<std::uint32_t>(std::min<std::uint64_t>(value, 10'000));
    }
    return hits > 0 ? "ok\n" : "error: no such interface: " + name + "\n";
}

Options parse(int argc, char** argv) {
    Options options;
    for (int n = 1; n + 1 < argc; n += 2) {
        const std::string_view key = argv[n];
        const std::string value = argv[n + 1];
        const std::size_t colon = value.find(':');
        if (key == "--control")
            options.control = value;
        else if (key == "--delay-us")
            options.delay_ns = std::stoull(value) * 1000;
        else if (key == "--mtu")
            options.mtu = std::stoul(value);
        else if (key == "--queue")
            options.queue = std::stoul(value);
        else if (key == "--pair" && colon != std::string::npos) {
            options.interfaces.push_back(value.substr(0, colon));
            options.interfaces.push_back(value.substr(colon + 1));
        } else
            throw std::invalid_argument("unknown argument " + std::string(key) + " " + value);
    }
    if (argc % 2 == 0 || options.control.empty() || options.interfaces.empty()) {
        throw std::invalid_argument(
            "usage: netlab-relay --control SOCKET --pair IFACE:IFACE [--pair …] [--delay-us N] [--mtu N] "
            "[--queue FRAMES]");
    }
    return options;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        Relay relay(parse(argc, argv));
        return relay.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "netlab-relay: %s\n", error.what());
        return 2;
    }
}
