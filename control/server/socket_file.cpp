#include "control/server/socket_file.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

namespace detour::control {

namespace {

constexpr int kBacklog = 128;
constexpr mode_t kMode = 0660;

class Descriptor {
  public:
    explicit Descriptor(int value) noexcept : value_(value) {}
    ~Descriptor() {
        if (value_ >= 0) ::close(value_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    [[nodiscard]] int get() const noexcept { return value_; }
    [[nodiscard]] int release() noexcept { return std::exchange(value_, -1); }

  private:
    int value_;
};

tl::unexpected<api::Error> failed(const std::string& path, std::string_view step) {
    return api::fail(api::ErrorCode::kSystem, fmt::format("opening the API socket {}", path),
                     fmt::format("{}: {}", step, std::strerror(errno)));
}

std::optional<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(address.sun_path)) return std::nullopt;
    path.copy(address.sun_path, path.size());
    return address;
}

const sockaddr* plain(const sockaddr_un& address) noexcept {
    return reinterpret_cast<const sockaddr*>(&address);  // NOLINT: what the socket calls take
}

/// True when a process accepts on `path`.
bool is_alive(const sockaddr_un& address) noexcept {
    const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (probe.get() < 0) return false;
    // EAGAIN: its backlog is full, so somebody listens.
    return ::connect(probe.get(), plain(address), sizeof(address)) == 0 || errno == EAGAIN;
}

}  // namespace

api::Result<int> listen_at(const std::string& path) {
    const std::string fresh = fmt::format("{}.{}", path, ::getpid());
    const auto address = address_of(path);
    const auto fresh_address = address_of(fresh);
    if (!address || !fresh_address) {
        return api::fail(api::ErrorCode::kInvalidArgument, "opening the API socket",
                         fmt::format("the path '{}' is empty or longer than {} bytes", path,
                                     sizeof(sockaddr_un::sun_path) - 12));
    }
    struct stat present {};
    if (::lstat(path.c_str(), &present) == 0 && !S_ISSOCK(present.st_mode)) {
        errno = EEXIST;
        return failed(path, "something that is no socket is there");
    }
    if (is_alive(*address)) {
        return api::fail(api::ErrorCode::kUnavailable, fmt::format("opening the API socket {}", path),
                         "another process answers there; is detour-control already running?");
    }
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
    Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (socket.get() < 0) return failed(path, "socket");
    ::unlink(fresh.c_str());
    if (::bind(socket.get(), plain(*fresh_address), sizeof(*fresh_address)) != 0) return failed(path, "bind");
    const bool ready = ::chmod(fresh.c_str(), kMode) == 0 && ::listen(socket.get(), kBacklog) == 0 &&
                       ::rename(fresh.c_str(), path.c_str()) == 0;
    if (!ready) {
        auto error = failed(path, "chmod, listen or rename");
        ::unlink(fresh.c_str());
        return error;
    }
    return socket.release();
}

void remove_socket(const std::string& path, int descriptor) noexcept {
    // A bound socket's name in the file system can't be asked from its descriptor: a successor that replaced
    // the file answers on it, a socket of ours that is no longer listening does not.
    ::shutdown(descriptor, SHUT_RDWR);
    const auto address = address_of(path);
    if (address && !is_alive(*address)) ::unlink(path.c_str());
}

std::string peer_name(int descriptor) {
    ucred peer{};
    socklen_t size = sizeof(peer);
    if (::getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return "unknown";
    return peer.uid == 0 ? "root" : fmt::format("uid {}", peer.uid);
}

}  // namespace detour::control
