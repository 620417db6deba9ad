#include "control/app/config_watch.h"

#include <sys/inotify.h>

#include <boost/asio/buffer.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace detour::app {

namespace {

namespace fs = std::filesystem;
constexpr std::uint32_t kEvents =
    IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR;

}  // namespace

ConfigWatch::ConfigWatch(boost::asio::io_context& io, std::string path, std::function<void()> changed)
    : path_(std::move(path)), changed_(std::move(changed)), descriptor_(io), quiet_(io) {
    std::error_code ignored;
    if (fs::is_directory(path_, ignored)) {
        folder_ = path_;
        return;
    }
    const fs::path file(path_);
    file_ = file.filename().string();
    folder_ = file.has_parent_path() ? file.parent_path().string() : ".";
}

bool ConfigWatch::follow(const std::string& folder) {
    return ::inotify_add_watch(descriptor_.native_handle(), folder.c_str(), kEvents) >= 0;
}

/// Those in it too: load() reads one level down. A folder that is followed already stays as it is.
void ConfigWatch::follow_folders() {
    if (!file_.empty()) return;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder_, error)) {
        std::error_code ignored;
        if (entry.is_directory(ignored)) (void)follow(entry.path().string());
    }
}

api::Result<void> ConfigWatch::start() {
    const int fd = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    const auto failed = [this] {
        return api::fail(api::ErrorCode::kSystem, "following the configuration's folder",
                         folder_ + ": " + std::strerror(errno));
    };
    if (fd < 0) return failed();
    descriptor_.assign(fd);
    if (!follow(folder_)) return failed();
    follow_folders();
    read();
    return {};
}

void ConfigWatch::stop() {
    boost::system::error_code ignored;
    descriptor_.close(ignored);
    quiet_.cancel();
}

bool ConfigWatch::counts(const std::string& name) const {
    if (!file_.empty()) return name == file_;
    // As load(): a folder is given without an ending, and editors' files begin with a dot.
    return !name.starts_with('.') && (name.ends_with(".toml") || name.find('.') == std::string::npos);
}

void ConfigWatch::read() {
    descriptor_.async_read_some(boost::asio::buffer(buffer_),
                                [this](const boost::system::error_code& ec, std::size_t size) {
                                    if (ec) return;
                                    on_events(size);
                                    read();
                                });
}

void ConfigWatch::on_events(std::size_t size) {
    bool any = false;
    for (std::size_t at = 0; at + sizeof(inotify_event) <= size;) {
        inotify_event event{};
        std::memcpy(&event, buffer_.data() + at, sizeof event);
        const char* name = buffer_.data() + at + sizeof event;
        // Overflow: something has changed, it is not known what.
        any |= (event.mask & IN_Q_OVERFLOW) != 0;
        if (event.len > 0) any |= counts(std::string(name, ::strnlen(name, event.len)));
        at += sizeof event + event.len;
    }
    if (!any) return;
    follow_folders();
    quiet_.expires_after(kQuiet);
    quiet_.async_wait([this](const boost::system::error_code& later) {
        if (!later) changed_();
    });
}

}  // namespace detour::app
