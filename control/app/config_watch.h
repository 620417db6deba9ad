// Notices when the configuration's files change, so that they are read anew without being asked.
//
// Follows the folder of the file, or the folder given and those in it, by inotify: editors and deployments
// replace files, so the file itself is not followed. Calls once when nothing has changed for kQuiet. Thread:
// the io_context's. `io` must outlive it.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <string>

#include "dataplane/api/result.h"

namespace detour::app {

class ConfigWatch {
  public:
    static constexpr std::chrono::milliseconds kQuiet{500};

    ConfigWatch(boost::asio::io_context& io, std::string path, std::function<void()> changed);
    /// Error kSystem: inotify is refused, or the folder can't be followed.
    [[nodiscard]] api::Result<void> start();
    void stop();

  private:
    [[nodiscard]] bool follow(const std::string& folder);
    void follow_folders();
    void read();
    void on_events(std::size_t size);
    /// Of an event's name: it may change what load() reads.
    [[nodiscard]] bool counts(const std::string& name) const;

    std::string path_;
    std::string file_;  ///< empty: a folder is followed
    std::string folder_;
    std::function<void()> changed_;
    boost::asio::posix::stream_descriptor descriptor_;
    boost::asio::steady_timer quiet_;
    std::array<char, 4096> buffer_{};
};

}  // namespace detour::app
