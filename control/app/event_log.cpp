#include "control/app/event_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "control/api/json.h"

namespace detour::control {

namespace {

constexpr std::chrono::seconds kLastWords{2};

/// events.ndjson, and behind it events.1.ndjson (newer) … events.N.ndjson (older).
std::string file_name(const std::string& folder, std::size_t age) {
    return age == 0 ? folder + "/events.ndjson" : fmt::format("{}/events.{}.ndjson", folder, age);
}

/// The file that lines go to. Used by the writing thread alone.
class LogFile {
  public:
    LogFile(std::string folder, std::size_t limit, std::size_t files)
        : folder_(std::move(folder)), limit_(limit), files_(std::max<std::size_t>(files, 1)) {}
    ~LogFile() { close(); }
    LogFile(const LogFile&) = delete;
    LogFile& operator=(const LogFile&) = delete;

    [[nodiscard]] api::Result<void> open() {
        const std::string name = file_name(folder_, 0);
        descriptor_ = ::open(name.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (descriptor_ < 0) {
            return api::fail(api::ErrorCode::kSystem, "opening the event log",
                             fmt::format("{}: {}", name, std::strerror(errno)));
        }
        struct stat info {};
        size_ = ::fstat(descriptor_, &info) == 0 ? static_cast<std::size_t>(info.st_size) : 0;
        char last = '\n';
        if (size_ > 0)
            torn_ = ::pread(descriptor_, &last, 1, static_cast<off_t>(size_ - 1)) == 1 && last != '\n';
        return {};
    }
    /// False: the line is not in the file.
    [[nodiscard]] bool write(const std::string& line) {
        if (size_ + line.size() > limit_ && size_ > 0) rotate();
        if (descriptor_ < 0 && !open()) return false;
        // A line that a full disk cut short is ended first, so that the next one can be read.
        const std::string text = torn_ ? "\n" + line : line;
        const ssize_t written = ::write(descriptor_, text.data(), text.size());
        if (written > 0) size_ += static_cast<std::size_t>(written);
        const bool whole = written == static_cast<ssize_t>(text.size());
        if (written > 0) torn_ = !whole;
        return whole;
    }

  private:
    void close() {
        if (descriptor_ >= 0) ::close(descriptor_);
        descriptor_ = -1;
    }
    void rotate() {
        close();
        for (std::size_t age = files_ - 1; age > 0; --age) {
            ::rename(file_name(folder_, age - 1).c_str(), file_name(folder_, age).c_str());
        }
        if (files_ == 1) ::unlink(file_name(folder_, 0).c_str());
        size_ = 0;
        torn_ = false;
    }

    std::string folder_;
    std::size_t limit_;
    std::size_t files_;
    int descriptor_ = -1;
    std::size_t size_ = 0;
    bool torn_ = false;
};

/// The thread that waits for the disk, so that the loop doesn't.
class Writer {
  public:
    Writer(std::unique_ptr<LogFile> file, std::size_t limit)
        : file_(std::move(file)), limit_(limit), thread_([this] { run(); }) {}
    ~Writer() {
        {
            const std::lock_guard lock(mutex_);
            deadline_ = std::chrono::steady_clock::now() + kLastWords;
        }
        work_.notify_one();
        thread_.join();
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    void push(std::string line) {
        {
            const std::lock_guard lock(mutex_);
            if (lines_.size() >= limit_) {
                ++lost_;
                return;
            }
            lines_.push_back(std::move(line));
        }
        work_.notify_one();
    }
    void flush() {
        std::unique_lock lock(mutex_);
        done_.wait(lock, [this] { return lines_.empty() && !writing_; });
    }
    [[nodiscard]] std::uint64_t lost() const {
        const std::lock_guard lock(mutex_);
        return lost_;
    }

  private:
    [[nodiscard]] bool ends() const {
        return deadline_ && (lines_.empty() || std::chrono::steady_clock::now() > *deadline_);
    }
    void run() {
        std::unique_lock lock(mutex_);
        while (true) {
            work_.wait(lock, [this] { return !lines_.empty() || deadline_; });
            if (ends()) return;
            const std::string line = std::move(lines_.front());
            lines_.pop_front();
            writing_ = true;
            lock.unlock();
            const bool written = file_->write(line);
            lock.lock();
            writing_ = false;
            if (!written) ++lost_;
            if (lines_.empty()) done_.notify_all();
        }
    }

    std::unique_ptr<LogFile> file_;
    const std::size_t limit_;
    mutable std::mutex mutex_;
    std::condition_variable work_;
    std::condition_variable done_;
    std::deque<std::string> lines_;  // guarded by mutex_, as all below
    std::uint64_t lost_ = 0;
    bool writing_ = false;
    std::optional<std::chrono::steady_clock::time_point> deadline_;
    std::thread thread_;  // last: it uses the others
};

Time now() {
    return std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now());
}

/// The newest `ring` events of the files, oldest first.
std::deque<Event> read_back(const EventLogOptions& options) {
    std::deque<Event> events;
    for (std::size_t age = options.files; age-- > 0;) {
        std::ifstream file(file_name(options.folder, age));
        for (std::string line; std::getline(file, line);) {
            auto event = from_json<Event>(line);
            // Only what grows: a file copied back by hand must not confuse those who follow.
            if (!event || (!events.empty() && event->sequence <= events.back().sequence)) continue;
            events.push_back(std::move(*event));
            if (events.size() > options.ring) events.pop_front();
        }
    }
    return events;
}

}  // namespace

struct EventLog::Impl {
    explicit Impl(std::size_t ring_in) : ring(std::max<std::size_t>(ring_in, 1)) {}
    std::size_t ring;
    std::deque<Event> events;
    std::uint64_t last = 0;
    std::unique_ptr<Writer> writer;
};

EventLog::EventLog(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EventLog::EventLog(EventLog&&) noexcept = default;
EventLog& EventLog::operator=(EventLog&&) noexcept = default;
EventLog::~EventLog() = default;

api::Result<EventLog> EventLog::open(EventLogOptions options) {
    auto impl = std::make_unique<Impl>(options.ring);
    if (options.folder.empty()) return EventLog(std::move(impl));
    std::error_code error;
    std::filesystem::create_directories(options.folder, error);
    if (error) {
        return api::fail(api::ErrorCode::kSystem, "opening the event log",
                         fmt::format("{}: {}", options.folder, error.message()));
    }
    impl->events = read_back(options);
    if (!impl->events.empty()) impl->last = impl->events.back().sequence;
    auto file = std::make_unique<LogFile>(options.folder, options.file_bytes, options.files);
    if (auto opened = file->open(); !opened) return tl::unexpected(opened.error());
    impl->writer = std::make_unique<Writer>(std::move(file), options.queue);
    return EventLog(std::move(impl));
}

std::uint64_t EventLog::append(Event event) {
    event.sequence = ++impl_->last;
    if (event.time == Time{}) event.time = now();
    if (impl_->writer) impl_->writer->push(to_json(event) + "\n");
    impl_->events.push_back(std::move(event));
    if (impl_->events.size() > impl_->ring) impl_->events.pop_front();
    return impl_->last;
}

EventPage EventLog::page(std::optional<std::uint64_t> since, std::size_t limit) const {
    const auto& events = impl_->events;
    EventPage result{
        .first = events.empty() ? 0 : events.front().sequence, .last = impl_->last, .events = {}};
    auto begin = events.begin();
    if (!since) {
        begin = events.end() - static_cast<std::ptrdiff_t>(std::min(limit, events.size()));
    } else if (*since <= impl_->last) {
        // Beyond `last` is a follower of a log that was lost: it is shown all there is.
        begin = std::ranges::upper_bound(events, *since, {}, &Event::sequence);
    }
    const auto count = std::min(limit, static_cast<std::size_t>(events.end() - begin));
    result.events.assign(begin, begin + static_cast<std::ptrdiff_t>(count));
    return result;
}

std::uint64_t EventLog::last() const noexcept {
    return impl_->last;
}

std::uint64_t EventLog::not_written() const noexcept {
    return impl_->writer ? impl_->writer->lost() : 0;
}

void EventLog::flush() {
    if (impl_->writer) impl_->writer->flush();
}

}  // namespace detour::control
