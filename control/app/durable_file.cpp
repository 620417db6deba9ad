#include "control/app/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>

namespace detour::app {

namespace {

class Descriptor {
  public:
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    [[nodiscard]] int get() const { return fd_; }
    /// Closes now; close() may report a write that failed late.
    [[nodiscard]] bool close() {
        const int result = ::close(fd_);
        fd_ = -1;
        return result == 0;
    }

  private:
    int fd_;
};

tl::unexpected<api::Error> failed(std::string_view call, const std::string& path) {
    const int error = errno;
    const api::ErrorCode code = error == ENOENT ? api::ErrorCode::kNotFound : api::ErrorCode::kSystem;
    return api::fail(code, std::string(call) + " " + path, std::generic_category().message(error));
}

bool write_all(int fd, std::string_view content) {
    while (!content.empty()) {
        const ssize_t written = ::write(fd, content.data(), content.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        content.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

std::string folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

api::Result<void> as_system(tl::unexpected<api::Error> error) {
    error.value().code = api::ErrorCode::kSystem;
    return error;
}

}  // namespace

api::Result<void> write_durably(const std::string& path, std::string_view content) {
    const std::string temporary = path + ".tmp";
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (file.get() < 0) return as_system(failed("opening", temporary));
    if (!write_all(file.get(), content)) return as_system(failed("writing", temporary));
    if (::fsync(file.get()) != 0) return as_system(failed("syncing", temporary));
    if (!file.close()) return as_system(failed("closing", temporary));
    if (std::rename(temporary.c_str(), path.c_str()) != 0) return as_system(failed("renaming to", path));
    return sync_folder(folder_of(path));
}

api::Result<void> remove_durably(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return as_system(failed("removing", path));
    return sync_folder(folder_of(path));
}

api::Result<void> sync_folder(const std::string& folder) {
    const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.get() < 0) return as_system(failed("opening", folder));
    if (::fsync(directory.get()) != 0) return as_system(failed("syncing", folder));
    return {};
}

api::Result<std::string> read_file(const std::string& path) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) return failed("opening", path);
    std::string content;
    std::array<char, 65536> part{};
    while (true) {
        const ssize_t got = ::read(file.get(), part.data(), part.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return failed("reading", path);
        if (got == 0) return content;
        content.append(part.data(), static_cast<std::size_t>(got));
    }
}

}  // namespace detour::app
