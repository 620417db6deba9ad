// The lab's plain listeners: a UDP echo that says who answers, and a TCP port that greets as sshd does.
//
//   netlab-echo --banner TEXT [--udp ADDRESS:PORT …] [--tcp ADDRESS:PORT …]
//
// UDP: each datagram is answered with "TEXT " and its own bytes, from the address it was sent to. TCP: each
// connection is sent "TEXT\r\n", then gets its own bytes back until it closes. One thread, poll(); at most
// kMaxConnections.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kMaxConnections = 64;

enum class Role { kUdp, kListener, kConnection };

struct Endpoint {
    sockaddr_storage address{};
    socklen_t length = 0;
};

/// "1.2.3.4:7" or "[2001:db8::1]:7".
Endpoint parse_endpoint(const std::string& text) {
    Endpoint result;
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos) throw std::invalid_argument("no port in " + text);
    const auto port = htons(static_cast<std::uint16_t>(std::stoul(text.substr(colon + 1))));
    if (text.front() == '[') {
        auto& v6 = reinterpret_cast<sockaddr_in6&>(result.address);
        v6.sin6_family = AF_INET6;
        v6.sin6_port = port;
        result.length = sizeof v6;
        if (inet_pton(AF_INET6, text.substr(1, colon - 2).c_str(), &v6.sin6_addr) == 1) return result;
    } else {
        auto& v4 = reinterpret_cast<sockaddr_in&>(result.address);
        v4.sin_family = AF_INET;
        v4.sin_port = port;
        result.length = sizeof v4;
        if (inet_pton(AF_INET, text.substr(0, colon).c_str(), &v4.sin_addr) == 1) return result;
    }
    throw std::invalid_argument("not an address: " + text);
}

class Server {
  public:
    explicit Server(std::string banner) : banner_(std::move(banner)) {}
    void open(Role role, const std::string& where);
    [[noreturn]] void run();

  private:
    void add(int fd, Role role) {
        polls_.push_back({fd, POLLIN, 0});
        roles_.push_back(role);
    }
    void answer_udp(int fd);
    void accept_tcp(int fd);
    bool echo_tcp(int fd);  // false: the connection has ended

    std::string banner_;
    std::vector<pollfd> polls_;
    std::vector<Role> roles_;  // of the same index in polls_
};

void Server::open(Role role, const std::string& where) {
    const Endpoint endpoint = parse_endpoint(where);
    const int kind = role == Role::kUdp ? SOCK_DGRAM : SOCK_STREAM;
    const int fd = socket(endpoint.address.ss_family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (endpoint.address.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&endpoint.address), endpoint.length) != 0 ||
        (role == Role::kListener && listen(fd, 64) != 0)) {
        throw std::runtime_error(where + ": " + std::strerror(errno));
    }
    add(fd, role);
}

void Server::run() {
    std::printf("ready\n");
    std::fflush(stdout);
    while (true) {
        if (poll(polls_.data(), polls_.size(), -1) < 0) continue;
        for (std::size_t n = polls_.size(); n-- > 0;) {  // backwards: an erase moves only what was looked at
            if (polls_[n].revents == 0) continue;
            const int fd = polls_[n].fd;
            if (roles_[n] == Role::kUdp) answer_udp(fd);
            if (roles_[n] == Role::kListener) accept_tcp(fd);
            if (roles_[n] == Role::kConnection && !echo_tcp(fd)) {
                close(fd);
                polls_.erase(polls_.begin() + static_cast<std::ptrdiff_t>(n));
                roles_.erase(roles_.begin() + static_cast<std::ptrdiff_t>(n));
            }
        }
    }
}

void Server::answer_udp(int fd) {
    std::array<char, 65536> data{};
    Endpoint peer;
    peer.length = sizeof peer.address;
    auto* address = reinterpret_cast<sockaddr*>(&peer.address);
    const ssize_t size = recvfrom(fd, data.data(), data.size(), MSG_DONTWAIT, address, &peer.length);
    if (size < 0) return;
    const std::string answer = banner_ + ' ' + std::string(data.data(), static_cast<std::size_t>(size));
    sendto(fd, answer.data(), answer.size(), MSG_DONTWAIT, address, peer.length);
}

void Server::accept_tcp(int fd) {
    const int connection = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (connection < 0) return;
    if (polls_.size() >= kMaxConnections) {
        close(connection);
        return;
    }
    const std::string greeting = banner_ + "\r\n";
    send(connection, greeting.data(), greeting.size(), MSG_NOSIGNAL);
    add(connection, Role::kConnection);
}

bool Server::echo_tcp(int fd) {
    std::array<char, 16384> data{};
    const ssize_t size = recv(fd, data.data(), data.size(), 0);
    if (size < 0) return errno == EAGAIN;
    return size > 0 && send(fd, data.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL) == size;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        std::string banner = "lab";
        std::vector<std::pair<Role, std::string>> wanted;
        for (int n = 1; n + 1 < argc; n += 2) {
            const std::string_view key = argv[n];
            if (key == "--banner")
                banner = argv[n + 1];
            else if (key == "--udp")
                wanted.emplace_back(Role::kUdp, argv[n + 1]);
            else if (key == "--tcp")
                wanted.emplace_back(Role::kListener, argv[n + 1]);
            else
                throw std::invalid_argument("unknown argument " + std::string(key));
        }
        if (argc % 2 == 0 || wanted.empty()) {
            throw std::invalid_argument(
                "usage: netlab-echo --banner TEXT [--udp ADDRESS:PORT …] [--tcp ADDRESS:PORT …]");
        }
        Server server(banner);
        for (const auto& [role, where] : wanted) server.open(role, where);
        server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "netlab-echo: %s\n", error.what());
        return 2;
    }
}
