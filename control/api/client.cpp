#include "control/api/client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cerrno>
#include <cstring>
#include <thread>

#include "control/api/json.h"

namespace detour::control {

namespace {

namespace http = boost::beast::http;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::uint64_t kMaxReplyBytes = 256U << 20U;

ApiError timed_out(const std::string& doing) {
    return {api::ErrorCode::kTimeout, doing, "the control process did not answer in time"};
}

/// One connection with a deadline.
class Connection {
  public:
    Connection(std::string doing, Clock::time_point deadline)
        : doing_(std::move(doing)), deadline_(deadline) {}
    ~Connection() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    void set_deadline(Clock::time_point deadline) { deadline_ = deadline; }
    [[nodiscard]] Outcome<void> open(const std::string& path);
    /// Ends early, without error, when the server has stopped reading: its reply says why.
    [[nodiscard]] Outcome<void> send(std::string_view bytes);
    /// Empty: the server closed.
    [[nodiscard]] Outcome<std::string_view> receive();
    [[nodiscard]] ApiError broken(std::string what) const {
        return {api::ErrorCode::kSystem, doing_, std::move(what)};
    }

  private:
    [[nodiscard]] Outcome<void> wait(short events) const;

    std::string doing_;
    Clock::time_point deadline_;
    int descriptor_ = -1;
    std::array<char, 65536> buffer_{};
};

ApiError not_there(const std::string& path) {
    const int reason = errno;
    ApiError error(api::ErrorCode::kUnavailable, "connecting to " + path, std::strerror(reason));
    if (reason == EACCES || reason == EPERM) {
        error.details = {"Run it as root, or as a member of the socket's group."};
    } else {
        error.details = {"The control process is not running here, or uses another socket (--socket PATH).",
                         "Start it:  systemctl start detour-control   or   detour-control --config "
                         "/etc/detour/detour.toml",
                         "The fast path forwards on meanwhile, as it was told last."};
    }
    return error;
}

Outcome<void> Connection::open(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
        return tl::unexpected(ApiError(api::ErrorCode::kInvalidArgument, "connecting to " + path,
                                       "the path is too long for a socket"));
    }
    path.copy(address.sun_path, path.size());
    descriptor_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor_ < 0) return tl::unexpected(broken(std::strerror(errno)));
    const auto* plain = reinterpret_cast<const sockaddr*>(&address);  // NOLINT: what the call takes
    while (::connect(descriptor_, plain, sizeof(address)) != 0) {
        if (errno != EAGAIN && errno != EINTR) return tl::unexpected(not_there(path));
        // The backlog is full, and a Unix socket offers no event for the moment when it isn't.
        if (Clock::now() >= deadline_) return tl::unexpected(timed_out(doing_));
        std::this_thread::sleep_for(milliseconds(10));
    }
    return {};
}

Outcome<void> Connection::wait(short events) const {
    while (true) {
        const auto left = std::chrono::ceil<milliseconds>(deadline_ - Clock::now()).count();
        if (left <= 0) return tl::unexpected(timed_out(doing_));
        pollfd waited{descriptor_, events, 0};
        const int ready = ::poll(&waited, 1, static_cast<int>(std::min<std::int64_t>(left, 1'000'000)));
        if (ready > 0) return {};
        if (ready < 0 && errno != EINTR) return tl::unexpected(broken(std::strerror(errno)));
    }
}

Outcome<void> Connection::send(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent > 0) {
            bytes.remove_prefix(static_cast<std::size_t>(sent));
            continue;
        }
        if (errno == EPIPE || errno == ECONNRESET) return {};
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return tl::unexpected(broken(std::strerror(errno)));
        if (auto ready = wait(POLLOUT); !ready) return ready;
    }
    return {};
}

Outcome<std::string_view> Connection::receive() {
    while (true) {
        const ssize_t got = ::recv(descriptor_, buffer_.data(), buffer_.size(), 0);
        if (got >= 0) return std::string_view(buffer_.data(), static_cast<std::size_t>(got));
        if (errno == ECONNRESET) return std::string_view{};
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return tl::unexpected(broken(std::strerror(errno)));
        if (auto ready = wait(POLLIN); !ready) return tl::unexpected(ready.error());
    }
}

using Parser = http::response_parser<http::string_body>;

/// Gives `bytes` to the parser; `rest` keeps what it did not take. Error: not HTTP.
Outcome<void> feed(Parser& parser, std::string& rest, std::string_view bytes, const Connection& connection) {
    rest += bytes;
    while (!rest.empty() && !parser.is_done()) {
        boost::system::error_code error;
        const std::size_t taken = parser.put(boost::asio::const_buffer(rest.data(), rest.size()), error);
        rest.erase(0, taken);
        if (error == http::error::need_more) return {};
        if (error) return tl::unexpected(connection.broken("the answer is not HTTP: " + error.message()));
        if (taken == 0) return {};
    }
    return {};
}

/// Reads until `enough`, or to the reply's end.
Outcome<void> read_until(Connection& connection, Parser& parser, std::string& rest,
                         const std::function<bool()>& enough) {
    while (!parser.is_done() && !enough()) {
        auto bytes = connection.receive();
        if (!bytes) return tl::unexpected(bytes.error());
        if (bytes->empty()) {
            boost::system::error_code error;
            if (parser.got_some()) parser.put_eof(error);
            if (error || !parser.is_done()) {
                return tl::unexpected(connection.broken("the control process closed the connection"));
            }
            return {};
        }
        if (auto fed = feed(parser, rest, *bytes, connection); !fed) return fed;
    }
    return {};
}

ApiError server_error(unsigned status, const std::string& body, const std::string& doing) {
    auto error = from_json<ApiError>(body);
    if (error) return *error;
    return {api::ErrorCode::kSystem, doing, fmt::format("HTTP status {}", status)};
}

std::string request_text(std::string_view method, const std::string& target, std::string_view body) {
    std::string text = fmt::format(
        "{} {} HTTP/1.1\r\nHost: detour\r\nUser-Agent: lbctl\r\nConnection: close\r\n", method, target);
    if (method == "POST") {
        text += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
    }
    text += "\r\n";
    return text.append(body);
}

Outcome<std::string> exchange(const std::string& path, const std::string& doing, std::string_view request,
                              milliseconds deadline) {
    Connection connection(doing, Clock::now() + deadline);
    if (auto opened = connection.open(path); !opened) return tl::unexpected(opened.error());
    if (auto sent = connection.send(request); !sent) return tl::unexpected(sent.error());
    Parser parser;
    parser.eager(true);
    parser.body_limit(kMaxReplyBytes);
    std::string rest;
    auto read = read_until(connection, parser, rest, [] { return false; });
    if (!read) return tl::unexpected(read.error());
    const unsigned status = parser.get().result_int();
    if (status != 200) return tl::unexpected(server_error(status, parser.get().body(), doing));
    return std::move(parser.get().body());
}

/// Hands on the whole lines of `text` and removes them. False: no more is wanted.
bool hand_on(std::string& text, const std::function<bool(std::string_view)>& on_line) {
    std::size_t begin = 0;
    bool wanted = true;
    for (std::size_t end = text.find('\n'); wanted && end != std::string::npos;
         end = text.find('\n', begin)) {
        wanted = on_line(std::string_view(text).substr(begin, end - begin));
        begin = end + 1;
    }
    text.erase(0, begin);
    return wanted;
}

}  // namespace

Outcome<std::string> Client::get(const std::string& target, milliseconds deadline) const {
    return exchange(path_, "GET " + target, request_text("GET", target, ""), deadline);
}

Outcome<std::string> Client::post(const std::string& target, std::string_view body,
                                  milliseconds deadline) const {
    return exchange(path_, "POST " + target, request_text("POST", target, body), deadline);
}

Outcome<void> Client::stream(const std::string& target, milliseconds silence,
                             const std::function<bool(std::string_view)>& on_line) const {
    Connection connection("GET " + target, Clock::now() + silence);
    if (auto opened = connection.open(path_); !opened) return opened;
    if (auto sent = connection.send(request_text("GET", target, "")); !sent) return sent;
    Parser parser;
    parser.eager(true);
    parser.body_limit(boost::none);
    std::string rest;
    std::string lines;
    while (!parser.is_done()) {
        auto read = read_until(connection, parser, rest, [&parser] { return !parser.get().body().empty(); });
        if (!read) return read;
        const unsigned status = parser.get().result_int();
        if (status != 200) {
            read = read_until(connection, parser, rest, [] { return false; });
            return tl::unexpected(server_error(status, parser.get().body(), "GET " + target));
        }
        lines += parser.get().body();
        parser.get().body().clear();
        if (!hand_on(lines, on_line)) return {};
        connection.set_deadline(Clock::now() + silence);
    }
    return {};
}

std::string percent_encoded(std::string_view text) {
    constexpr std::string_view kPlain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/@";
    std::string result;
    for (const char c : text) {
        if (kPlain.find(c) != std::string_view::npos) {
            result += c;
        } else {
            result += fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
        }
    }
    return result;
}

}  // namespace detour::control
