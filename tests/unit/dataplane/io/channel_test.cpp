#include "dataplane/io/channel.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>

#include "dataplane.pb.h"
#include "dataplane/api/framing.h"
#include "tests/unit/dataplane/io/fake_fast_path.h"

namespace detour::io {
namespace {

constexpr int kDeadlineMs = 20'000;

struct Bench {
    std::string path = "/tmp/detour-channel-" + std::to_string(::getpid()) + ".sock";
    FakeFastPath fast_path;
    RequestHandler handler{fast_path};
    std::unique_ptr<Channel> channel = *Channel::open(path, handler);
};

// A client that waits for what it expects, never for a time.
class Client {
  public:
    explicit Client(const std::string& path) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
        REQUIRE(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    }
    void send(std::string_view bytes) const {
        REQUIRE(::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
                static_cast<ssize_t>(bytes.size()));
    }
    void ask(std::uint64_t id) const {
        wire::Request request;
        request.set_id(id);
        // Odd ones go to the building thread, even ones are answered at once.
        if (id % 2 == 1) {
            request.mutable_hello();
        } else {
            request.mutable_get_stats();
        }
        send(api::frame(request.SerializeAsString()));
    }
    /// Nullopt at the end of the stream.
    std::optional<wire::Reply> reply() {
        for (;;) {
            auto next = reader_.next();
            REQUIRE(next.has_value());
            if (*next) {
                wire::Reply reply;
                REQUIRE(reply.ParseFromString(**next));
                return reply;
            }
            if (!read_more()) return std::nullopt;
        }
    }
    [[nodiscard]] int fd() const { return socket_.get(); }

  private:
    bool read_more() {
        pollfd polled{socket_.get(), POLLIN, 0};
        REQUIRE(::poll(&polled, 1, kDeadlineMs) == 1);
        std::array<char, 4096> chunk;
        const ssize_t got = ::recv(socket_.get(), chunk.data(), chunk.size(), 0);
        if (got > 0) reader_.feed({chunk.data(), static_cast<std::size_t>(got)});
        return got > 0;
    }
    Descriptor socket_;
    api::FrameReader reader_;
};

TEST_CASE("replies come in the order of the requests, whichever thread answers them") {
    const Bench bench;
    Client client(bench.path);
    constexpr std::uint64_t kRequests = 200;
    for (std::uint64_t id = 1; id <= kRequests; ++id) client.ask(id);
    for (std::uint64_t id = 1; id <= kRequests; ++id) {
        const auto reply = client.reply();
        REQUIRE(reply.has_value());
        CHECK(reply->id() == id);
        CHECK(reply->has_hello() == (id % 2 == 1));
    }
}

TEST_CASE("a client that closes its sending side still gets all its replies") {
    const Bench bench;
    Client client(bench.path);
    for (std::uint64_t id = 1; id <= 40; ++id) client.ask(id);
    REQUIRE(::shutdown(client.fd(), SHUT_WR) == 0);
    for (std::uint64_t id = 1; id <= 40; ++id) CHECK(client.reply()->id() == id);
    CHECK_FALSE(client.reply().has_value());
}

TEST_CASE("garbage is answered or cut off, and harms no other client") {
    const Bench bench;
    Client honest(bench.path);
    const std::string rows[] = {
        api::frame("\xff\xff\xff not protobuf"),
        std::string("\xff\xff\xff\xff", 4),      // a length beyond all bounds
        std::string("\x00\x00\x00\x09half", 8),  // cut off in the middle
    };
    for (const std::string& bytes : rows) {
        Client stranger(bench.path);
        stranger.send(bytes);
        REQUIRE(::shutdown(stranger.fd(), SHUT_WR) == 0);
        while (const auto reply = stranger.reply()) CHECK(reply->has_failure());
        honest.ask(2);
        CHECK(honest.reply()->has_stats());
    }
}

TEST_CASE("an empty message is a request for nothing") {
    const Bench bench;
    Client client(bench.path);
    client.send(api::frame(""));
    CHECK(client.reply()->has_failure());
    client.ask(2);
    CHECK(client.reply()->has_stats());
}

TEST_CASE("8 clients are served, the ninth is closed") {
    const Bench bench;
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 8; ++i) {
        clients.push_back(std::make_unique<Client>(bench.path));
        clients.back()->ask(2);
        CHECK(clients.back()->reply()->has_stats());
    }
    Client ninth(bench.path);
    CHECK_FALSE(ninth.reply().has_value());
    clients[0]->ask(4);
    CHECK(clients[0]->reply()->id() == 4);
}

TEST_CASE("the socket is its owner's alone, a stale one is replaced, a live one is not") {
    const std::string path = "/tmp/detour-stale-" + std::to_string(::getpid()) + ".sock";
    {
        const Descriptor stale(::socket(AF_UNIX, SOCK_STREAM, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
        REQUIRE(::bind(stale.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    }
    FakeFastPath fast_path;
    RequestHandler handler(fast_path);
    {
        const auto channel = Channel::open(path, handler);
        REQUIRE(channel.has_value());
        struct stat status {};
        REQUIRE(::stat(path.c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0600);
        const auto second = Channel::open(path, handler);
        REQUIRE_FALSE(second.has_value());
        CHECK(second.error().code == api::ErrorCode::kRefused);
    }
    CHECK(::access(path.c_str(), F_OK) != 0);
}

}  // namespace
}  // namespace detour::io
