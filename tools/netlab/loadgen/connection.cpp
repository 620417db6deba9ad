#include "tools/netlab/loadgen/connection.h"

#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

namespace detour::netlab {
namespace {

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kMaxOutstanding = 50;

const std::string& filler() {
    static const std::string bytes(64U << 10U, 'u');
    return bytes;
}

std::uint32_t total_retransmits(int fd) {
    tcp_info info{};
    socklen_t length = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.tcpi_total_retrans : 0;
}

}  // namespace

const char* to_string(Kind kind) {
    constexpr std::array names = {"new", "upload", "sending", "waiting", "downloading", "idle"};
    return names.at(static_cast<std::size_t>(kind));
}

const char* to_string(Result result) {
    constexpr std::array names = {"open", "ok", "reset", "refused", "timeout", "closed", "error", "stopped"};
    return names.at(static_cast<std::size_t>(result));
}

std::uint64_t realtime_ns() {
    timespec t{};
    clock_gettime(CLOCK_REALTIME, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
}

Connection::~Connection() {
    if (fd_ >= 0) close(fd_);
}

bool Connection::open() {
    fd_ = socket(record_.target.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    record_.start = realtime_ns();
    if (fd_ < 0) return fail(errno);
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (record_.local.length != 0 &&
        bind(fd_, reinterpret_cast<const sockaddr*>(&record_.local.address), record_.local.length) != 0) {
        return fail(errno);
    }
    record_.start = realtime_ns();
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&record_.target.address), record_.target.length) !=
            0 &&
        errno != EINPROGRESS) {
        return fail(errno);
    }
    if (record_.local.length == 0) {
        record_.local.length = sizeof record_.local.address;
        getsockname(fd_, reinterpret_cast<sockaddr*>(&record_.local.address), &record_.local.length);
    }
    return true;
}

bool Connection::on_event() {
    if (record_.connected == 0) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error != 0) return fail(error);
        Endpoint peer;
        peer.length = sizeof peer.address;
        if (getpeername(fd_, reinterpret_cast<sockaddr*>(&peer.address), &peer.length) != 0)
            return true;  // not yet
        if (!on_connected()) return false;
    }
    return flush() && read_all();
}

bool Connection::on_connected() {
    record_.connected = realtime_ns();
    record_.syn_retries = total_retransmits(fd_);
    const std::string host = "Host: lab\r\n";
    if (record_.kind == Kind::kNew) return request("GET / HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n");
    if (record_.kind != Kind::kUpload) return request("GET / HTTP/1.1\r\n" + host + "\r\n");
    body_left_ = options_.upload_bytes;
    return request("POST /upload HTTP/1.1\r\n" + host +
                   "Connection: close\r\nContent-Length: " + std::to_string(body_left_) + "\r\n\r\n");
}

bool Connection::request(const std::string& text) {
    if (outstanding_++ == 0) oldest_ = realtime_ns();
    ++record_.requests;
    unsent_ += text;
    return flush();
}

bool Connection::flush() {
    while (!unsent_.empty() || body_left_ != 0) {
        const bool head = !unsent_.empty();
        const char* data = head ? unsent_.data() : filler().data();
        const std::size_t size = head ? unsent_.size() : std::min<std::size_t>(body_left_, filler().size());
        const ssize_t sent = send(fd_, data, size, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN ? true : fail(errno);
        record_.bytes_out += static_cast<std::uint64_t>(sent);
        if (head) {
            unsent_.erase(0, static_cast<std::size_t>(sent));
        } else {
            body_left_ -= static_cast<std::uint64_t>(sent);
        }
    }
    return true;
}

bool Connection::read_all() {
    std::array<char, 16384> data{};
    while (true) {
        const ssize_t size = recv(fd_, data.data(), data.size(), 0);
        if (size < 0) return errno == EAGAIN ? true : fail(errno);
        if (size == 0) return on_closed();
        const std::uint64_t now = realtime_ns();
        if (record_.first == 0) record_.first = now;
        record_.last_in = now;
        record_.bytes_in += static_cast<std::uint64_t>(size);
        if (!on_answers(answer_.feed({data.data(), static_cast<std::size_t>(size)}), now)) return false;
        if (answer_.broken()) return fail(EPROTO);
    }
}

bool Connection::on_answers(std::uint32_t count, std::uint64_t now) {
    if (count == 0) return true;
    record_.longest_wait = std::max(record_.longest_wait, now - oldest_);
    outstanding_ -= std::min<std::uint64_t>(count, outstanding_);
    oldest_ = now;
    if (!long_lived()) return true;
    if (record_.kind == Kind::kSending) {
        if (next_send_ == 0) next_send_ = now + options_.send_every_ms * kMs;
        return true;
    }
    if (record_.kind == Kind::kIdle) return true;
    const char* path = record_.kind == Kind::kWaiting ? "/wait" : "/stream";
    return request(std::string("GET ") + path + " HTTP/1.1\r\nHost: lab\r\n\r\n");
}

bool Connection::on_closed() {
    const bool whole = !long_lived() && answer_.complete_at_end() && answer_.status() / 100 == 2;
    finish(whole ? Result::kOk : Result::kClosed, 0);
    return false;
}

bool Connection::on_tick(std::uint64_t now) {
    if (overdue(now)) {
        finish(Result::kTimeout, 0);
        return false;
    }
    if (record_.kind == Kind::kSending && next_send_ != 0 && now >= next_send_ &&
        outstanding_ < kMaxOutstanding) {
        next_send_ = std::max(next_send_ + options_.send_every_ms * kMs, now);
        return request("GET / HTTP/1.1\r\nHost: lab\r\n\r\n");
    }
    return true;
}

bool Connection::overdue(std::uint64_t now) const {
    if (record_.connected == 0) return now > record_.start + options_.connect_timeout_ms * kMs;
    const std::uint64_t idle = options_.idle_timeout_ms * kMs;
    switch (record_.kind) {
        case Kind::kNew:
            return now > record_.start + options_.answer_timeout_ms * kMs;
        case Kind::kUpload:
            return now > record_.start + options_.answer_timeout_ms * kMs * 3;
        case Kind::kSending:
            return outstanding_ > 0 && now > oldest_ + idle;
        case Kind::kWaiting:  // its first answer is due; later ones may take their time, but not for ever
            return now >
                   std::max(record_.connected, record_.last_in) + idle * (answer_.answers() == 0 ? 1 : 4);
        case Kind::kIdle:  // its answer is due, and nothing after it
            return answer_.answers() == 0 && now > record_.connected + idle;
        case Kind::kDownloading:
            return now > std::max(record_.connected, record_.last_in) + idle;
    }
    return false;
}

bool Connection::fail(int error) {
    const bool connecting = record_.connected == 0;
    Result result = Result::kError;
    if (error == ECONNREFUSED) result = Result::kRefused;
    if (error == ECONNRESET || error == EPIPE) result = connecting ? Result::kRefused : Result::kReset;
    if (error == ETIMEDOUT) result = Result::kTimeout;
    finish(result, error);
    return false;
}

void Connection::finish(Result result, int error) {
    record_.done = realtime_ns();
    record_.result = result;
    record_.error = error;
    if (fd_ < 0) return;
    record_.retransmits = total_retransmits(fd_);
    if (result != Result::kOk) {
        const linger abort{1, 0};
        setsockopt(fd_, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    }
    close(fd_);
    fd_ = -1;
}

}  // namespace detour::netlab
